"""Moves releases on: one look a second over all replicas, and at once after a refusal."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import structlog

from app.changes.log.port import Maintenance
from app.configs.documents.reader import DocumentReader
from app.configs.errors import WriteConflict
from app.configs.model import DocumentId
from app.configs.services.answers import changed_below
from app.errors import OutcomeUnknown, PilothouseError, Unavailable
from app.proposals.releases.errors import ReleaseEnded, ReleaseMoved
from app.proposals.releases.finish import ReleaseFinisher, actor_of
from app.proposals.releases.health import Instances, health_by_arm, members_of_step
from app.proposals.releases.model import Move, Origin, Release
from app.proposals.releases.prometheus import Queries
from app.proposals.releases.readers.model import ReportCounts
from app.proposals.releases.readers.port import ReaderStore
from app.proposals.releases.service import ReleaseService
from pilothouse_core.releases.control import Decision, Observations, next_action
from pilothouse_core.releases.plan import Health, Prometheus

LOOK_SECONDS: Final = 1.0
_QUERY_SECONDS: Final = 5.0  # between two questions to Prometheus
OVERTAKEN: Final = "overtaken"
_NO_REPORTS: Final = ReportCounts(0, 0)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ReleaseController:
    """Any number of them may look at once: each move is a compare-and-set."""

    service: ReleaseService
    finisher: ReleaseFinisher
    readers: ReaderStore
    instances: Instances
    queries: Queries
    reader: DocumentReader
    maintenance: Maintenance
    woken: asyncio.Event
    _answers: dict[Prometheus, tuple[float, bool | None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Look at all releases, again and again; raises Unavailable."""
        while True:
            is_woken = await self._wait()
            await self.look(is_woken=is_woken)

    async def _wait(self) -> bool:
        """Return whether this controller was woken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self.woken.wait()
        is_woken = self.woken.is_set()
        self.woken.clear()
        return is_woken

    async def look(self, *, is_woken: bool = False) -> None:
        """Do for every release what comes next; only those whose turn is here, unless woken."""
        now, releases = await self.service.store.active()
        if not releases:
            return
        counts = await self.readers.report_counts([release.id for release in releases])
        for release in releases:
            every = LOOK_SECONDS * 0.9
            if is_woken or await self.maintenance.acquire_turn(f"release/{release.id}", every):
                observed = await self._observe(release, counts.get(release.id, _NO_REPORTS))
                with suppress(ReleaseMoved, ReleaseEnded):  # by another controller, or by hand
                    await self._act(release, next_action(release.progress, now, observed))

    async def _observe(self, release: Release, counts: ReportCounts) -> Observations:
        signals = release.plan.signals
        candidate = stable = None
        if any(isinstance(signal, Health) for signal in signals):
            health = self.instances.health(release.subject)
            candidate, stable = health_by_arm(release, health)
        queries: dict[Prometheus, bool] = {}
        for signal in signals:
            if isinstance(signal, Prometheus):
                above = await self._ask(signal)
                if above is not None:
                    queries[signal] = above
        return Observations(counts.refused, candidate, stable, queries)

    async def _ask(self, signal: Prometheus) -> bool | None:
        asked_at, above = self._answers.get(signal, (0.0, None))
        if monotonic() - asked_at >= _QUERY_SECONDS:
            above = await self.queries.is_above(signal)
            self._answers[signal] = monotonic(), above
        return above

    async def _act(self, release: Release, decision: Decision) -> None:
        origin = Origin(actor_of(release), actor_of(release), comment=_reason(release, decision))
        if release.state == "finishing":
            await self._finish(release)
        elif decision.action == "abort":
            await self.service.abort(release.id, origin, decision.signal)
        elif await self._is_overtaken(release):
            await self.service.abort(release.id, origin, OVERTAKEN)
        elif decision.action in ("advance", "finish"):
            moved = await self.service.move(self.service.next_move(release), origin)
            if moved.state == "finishing":
                await self._finish(moved)
        else:
            await self._replace_members(release, origin)

    async def _finish(self, release: Release) -> None:
        try:
            await self.finisher.finish(release)
        except (Unavailable, OutcomeUnknown, WriteConflict) as error:
            _log.warning("release_end_waits", release=release.id, reason=str(error))

    async def _is_overtaken(self, release: Release) -> bool:
        """Whether a key of the release was changed since it was started, as in Vault itself."""
        document = DocumentId(release.subject.environment, release.subject.service)
        pointer = self.reader.pointer(document)
        if release.subject.kind != "config" or pointer is None or pointer.version <= release.base:
            return False
        try:
            body = await self.reader.current(document)
        except PilothouseError:  # the store is unavailable, or has what is no document of ours
            return False
        if body is None:
            return False
        changes = (changed_below(body, key) for key in release.keys)
        return any(change is not None and change[0] > release.base for change in changes)

    async def _replace_members(self, release: Release, origin: Origin) -> None:
        """Give the candidate to another instance where one of those that had it has left."""
        instances: Mapping[str, bool] = self.instances.health(release.subject)
        members = members_of_step(
            release.id, release.plan, release.step, release.members, instances
        )
        if members is not None and members != release.members:
            move = Move(release.id, release.version, release.state, release.step, members=members)
            await self.service.move(move, origin)


def _reason(release: Release, decision: Decision) -> str:
    if decision.action == "abort":
        return f"aborted by the signal {decision.signal}"
    return f"step {release.step + 1} of {release.plan.last_step + 1} is over"
