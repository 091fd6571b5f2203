"""Routes for liveness, readiness, health and metrics."""

from collections.abc import Callable, Mapping, Sequence
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
Checks = Annotated[Sequence[Callable[[], bool]], from_state("readiness_checks")]
Facts = Annotated[Sequence[Callable[[], Mapping[str, object]]], from_state("health_facts")]


_OWN_MEMBERS = frozenset(HealthOut.model_fields)
# The metrics of a service that runs vary.
_SAMPLE = (
    "# HELP pilothouse_http_requests_total Requests.\n"
    "# TYPE pilothouse_http_requests_total counter\n"
    'pilothouse_http_requests_total{method="GET",route="/ready",status="200"} 12.0\n'
)
_NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(
    tags=["health"], responses={status: PROBLEMS[status] for status in ("4XX", "5XX")}
)


@router.get("/live")
async def live(response: Response) -> LiveOut:
    """Whether the process runs; no server behind it is called."""
    response.headers.update(_NO_STORE)
    return LiveOut()


@router.get(
    "/ready", responses={503: {"model": ReadyOut, "description": "The replica cannot serve."}}
)
async def ready(health: Health, checks: Checks, response: Response) -> ReadyOut:
    """Whether the replica can serve requests; while `degraded` it still answers reads."""
    ports = await _ports(health)
    out = ReadyOut(status=_readiness(health, checks, ports), ports=ports)
    _set_status(response, out)
    return out


@router.get(
    "/health", responses={503: {"model": HealthOut, "description": "The replica cannot serve."}}
)
async def health(health: Health, checks: Checks, features: Facts, response: Response) -> HealthOut:
    """Liveness and readiness, with versions, revisions and lags."""
    ports = await _ports(health)
    facts = {
        name: fact
        for facts_of_one in features
        for name, fact in facts_of_one().items()
        if name not in _OWN_MEMBERS
    }
    out = HealthOut(status=_readiness(health, checks, ports), ports=ports, **facts)
    _set_status(response, out)
    return out


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": _SAMPLE}}}},
)
async def metrics(
    collect: Annotated[Callable[[], None], from_state("collect_metrics")],
) -> Response:
    """All metrics of this process, in the text format of Prometheus."""
    collect()
    # Thousands of flags in use are thousands of lines, which take longer to write than a request.
    text = await run_in_threadpool(generate_latest, REGISTRY)
    headers = {"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
    return Response(text, headers=headers)


async def _ports(health: HealthSource) -> list[PortStatus]:
    # While it stops, its servers may already be closed.
    return await health.ports() if health.serving else []


def _readiness(
    health: HealthSource, checks: Sequence[Callable[[], bool]], ports: Sequence[PortStatus]
) -> Readiness:
    if health.is_leaving or not health.serving:
        return "stopping"
    if not all(is_ready() for is_ready in checks):
        return "not_ready"
    return "ready" if all(port.status == "up" for port in ports) else "degraded"


def _set_status(response: Response, out: ReadyOut) -> None:
    response.headers.update(_NO_STORE)
    if out.status in {"stopping", "not_ready"}:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
