"""Records denied requests in the audit and the metrics."""

from datetime import UTC, datetime

from fastapi import FastAPI, Request, Response

from app import telemetry
from app.access.caller import client_address, current_request_id
from app.access.errors import Denied, TokenMissing, TooManyRefusals
from app.access.limits import RateLimiter
from app.access.model import Caller
from app.audit.aggregation import EventAggregator, EventSubject
from app.audit.port import AuditEvent
from app.audit.recorder import AuditRecorder
from app.errors import PilothouseError, Unauthenticated
from app.web.problem import problem_response
from app.web.request_state import CALLER


def install_handlers(app: FastAPI) -> None:
    """Answer denials with problem details, and record each."""
    app.add_exception_handler(Denied, _handle_denied)
    app.add_exception_handler(Unauthenticated, _handle_unauthenticated)


async def _handle_denied(request: Request, error: Exception) -> Response:
    assert isinstance(error, Denied)
    _record_denial(request, error)
    return _denial_response(error)


async def _handle_unauthenticated(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unauthenticated)
    source = client_address(request)
    if not isinstance(error, TokenMissing):  # a request without a token is not an attempt
        tally: EventAggregator = request.state.tally
        subject = EventSubject("anonymous", "refused", "access", source=source or None)
        tally.count(subject, error.code, current_request_id())
    unknown: RateLimiter = request.state.unknown_rates
    if not unknown.try_acquire_for(source):
        return _denial_response(TooManyRefusals(unknown.per_second))
    return _denial_response(error)


def _record_denial(request: Request, error: Denied) -> None:
    caller: Caller = getattr(request.state, CALLER)
    recorder: AuditRecorder = request.state.recorder
    route = getattr(request.scope.get("route"), "path", "")
    recorder.record(
        AuditEvent(
            at=datetime.now(UTC),
            actor=caller.actor(),
            action="denied",
            kind="access",
            environment=error.environment or "*",
            name=error.service or "*",
            request_id=current_request_id(),
            source=client_address(request),
            facts={"code": error.code, "method": request.method, "route": route, **error.facts},
        )
    )


def _denial_response(error: PilothouseError) -> Response:
    telemetry.DENIALS.labels(error.code).inc()
    return problem_response(error)
