"""Tells the audit, and the metrics, whom access control has sent away."""

from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response

from app import telemetry
from app.access.auditing import AuditEvent
from app.access.caller import CALLER, request_id_of, source_of
from app.access.errors import Denied, TokenMissing
from app.access.model import Caller
from app.access.recorder import Recorder
from app.errors import PilothouseError, Unauthenticated
from app.web.problem import problem_response


def install(app: FastAPI) -> None:
    """Answer refusals as every failure is answered, and take each down."""
    app.add_exception_handler(Denied, _on_denied)
    app.add_exception_handler(Unauthenticated, _on_unknown)


async def _on_denied(request: Request, error: Exception) -> Response:
    assert isinstance(error, Denied)
    caller: Caller = getattr(request.state, CALLER)
    _note(request, "denied", caller.actor(), error, error.environment, error.service)
    return _told(error)


async def _on_unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unauthenticated)
    if not isinstance(error, TokenMissing):  # whoever shows nothing has attempted nothing
        _note(request, "refused", "anonymous", error, "", "")
    return _told(error)


def _note(
    request: Request,
    action: str,
    actor: str,
    error: PilothouseError,
    environment: str,
    service: str,
) -> None:
    recorder: Recorder = request.state.recorder
    route = getattr(request.scope.get("route"), "path", "")
    recorder.note(
        AuditEvent(
            at=datetime.now(UTC),
            actor=actor,
            action=action,
            kind="access",
            environment=environment or "*",
            name=service or "*",
            request_id=request_id_of(),
            source=source_of(request),
            facts={"code": error.code, "method": request.method, "route": route, **error.facts},
        )
    )


def _told(error: PilothouseError) -> Response:
    telemetry.DENIALS.labels(error.code).inc()
    return problem_response(error)
