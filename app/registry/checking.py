"""Health checks of the instances this replica keeps: each in its interval, not too many at once."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic

import structlog

from app.registry.health import Health, after
from app.registry.probing import Probe, Prober
from app.registry.rows import InstanceRows, Key, Row
from app.registry.view import View
from app.telemetry import PROBES

AT_ONCE = 64
_LOOK_SECONDS = 0.2
_JITTER = 0.1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """The last probe of an instance by this replica."""

    at: datetime
    probe: Probe


class Checker:
    def __init__(
        self, rows: InstanceRows, view: View, prober: Prober, replica: str, interval: float
    ) -> None:
        self._rows = rows
        self._view = view
        self._prober = prober
        self._replica = replica
        self._interval = interval
        self._health: dict[Key, tuple[int, Health]] = {}  # with the epoch it is of
        self._next: dict[Key, float] = {}
        self._under_way: dict[Key, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self.last: dict[Key, Check] = {}

    async def keep(self) -> None:
        """Check for ever what this replica keeps."""
        try:
            while True:
                self._start_due()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in self._under_way.values():
                task.cancel()

    def _start_due(self) -> None:
        now = monotonic()
        own = {row.key: row for row in self._view.rows() if self._is_ours(row)}
        for known in (self._next, self._health, self.last):
            for key in known.keys() - own.keys():
                known.pop(key, None)
        for key, row in own.items():
            if key in self._under_way:
                continue
            if key not in self._next:
                # One that is new is checked at once; adopted ones not all in the same moment.
                spread = 0 if row.health == "starting" else self._interval
                self._next[key] = now + spread * random.random()  # noqa: S311 - jitter
            if self._next[key] <= now:
                self._next[key] = now + self._interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
                task = asyncio.create_task(self._kept(row))
                self._under_way[key] = task
                task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and isinstance(task.exception(), Exception):
            # The store is away, most likely: the next probe says the same again.
            _log.warning("check_not_noted", service=key[0], reason=str(task.exception()))

    def _is_ours(self, row: Row) -> bool:
        return row.owner == self._replica and row.lease == "probe" and row.state == "registered"

    async def _kept(self, row: Row) -> None:
        async with self._room:
            check = await self._checked(row)
        await self._note(row, succeeded=check.probe.is_healthy)

    async def check(self, rows: Sequence[Row]) -> Sequence[tuple[Row, Check]]:
        """Check instances now, whoever keeps them; only their keeper judges them by it."""

        async def one(row: Row) -> tuple[Row, Check]:
            async with self._room:
                return row, await self._checked(row)

        found = await asyncio.gather(*(one(row) for row in rows))
        for row, check in found:
            if self._is_ours(row):
                await self._note(row, succeeded=check.probe.is_healthy)
        return found

    async def _checked(self, row: Row) -> Check:
        instance = self._view.instance(row)
        url = None if instance is None else instance.health_check_url
        if url is None:
            probe = Probe(is_healthy=False, reason="has no health_check_url", seconds=0.0)
        else:
            probe = await self._prober.probe(url)
        PROBES.labels("healthy" if probe.is_healthy else "unhealthy").inc()
        check = Check(datetime.now(UTC), probe)
        self.last[row.key] = check
        return check

    async def _note(self, row: Row, *, succeeded: bool) -> None:
        """Judge by one more probe; raises RegistryUnavailable, and the next probe says it again."""
        epoch, health = self._health.get(row.key, (0, Health()))
        if epoch != row.epoch:
            known = row.health if row.health in {"starting", "up", "down"} else "up"
            health = Health(known)
        health = after(health, succeeded=succeeded)
        self._health[row.key] = row.epoch, health
        current = self._view.row(*row.key)
        if current is None or current.epoch != row.epoch or current.health == health.status:
            return
        changed = await self._rows.judge({current.tag: health.status})
        self._view.learn(changed or (await self._rows.current([row.key])).values())
