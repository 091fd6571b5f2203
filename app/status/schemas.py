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
    """What the routes ask; `app.main` puts it into the lifespan state as `health`."""

    @property
    def serving(self) -> bool:
        """False from the moment a shutdown begins."""
        ...

    @property
    def is_leaving(self) -> bool:
        """True once load balancers are to send nobody any more, though requests are served."""
        ...

    @property
    def can_read(self) -> bool:
        """Whether reads can be answered, be it from memory."""
        ...

    async def ports(self) -> list[PortStatus]:
        """Return one status a port, within a second whatever the servers do."""
        ...

    def facts(self) -> dict[str, object]:
        """Return versions, revisions and lags, by name."""
        ...


class LiveOut(BaseModel):
    status: Literal["alive"] = "alive"


class ReadyOut(BaseModel):
    status: Readiness
    ports: list[PortStatus]


class HealthOut(ReadyOut):
    model_config = ConfigDict(extra="allow")

    live: Literal["alive"] = "alive"
