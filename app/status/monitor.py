"""Monitors the servers behind the ports, for /ready, /health and `X-Stale`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, Protocol

import structlog

from app.changes.follower import Follower
from app.errors import Unavailable
from app.status.schemas import PortStatus
from app.telemetry import LOG_LAST_CONTACT, LOG_REVISION

PROBE_SECONDS = 0.5
PING_SECONDS = 0.9
_QUIET_SECONDS = 2.0
_log = structlog.get_logger(__name__)


class Pingable(Protocol):
    async def ping(self) -> None:
        """Return if the server behind the port answers, raise Unavailable if not."""
        ...


@dataclass(frozen=True, slots=True)
class MonitoredPort:
    """One port: the adapter's name and what to ping."""

    adapter: str
    port: Pingable
    serves_reads: bool = True  # whether responses grow stale while it is unavailable
    seconds: float = PING_SECONDS  # to answer; most ports give up earlier by themselves
    write_failure: Callable[[], str | None] = lambda: None  # why writes fail, though it answers


@dataclass
class _Observation:
    status: PortStatus
    answered: float | None = None


@dataclass
class HealthMonitor:
    monitored: Mapping[str, MonitoredPort]
    follower: Follower
    serving: bool = True
    is_leaving: bool = False
    _last: dict[str, _Observation] = field(default_factory=dict)
    _logged: dict[str, set[str]] = field(default_factory=dict)  # reasons, of this outage

    async def run(self) -> None:
        """Probe every port periodically, independently of the others' time-outs."""
        await asyncio.gather(self._measure(), *map(self._watch, self.monitored))

    async def _measure(self) -> None:
        while True:
            LOG_REVISION.set(self.follower.revision)
            LOG_LAST_CONTACT.set(self.follower.silence)
            await asyncio.sleep(PROBE_SECONDS)

    async def _watch(self, name: str) -> None:
        while True:
            await self._probe(name)
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, name: str) -> None:
        watched, started = self.monitored[name], monotonic()
        try:
            async with asyncio.timeout(watched.seconds):
                await watched.port.ping()
        except (Unavailable, TimeoutError) as error:
            detail = str(error) or "no answer in time"
            status = PortStatus(name, watched.adapter, "down", None, detail)
            answered = self._last[name].answered if name in self._last else None
        else:
            answered = monotonic()
            latency = round((answered - started) * 1000, 2)
            failure = watched.write_failure()
            state: Literal["up", "degraded"] = "up" if failure is None else "degraded"
            status = PortStatus(name, watched.adapter, state, latency, failure)
        self._last[name] = _Observation(status, answered)
        self._log_change(name, watched.adapter, status.detail)

    def _log_change(self, name: str, adapter: str, detail: str | None) -> None:
        """Log when a port goes down, once for each reason, and when it is up again."""
        logged = self._logged.setdefault(name, set())
        if detail is None:
            if logged:
                _log.info("port_up", port=name, adapter=adapter)
            logged.clear()
        elif detail not in logged:
            logged.add(detail)
            _log.warning("port_down", port=name, adapter=adapter, reason=detail)

    async def ports(self) -> list[PortStatus]:
        return [
            self._last[name].status
            if name in self._last
            else PortStatus(name, watched.adapter, "down", None, "not probed yet")
            for name, watched in self.monitored.items()
        ]

    def stale_seconds(self) -> int | None:
        """Return for how long the log or a port has not answered, None if all is well."""
        silence = self.follower.silence
        ages = [silence] if silence > _QUIET_SECONDS or not self.follower.is_following else []
        now = monotonic()
        ages += [
            now - last.answered
            for name, last in self._last.items()
            if last.status.status == "down" and last.answered is not None
            if self.monitored[name].serves_reads
        ]
        return int(max(ages)) if ages else None
