"""The releases that have not ended, in memory on every replica: what readers are answered by."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.changes.follower import Follower
from app.changes.model import Change
from app.configs.documents.candidates import ReleaseArm, ReleasedKeys
from app.configs.documents.edits import Edit
from app.configs.model import DocumentId
from app.proposals.releases.bodies import CandidateBodies
from app.proposals.releases.errors import ReleasesUnavailable
from app.proposals.releases.model import KIND, Release
from app.proposals.releases.readers.recorder import ReadRecorder
from app.proposals.releases.store.port import ReleaseStore
from app.telemetry import RELEASE_STEP

_PAGE = 200
_ENDED_KEPT = 50


@dataclass(frozen=True, slots=True)
class _Released:
    """The release of a layer, and the arms that it is answered with."""

    release: Release
    candidate: ReleaseArm
    stable: ReleaseArm
    keys: ReleasedKeys

    @classmethod
    def of(cls, release: Release) -> "_Released":
        step, subject = release.step, release.subject
        layer = DocumentId(subject.environment, subject.service)
        candidate, stable = (
            ReleaseArm(release.id, arm, step, layer, f"{release.id}/{arm}/{step}")
            for arm in ("candidate", "stable")
        )
        return cls(release, candidate, stable, ReleasedKeys(release.id, release.keys))


class ReleaseView:
    """Implements `app.configs.documents.candidates.Candidates`.

    Before a change of a release is visible, it is read from the store. Without the store the last
    known step stays in force.
    """

    def __init__(
        self,
        store: ReleaseStore,
        bodies: CandidateBodies,
        recorder: ReadRecorder,
        follower: Follower,
    ) -> None:
        self.generation = 0
        self._store = store
        self._bodies = bodies
        self._recorder = recorder
        self._follower = follower
        self._by_id: dict[str, Release] = {}
        self._layers: dict[tuple[str, str], _Released] = {}
        self._edits: dict[str, Edit] = {}
        self._ended: deque[str] = deque()  # those whose edits are still kept
        self._after = 0
        self._is_read = False
        self._refreshing = asyncio.Lock()
        self._reading = asyncio.Lock()
        follower.listeners.before_apply(self.prepare)
        follower.listeners.on_log_replaced(self._forget)

    @property
    def active(self) -> Sequence[Release]:
        """All releases that have not ended, as far as this replica has followed."""
        return list(self._by_id.values())

    def arm(self, document: DocumentId, instance: str) -> ReleaseArm | None:
        released = self._layers.get((document.environment, document.service))
        if released is None:
            if not self._is_read:
                self._require_none(document)
            return None
        is_candidate = released.release.arm(instance) == "candidate"
        return released.candidate if is_candidate else released.stable

    async def edit(self, release: str) -> Edit:
        edit = self._edits.get(release)
        if edit is not None:
            return edit
        async with self._reading:  # by the first of many readers
            edit = self._edits.get(release)
            if edit is None:
                known = self._by_id.get(release)
                if known is None:
                    raise ReleasesUnavailable(f"the release {release} has just ended: read again")
                edit = await self._bodies.read(known)
                if release in self._by_id:
                    self._edits[release] = edit
            return edit

    def remember_edit(self, release: str, edit: Edit) -> None:
        """Keep what a release changes that was started here, so that it need not be read."""
        self._edits[release] = edit

    def released_keys(self, document: DocumentId) -> ReleasedKeys | None:
        if document.user is not None:
            return None
        released = self._layers.get((document.environment, document.service))
        return None if released is None else released.keys

    def record_read(
        self, document: DocumentId, instance: str, tag: str, revision: int, arm: ReleaseArm | None
    ) -> None:
        self._recorder.record(document.environment, document.service, instance, tag, revision, arm)

    def describe(self, change: Change) -> Mapping[str, object]:
        """Return what the event of a change of a release has for those who read with it.

        `share` is in buckets of 100,000; None where instances are counted. Of other changes, {}.
        """
        if change.entity.kind != KIND:
            return {}
        release_id = change.entity.key.rpartition("/")[2]
        release = self._by_id.get(release_id)
        if release is None:
            return {"release": {"id": release_id, "state": "ended", "step": None, "share": 0}}
        return {
            "release": {
                "id": release_id,
                "state": release.state,
                "step": release.step,
                "share": release.share,
            }
        }

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read changes from the store if releases are among what has changed."""
        if KIND in kinds or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read changes from the store; raises ReleasesUnavailable."""
        async with self._refreshing:
            if not self._is_read:
                _, releases = await self._store.active()
                self._apply(releases)
                self._is_read = True
                return
            while True:
                page = await self._store.changed_after(self._after, _PAGE)
                self._apply(page)
                if len(page) < _PAGE:
                    return

    def _apply(self, releases: Sequence[Release]) -> None:
        for release in releases:
            self._after = max(self._after, release.revision)
            if release.is_active:
                self._put(release)
            elif release.id in self._by_id:
                self._remove(release)
        if releases:
            self.generation += 1

    def _put(self, release: Release) -> None:
        self._by_id[release.id] = release
        RELEASE_STEP.labels(release.id).set(release.step)
        if release.subject.kind == "config":
            layer = release.subject.environment, release.subject.service
            self._layers[layer] = _Released.of(release)

    def _remove(self, release: Release) -> None:
        del self._by_id[release.id]
        # Requests under way that have begun before may still need what it changed.
        self._ended.append(release.id)
        if len(self._ended) > _ENDED_KEPT:
            self._edits.pop(self._ended.popleft(), None)
        RELEASE_STEP.remove(release.id)
        layer = release.subject.environment, release.subject.service
        released = self._layers.get(layer)
        if released is not None and released.release.id == release.id:
            del self._layers[layer]

    def _forget(self) -> None:
        """Read everything again: what is known may be of another log."""
        for release in self.active:
            self._remove(release)
        self._after, self._is_read = 0, False
        self.generation += 1

    def _require_none(self, document: DocumentId) -> None:
        """Raise ReleasesUnavailable if a release of a layer is known of by its name only.

        So it is after a start without the database, from what was kept of the log.
        """
        prefix = f"{document.service}/"
        for pointer in self._follower.pointers.values():
            entity = pointer.entity
            is_there = entity.environment == document.environment and entity.kind == KIND
            if is_there and entity.name.startswith(prefix):
                raise ReleasesUnavailable(
                    "the releases have not been read since this replica started"
                )
