"""Watches the servers behind the ports and answers for them in /ready, /health and `X-Stale`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from app.changes.follower import Follower
from app.changes.relay import Relay
from app.errors import Unavailable
from app.telemetry import LOG_LAST_CONTACT, LOG_REVISION
from app.web.health import PortStatus

LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 0.9
_QUIET_SECONDS = 2.0


class Pinged(Protocol):
    async def ping(self) -> None:
        """Return if the server behind the port answers, raise Unavailable if not."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """One port: the adapter's name and what to ask."""

    adapter: str
    port: Pinged
    serves_reads: bool = True  # whether answers grow stale while it is away


@dataclass
class _Last:
    status: PortStatus
    answered: float | None = None


@dataclass
class Vitals:
    watched: Mapping[str, Watched]
    follower: Follower
    version: str
    relay: Relay | None = None
    serving: bool = True
    _last: dict[str, _Last] = field(default_factory=dict)

    async def watch(self) -> None:
        """Look at every port for ever, all at once and apart from each other's time-outs."""
        while True:
            await asyncio.gather(*(self._look(name) for name in self.watched))
            LOG_REVISION.set(self.follower.revision)
            LOG_LAST_CONTACT.set(self.follower.silence)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, name: str) -> None:
        watched, started = self.watched[name], monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await watched.port.ping()
        except (Unavailable, TimeoutError) as error:
            detail = str(error) or "no answer in time"
            status = PortStatus(name, watched.adapter, "down", None, detail)
            answered = self._last[name].answered if name in self._last else None
        else:
            answered = monotonic()
            latency = round((answered - started) * 1000, 2)
            status = PortStatus(name, watched.adapter, "up", latency, None)
        self._last[name] = _Last(status, answered)

    @property
    def can_read(self) -> bool:
        return self.follower.started

    async def ports(self) -> list[PortStatus]:
        return [
            self._last[name].status
            if name in self._last
            else PortStatus(name, watched.adapter, "down", None, "not looked at yet")
            for name, watched in self.watched.items()
        ]

    def facts(self) -> dict[str, object]:
        return {
            "version": self.version,
            "revision": self.follower.revision,
            "log_last_contact_seconds": round(self.follower.silence, 3),
            "oldest_unsent_event_seconds": self.relay and round(self.relay.oldest_unsent, 3),
        }

    def stale_seconds(self) -> int | None:
        """Return how long the log was not read or a port did not answer, None if all is well."""
        silence = self.follower.silence
        ages = [silence] if silence > _QUIET_SECONDS or not self.follower.is_following else []
        now = monotonic()
        ages += [
            now - last.answered
            for name, last in self._last.items()
            if last.status.status == "down" and last.answered is not None
            if self.watched[name].serves_reads
        ]
        return int(max(ages)) if ages else None
