"""The status of ports and of this replica, as the routes return it."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

Readiness = Literal["ready", "degraded", "not_ready", "stopping"]


@dataclass(frozen=True, slots=True)
class PortStatus:
    """What stands behind one port, and how its last call went."""

    name: str
    adapter: str
    status: Literal["up", "degraded", "down"]
    latency_ms: float | None = None
    detail: str | None = None


class HealthSource(Protocol):
    """What the routes ask; the lifespan state has it as `health`."""

    @property
    def serving(self) -> bool:
        """False from the moment a shutdown begins."""
        ...

    @property
    def is_leaving(self) -> bool:
        """True once load balancers are to send nobody any more, though requests are served."""
        ...

    async def ports(self) -> list[PortStatus]:
        """Return one status a port, within a second whatever the servers do."""
        ...


class LiveOut(BaseModel):
    status: Literal["alive"] = "alive"


class ReadyOut(BaseModel):
    status: Readiness
    ports: list[PortStatus]


class HealthOut(ReadyOut):
    model_config = ConfigDict(extra="allow")

    live: Literal["alive"] = "alive"
