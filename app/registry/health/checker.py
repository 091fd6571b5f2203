"""Periodic health checks of the instances that this replica owns."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic

import structlog

from app.registry.health.probe import Prober, ProbeResult
from app.registry.health.state import ProbedHealth, health_after_probe
from app.registry.instances.port import InstanceStore
from app.registry.model import InstanceKey, InstanceRow
from app.registry.view import RegistryView
from app.telemetry import PROBES

MAX_PARALLEL_PROBES = 64
_LOOK_SECONDS = 0.2
_JITTER = 0.1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The last probe of an instance by this replica."""

    at: datetime
    probe: ProbeResult


class HealthChecker:
    def __init__(
        self, rows: InstanceStore, view: RegistryView, prober: Prober, replica: str, interval: float
    ) -> None:
        self._rows = rows
        self._view = view
        self._prober = prober
        self._replica = replica
        self._interval = interval
        self._health: dict[InstanceKey, tuple[int, ProbedHealth]] = {}  # with its epoch
        self._next: dict[InstanceKey, float] = {}
        self._under_way: dict[InstanceKey, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MAX_PARALLEL_PROBES)
        self.last: dict[InstanceKey, HealthCheck] = {}

    async def run(self) -> None:
        """Check the instances of this replica until cancelled."""
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
                # A new instance is checked at once; adopted ones are spread over the interval.
                spread = 0 if row.health == "starting" else self._interval
                self._next[key] = now + spread * random.random()  # noqa: S311 - jitter
            if self._next[key] <= now:
                self._next[key] = now + self._interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
                task = asyncio.create_task(self._check_and_record(row))
                self._under_way[key] = task
                task.add_done_callback(partial(self._on_check_end, key))

    def _on_check_end(self, key: InstanceKey, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not task.cancelled() and isinstance(task.exception(), Exception):
            # Most likely the store is unavailable: the next probe records the result.
            _log.warning("check_not_noted", service=key[0], reason=str(task.exception()))

    def _is_ours(self, row: InstanceRow) -> bool:
        return row.owner == self._replica and row.lease == "probe" and row.state == "registered"

    async def _check_and_record(self, row: InstanceRow) -> None:
        async with self._slots:
            check = await self._probe(row)
        await self._record(row, succeeded=check.probe.is_healthy)

    async def check(self, rows: Sequence[InstanceRow]) -> Sequence[tuple[InstanceRow, HealthCheck]]:
        """Check instances now, of any owner; only the owner records the result as their health."""

        async def one(row: InstanceRow) -> tuple[InstanceRow, HealthCheck]:
            async with self._slots:
                return row, await self._probe(row)

        checks = await asyncio.gather(*(one(row) for row in rows))
        for row, check in checks:
            if self._is_ours(row):
                await self._record(row, succeeded=check.probe.is_healthy)
        return checks

    async def _probe(self, row: InstanceRow) -> HealthCheck:
        instance = self._view.instance(row)
        url = None if instance is None else instance.health_check_url
        if url is None:
            probe = ProbeResult(is_healthy=False, reason="has no health_check_url", seconds=0.0)
        else:
            probe = await self._prober.probe(url)
        PROBES.labels("healthy" if probe.is_healthy else "unhealthy").inc()
        check = HealthCheck(datetime.now(UTC), probe)
        self.last[row.key] = check
        return check

    async def _record(self, row: InstanceRow, *, succeeded: bool) -> None:
        """Update the health by one more probe; raises RegistryUnavailable."""
        epoch, health = self._health.get(row.key, (0, ProbedHealth()))
        if epoch != row.epoch:
            known = row.health if row.health in {"starting", "up", "down"} else "up"
            health = ProbedHealth(known)
        health = health_after_probe(health, succeeded=succeeded)
        self._health[row.key] = row.epoch, health
        current = self._view.row(*row.key)
        if current is None or current.epoch != row.epoch or current.health == health.status:
            return
        changed = await self._rows.set_health({current.token: health.status})
        self._view.learn(changed or (await self._rows.rows_by_key([row.key])).values())
