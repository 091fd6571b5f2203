"""OFREP: OpenFeature's protocol for remote evaluation, as its official providers speak it."""

from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Request, Response

from app.access.caller import AccessGate, Calling, Listening
from app.access.errors import Denied
from app.access.limits import leave_of
from app.access.model import Caller, Right
from app.changes.errors import TooManyStreams
from app.changes.event_stream import EventStream
from app.changes.follower import Follower
from app.changes.revisions import REVISION_HEADER, Following, Log, Streams, reflected
from app.changes.stream import Selection
from app.errors import Unavailable
from app.flags import ofrep
from app.flags.errors import BadEnvironment
from app.flags.ofrep import Refused, Told
from app.flags.requests import Environment
from app.flags.router import Flags
from app.flags.router_evaluation import Evaluating
from app.flags.service import FlagService
from app.web.conditional import Known
from app.web.freshness import Fresh
from app.web.problem import PROBLEMS
from pilothouse_core.names import is_name

_JSON = "application/json"
_log = structlog.get_logger(__name__)

router = APIRouter(prefix="/ofrep/v1", tags=["OpenFeature"], responses=PROBLEMS)
InEnvironment = Annotated[
    str | None, Header(alias="X-Environment", description="`default` unless stated.")
]
_CONTEXT: dict[str, Any] = {
    "requestBody": {
        "content": {
            _JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "context": {
                            "type": "object",
                            "properties": {"targetingKey": {"type": "string"}},
                        }
                    },
                }
            }
        }
    }
}
_REFUSED: dict[str, Any] = {
    "description": "No evaluation: `errorCode` says why.",
    "content": {
        _JSON: {
            "schema": {
                "type": "object",
                "required": ["errorCode", "errorDetails"],
                "properties": {
                    "key": {"type": "string"},
                    "errorCode": {"type": "string"},
                    "errorDetails": {"type": "string"},
                },
            }
        }
    },
}
# What no route can answer, such as a path that is not UTF-8, is refused as everywhere.
_BAD_REQUEST = {**_REFUSED, "content": {**_REFUSED["content"], **PROBLEMS["4XX"]["content"]}}
_EVALUATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Evaluated.",
        "content": {_JSON: {"schema": {"type": "object"}}},
    },
    400: _BAD_REQUEST,
    404: _REFUSED,
    500: _REFUSED,
    503: _REFUSED,
}


@router.post(
    "/evaluate/flags",
    responses={**_EVALUATED, 304: {"description": "As the client knows it."}},
    openapi_extra=_CONTEXT,
    summary="Evaluate every flag",
)
async def evaluate_all(
    request: Request,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: Known,
    caller: Calling,
    gate: AccessGate,
    environment: InEnvironment = None,
) -> Response:
    async def told(body: bytes) -> Told:
        where = _allowed(caller, environment)
        await _reach(request, flags, follower, where)
        ticket = gate.ticket(caller.principal, where)
        stream = ofrep.stream_of(request.url.scheme, request.url.netloc, where, ticket)
        return ofrep.every(evaluator, where, body, known, stream)

    return await _answered(request, told, fresh, follower, None)


@router.post(
    "/evaluate/flags/{key:path}",
    responses=_EVALUATED,
    openapi_extra=_CONTEXT,
    summary="Evaluate a flag",
)
async def evaluate_one(
    key: str,
    request: Request,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    caller: Calling,
    environment: InEnvironment = None,
) -> Response:
    async def told(body: bytes) -> Told:
        where = _allowed(caller, environment)
        await _reach(request, flags, follower, where)
        return ofrep.one(evaluator, where, key, body)

    return await _answered(request, told, fresh, follower, key)


def _allowed(caller: Caller, stated: str | None) -> str:
    """Return the environment that is meant, the caller's only one unless stated; raises Denied."""
    where = ofrep.read_environment(caller.principal.home if stated is None else stated)
    caller.demand(Right.EVALUATE, where)
    return where


async def _reach(
    request: Request, flags: FlagService, follower: Follower, environment: str
) -> None:
    wanted = ofrep.revision_of(request.url.query)
    if wanted is not None:
        await follower.reach(wanted)
    await reflected(follower, lambda: flags.environment(environment).revision)


async def _answered(
    request: Request, tell: Any, fresh: Fresh, follower: Follower, key: str | None
) -> Response:
    """Answer in OFREP's own form whatever happens: its clients read no other."""
    headers = {}
    try:
        told = await tell(await request.body())
    except Refused as refused:
        told = Told(400, ofrep.refusal(refused.code, str(refused), key))
    except Unavailable as away:
        told = Told(503, ofrep.refusal(ofrep.GENERAL, str(away), key))
        headers["Retry-After"] = str(away.retry_after)
    except Denied:
        raise  # its clients go by the status
    except Exception:  # noqa: BLE001 - its clients cannot read what else would be answered
        _log.exception("ofrep_failed")
        told = Told(500, ofrep.refusal(ofrep.GENERAL, "the service failed to answer", key))
    headers[REVISION_HEADER] = str(follower.revision)
    if told.tag is not None:
        headers["ETag"] = told.tag
    age = fresh.stale_seconds()
    if age is not None:
        headers["X-Stale"] = str(age)
    if told.status == 304:  # noqa: PLR2004
        return Response(status_code=304, headers=headers)
    return Response(told.body, told.status, headers=headers, media_type=_JSON)


@router.get(
    "/stream",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {
            "description": "Server-sent events that tell a client to evaluate again.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
    },
    summary="Hear of changes of flags",
)
async def stream(
    hub: Streams,
    log: Log,
    follower: Following,
    caller: Listening,
    environment: Environment = ofrep.BASE,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}$")] = None,
) -> Response:
    if hub.is_full:
        raise TooManyStreams(len(hub))
    if not is_name(environment):
        raise BadEnvironment(environment)
    caller.demand(Right.EVALUATE, environment)
    selection = Selection(environment, None, frozenset({"flag", "segment"}), refetch=True)
    after = int(last_event_id) if last_event_id else None
    return EventStream(hub, log, follower, selection, after, leave_of(caller, hub))
