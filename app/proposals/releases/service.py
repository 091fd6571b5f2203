"""The use cases of releases: starting one, and moving it by hand or by what was observed."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.changes.errors import LogUnavailable
from app.configs.documents.edits import Edit
from app.configs.documents.reader import DocumentReader
from app.configs.model import BASE, SHARED, DocumentId
from app.proposals.releases.errors import (
    NotReleasable,
    ReleaseEnded,
    ReleaseMoved,
)
from app.proposals.releases.health import Instances, members_of_step
from app.proposals.releases.model import (
    Item,
    Move,
    NewRelease,
    Origin,
    Release,
    Selection,
    Subject,
)
from app.proposals.releases.store.port import ReleaseStore
from app.telemetry import RELEASE_ABORTS
from app.web.conditional import ANY_VERSION, IfMatch
from pilothouse_core.diff import diff
from pilothouse_core.releases.plan import Plan

_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
_ID_LENGTH: Final = 10
_ATTEMPTS: Final = 20
_HAND_MOVED: Final = frozenset({"running", "held"})
MANUAL: Final = "manual"
ALERT: Final = "alert"
_PAGE: Final = 200
_MOST_PAGES: Final = 50  # that one request reads of what its caller may not see


def new_release_id() -> str:
    return "r-" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


@dataclass(frozen=True, slots=True)
class ReleaseService:
    """`wake` lets the controllers of this replica look at all releases at once.

    `remember_edit` keeps what was started here for the readers of this replica, and `follow`
    catches up with the log, so that they are answered by what was just written.
    """

    store: ReleaseStore
    reader: DocumentReader
    instances: Instances
    wake: Callable[[], None]
    remember_edit: Callable[[str, Edit], None]
    follow: Callable[[], Awaitable[None]]

    async def start(
        self,
        document: DocumentId,
        edit: Edit,
        plan: Plan,
        origin: Origin,
        *,
        item: Item | None = None,
        release_id: str | None = None,
    ) -> Release:
        """Begin to give `edit`, with its secrets encrypted, to instances of a service.

        `document` is the layer of the service that it changes.

        Starting again with the same `release_id` returns the release as it is. Raises
        NotReleasable, ReleaseRunning, TooManyReleases, ReleasesUnavailable, and what reading the
        document and applying the edit raise.
        """
        if document.user is not None or document.environment == BASE or document.service == SHARED:
            raise NotReleasable(f"{document} is not the layer of one service in one environment")
        base = await self.reader.current(document, with_secrets=True)
        draft = edit.apply(document, base)
        before = base.data if base is not None else {}
        changes = diff(before, before if draft.data is None else draft.data)
        if not changes:
            raise NotReleasable(f"it changes nothing in {document}")
        subject = Subject("config", document.environment, document.service)
        release = release_id or new_release_id()
        members = members_of_step(release, plan, 0, frozenset(), self._health(subject))
        started = await self.store.start(
            NewRelease(
                release,
                subject,
                plan,
                tuple(sorted({*changes.added, *changes.removed, *changes.changed})),
                base.version if base is not None else 0,
                item,
                tuple(sorted(members or ())),
            ),
            origin,
        )
        if started.is_active:
            self.remember_edit(started.id, edit)
        return await self._follow_log(started)

    async def page(
        self,
        selection: Selection,
        after: tuple[datetime, str] | None,
        limit: int,
        is_visible: Callable[[Release], bool],
    ) -> tuple[Sequence[Release], bool]:
        """Return the first visible releases after a place, and whether there may be more."""
        visible: list[Release] = []
        for _ in range(_MOST_PAGES):
            rows = await self.store.page(selection, after, _PAGE)
            visible += (row for row in rows if is_visible(row))
            if len(visible) > limit:
                return visible[:limit], True
            if len(rows) < _PAGE:
                return visible, False
            after = rows[-1].started_at, rows[-1].id
        return visible, True

    async def advance(
        self, release: str, origin: Origin, expected: IfMatch = ANY_VERSION
    ) -> Release:
        """Take the next step now; after the last one the release is written."""
        current = await self._movable(release, expected)
        return await self.move(self.next_move(current), origin)

    async def move(self, move: Move, origin: Origin) -> Release:
        """Write a move; raises as `ReleaseStore.move`."""
        return await self._follow_log(await self.store.move(move, origin))

    async def _follow_log(self, release: Release) -> Release:
        self.wake()
        with suppress(LogUnavailable):
            await self.follow()
        return release

    def next_move(self, release: Release) -> Move:
        """Return the move to the next step, or to the end."""
        if release.step >= release.plan.last_step:
            return Move(release.id, release.version, "finishing", release.step)
        step = release.step + 1
        members = members_of_step(
            release.id, release.plan, step, release.members, self._health(release.subject)
        )
        return Move(release.id, release.version, "running", step, restarts=True, members=members)

    async def hold(self, release: str, origin: Origin, expected: IfMatch = ANY_VERSION) -> Release:
        """Stay at the step until it is resumed; signals still abort it."""
        current = await self._movable(release, expected)
        if current.state == "held":
            return current
        return await self.move(Move(release, current.version, "held", current.step), origin)

    async def resume(
        self, release: str, origin: Origin, expected: IfMatch = ANY_VERSION
    ) -> Release:
        """Continue; the time of the step begins again."""
        current = await self._movable(release, expected)
        if current.state == "running":
            return current
        move = Move(release, current.version, "running", current.step, restarts=True)
        return await self.move(move, origin)

    async def abort(self, release: str, origin: Origin, signal: str = MANUAL) -> Release:
        """Take the candidate back from every instance, whatever step is taken at the same time.

        One that was aborted before stays as it is. Raises ReleaseEnded if it is done, or is being
        written.
        """
        for _ in range(_ATTEMPTS):
            current = await self.store.get(release)
            if current.state == "aborted":
                return current
            _require_movable(current)
            move = Move(release, current.version, "aborted", current.step, signal=signal)
            try:
                aborted = await self.move(move, origin)
            except (ReleaseMoved, ReleaseEnded):
                continue
            RELEASE_ABORTS.labels(signal).inc()
            return aborted
        raise ReleaseMoved(release, current.version)

    async def _movable(self, release: str, expected: IfMatch) -> Release:
        current = await self.store.get(release)
        if not expected.allows(current.version):
            raise ReleaseMoved(release, current.version)
        _require_movable(current)
        return current

    def _health(self, subject: Subject) -> Mapping[str, bool]:
        return self.instances.health(subject)


def _require_movable(release: Release) -> None:
    if release.state not in _HAND_MOVED:
        raise ReleaseEnded(release.id, release.state)
