"""Whether this replica lives, can serve, and how it fares: for orchestrators and people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict

from app.telemetry import REGISTRY
from app.web.problem import PROBLEMS
from app.web.state import from_state

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
    def can_read(self) -> bool:
        """Whether reads can be answered, be it from memory."""
        ...

    async def ports(self) -> list[PortStatus]:
        """Return one status a port, within a second whatever the servers do."""
        ...

    def facts(self) -> dict[str, object]:
        """Return versions, revisions and lags, by name."""
        ...


Health = Annotated[HealthSource, from_state("health")]


class LiveOut(BaseModel):
    status: Literal["alive"] = "alive"


class ReadyOut(BaseModel):
    status: Readiness
    ports: list[PortStatus]


class HealthOut(ReadyOut):
    model_config = ConfigDict(extra="allow")

    live: Literal["alive"] = "alive"


_OWN_MEMBERS = frozenset(HealthOut.model_fields)
_NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(
    tags=["health"], responses={status: PROBLEMS[status] for status in ("4XX", "5XX")}
)


@router.get("/live")
async def live(response: Response) -> LiveOut:
    """The process runs. Asks nothing and waits for nothing."""
    response.headers.update(_NO_STORE)
    return LiveOut()


@router.get("/ready", responses={503: {"model": ReadyOut, "description": "It cannot serve."}})
async def ready(health: Health, response: Response) -> ReadyOut:
    """It can serve; `degraded` still can, as long as reads are answered."""
    out = ReadyOut(status=_readiness(health, ports := await _ports(health)), ports=ports)
    _tell(response, out)
    return out


@router.get("/health", responses={503: {"model": HealthOut, "description": "It cannot serve."}})
async def health(health: Health, response: Response) -> HealthOut:
    """Both of the above, with versions, revisions and lags."""
    ports = await _ports(health)
    facts = {name: fact for name, fact in health.facts().items() if name not in _OWN_MEMBERS}
    out = HealthOut(status=_readiness(health, ports), ports=ports, **facts)
    _tell(response, out)
    return out


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(
    collect: Annotated[Callable[[], None], from_state("collect_metrics")],
) -> Response:
    """Everything this process counts, in the text format of Prometheus."""
    collect()
    headers = {"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    return Response(generate_latest(REGISTRY), headers=headers)


async def _ports(health: HealthSource) -> list[PortStatus]:
    # While it stops, its servers may already be closed.
    return await health.ports() if health.serving else []


def _readiness(health: HealthSource, ports: Sequence[PortStatus]) -> Readiness:
    if not health.serving:
        return "stopping"
    if not health.can_read:
        return "not_ready"
    return "ready" if all(port.status == "up" for port in ports) else "degraded"


def _tell(response: Response, out: ReadyOut) -> None:
    response.headers.update(_NO_STORE)
    if out.status in {"stopping", "not_ready"}:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
