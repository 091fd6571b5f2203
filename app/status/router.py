"""Routes for liveness, readiness, health and metrics."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool

from app.status.schemas import HealthOut, HealthSource, LiveOut, PortStatus, Readiness, ReadyOut
from app.telemetry import REGISTRY
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

Health = Annotated[HealthSource, from_state("health")]


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
    _set_status(response, out)
    return out


@router.get("/health", responses={503: {"model": HealthOut, "description": "It cannot serve."}})
async def health(health: Health, response: Response) -> HealthOut:
    """Both of the above, with versions, revisions and lags."""
    ports = await _ports(health)
    facts = {name: fact for name, fact in health.facts().items() if name not in _OWN_MEMBERS}
    out = HealthOut(status=_readiness(health, ports), ports=ports, **facts)
    _set_status(response, out)
    return out


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(
    collect: Annotated[Callable[[], None], from_state("collect_metrics")],
) -> Response:
    """Everything this process counts, in the text format of Prometheus."""
    collect()
    # Thousands of flags in use are thousands of lines, which take longer to write than a request.
    text = await run_in_threadpool(generate_latest, REGISTRY)
    headers = {"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    return Response(text, headers=headers)


async def _ports(health: HealthSource) -> list[PortStatus]:
    # While it stops, its servers may already be closed.
    return await health.ports() if health.serving else []


def _readiness(health: HealthSource, ports: Sequence[PortStatus]) -> Readiness:
    if health.is_leaving or not health.serving:
        return "stopping"
    if not health.can_read:
        return "not_ready"
    return "ready" if all(port.status == "up" for port in ports) else "degraded"


def _set_status(response: Response, out: ReadyOut) -> None:
    response.headers.update(_NO_STORE)
    if out.status in {"stopping", "not_ready"}:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
