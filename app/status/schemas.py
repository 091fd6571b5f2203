"""The status of ports and of this replica, as the routes return it."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

Readiness = Literal["ready", "degraded", "not_ready", "stopping"]


@dataclass(frozen=True, slots=True)
class PortStatus:
    """The adapter of a port, and the outcome of its last check."""

    name: str
    adapter: str
    status: Literal["up", "degraded", "down"]
    latency_ms: float | None = None
    detail: str | None = None


class HealthSource(Protocol):
    """The source of the routes' answers, `health` in the lifespan state."""

    @property
    def serving(self) -> bool:
        """False from the moment a shutdown begins."""
        ...

    @property
    def is_leaving(self) -> bool:
        """True once load balancers must not send new requests, although they are served."""
        ...

    async def ports(self) -> list[PortStatus]:
        """Return one status for each port, within a second even if servers do not answer."""
        ...


class LiveOut(BaseModel):
    status: Literal["alive"] = "alive"


class ReadyOut(BaseModel):
    status: Readiness
    ports: list[PortStatus]


class HealthOut(ReadyOut):
    model_config = ConfigDict(extra="allow")

    live: Literal["alive"] = "alive"
