"""Routes of OFREP, OpenFeature's protocol for remote evaluation."""

from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Request, Response

from app.access.caller import CurrentAuthenticator, CurrentCaller, StreamCaller
from app.access.errors import Denied
from app.access.limits import stream_grant
from app.access.model import Caller, Right
from app.changes.errors import TooManyStreams
from app.changes.follower import Follower
from app.changes.revisions import REVISION_HEADER, Following, Log, Streams, wait_until_followed
from app.changes.stream.event_stream import EventStream
from app.changes.stream.hub import Selection
from app.errors import PilothouseError, TooLarge, Unavailable
from app.flags.api import ofrep
from app.flags.api.ofrep import OfrepError, OfrepResponse
from app.flags.api.requests import EnvironmentParameter, Flags
from app.flags.api.router_evaluation import Evaluating
from app.flags.errors import BadEnvironment
from app.flags.service import FlagService
from app.web.bodies import check_json_type
from app.web.conditional import IfNoneMatch
from app.web.freshness import Fresh
from app.web.path_rules import ProtocolRules
from app.web.problem import PROBLEMS, UnsupportedMediaType, shorten
from pilothouse_core.names import is_name

_JSON = "application/json"
_log = structlog.get_logger(__name__)

_ONE_FLAG = "/ofrep/v1/evaluate/flags/"

router = APIRouter(prefix="/ofrep/v1", tags=["OpenFeature"], responses=PROBLEMS)
EnvironmentHeader = Annotated[
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
_EVENT = 'id: 42\nevent: refetchEvaluation\ndata: {"type":"refetchEvaluation"}\n\n'
_REFUSED: dict[str, Any] = {
    "description": "The flag was not evaluated: `errorCode` states the reason.",
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
    415: _REFUSED,
    500: _REFUSED,
    503: _REFUSED,
}


def _error_members(path: str, error: PilothouseError) -> Mapping[str, Any]:
    """Return the reason for a missing evaluation, as OpenFeature clients read it."""
    key = path.removeprefix(_ONE_FLAG) if path.startswith(_ONE_FLAG) else ""
    members = {"key": shorten(key)} if key else {}
    # Nearly the whole body is the context.
    code = ofrep.INVALID_CONTEXT if isinstance(error, TooLarge) else ofrep.GENERAL
    return {**members, "errorCode": code, "errorDetails": str(error)}


# OpenFeature clients encode flag keys freely; no path is built from these keys.
RULES = ProtocolRules("/ofrep/", may_encode_separators=True, error_members=_error_members)


@router.post(
    "/evaluate/flags",
    responses={
        **_EVALUATED,
        304: {"description": "Nothing has changed since the `ETag` of `If-None-Match`."},
    },
    openapi_extra=_CONTEXT,
    summary="Evaluate every flag",
)
async def evaluate_all(
    request: Request,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    caller: CurrentCaller,
    authenticator: CurrentAuthenticator,
    environment: EnvironmentHeader = None,
) -> Response:
    async def respond(body: bytes) -> OfrepResponse:
        where = _authorize(caller, environment)
        await _wait_for_revision(request, flags, follower, where)
        ticket = authenticator.issue_ticket(caller.principal, where)
        stream = ofrep.stream_address(request.url.scheme, request.url.netloc, where, ticket)
        return await ofrep.evaluate_every_apart(evaluator, where, body, known, stream)

    return await _respond(request, respond, fresh, follower, None)


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
    caller: CurrentCaller,
    environment: EnvironmentHeader = None,
) -> Response:
    async def respond(body: bytes) -> OfrepResponse:
        where = _authorize(caller, environment)
        await _wait_for_revision(request, flags, follower, where)
        return await ofrep.evaluate_one_apart(evaluator, where, key, body)

    return await _respond(request, respond, fresh, follower, key)


def _authorize(caller: Caller, stated: str | None) -> str:
    """Return the environment that is meant, the caller's only one unless stated; raises Denied."""
    where = ofrep.read_environment(caller.principal.only_environment if stated is None else stated)
    caller.demand(Right.EVALUATE, where)
    return where


async def _wait_for_revision(
    request: Request, flags: FlagService, follower: Follower, environment: str
) -> None:
    wanted = ofrep.revision_of(request.url.query)
    if wanted is not None:
        await follower.wait_for_revision(wanted)
    await wait_until_followed(follower, lambda: flags.environment(environment).revision)


async def _respond(
    request: Request, tell: Any, fresh: Fresh, follower: Follower, key: str | None
) -> Response:
    """Answer in the format of OFREP in every case: its clients read no other."""
    headers = {}
    try:
        body = await request.body()
        if body:
            check_json_type(request)
        answer = await tell(body)
    except OfrepError as error:
        answer = OfrepResponse(400, ofrep.refusal(error.code, str(error), key))
    except Unavailable as unavailable:
        answer = OfrepResponse(503, ofrep.refusal(ofrep.GENERAL, str(unavailable), key))
        headers["Retry-After"] = str(unavailable.retry_after)
    except UnsupportedMediaType as unsupported:
        answer = OfrepResponse(415, ofrep.refusal(ofrep.GENERAL, str(unsupported), key))
    except Denied:
        raise  # its clients go by the status
    except Exception:  # noqa: BLE001 - its clients cannot read any other response
        _log.exception("ofrep_failed")
        answer = OfrepResponse(
            500, ofrep.refusal(ofrep.GENERAL, "the service failed to answer", key)
        )
    headers[REVISION_HEADER] = str(follower.revision)
    if answer.tag is not None:
        headers["ETag"] = answer.tag
    age = fresh.stale_seconds()
    if age is not None:
        headers["X-Stale"] = str(age)
    if answer.status == 304:  # noqa: PLR2004
        return Response(status_code=304, headers=headers)
    return Response(answer.body, answer.status, headers=headers, media_type=_JSON)


@router.get(
    "/stream",
    response_class=Response,
    responses={
        **PROBLEMS,
        200: {
            "description": "Server-sent events after which a client evaluates again.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENT}},
        },
    },
    summary="Stream changes of flags",
)
async def stream(
    hub: Streams,
    log: Log,
    follower: Following,
    caller: StreamCaller,
    environment: EnvironmentParameter = ofrep.BASE,
    last_event_id: Annotated[str | None, Header(pattern="^[0-9]{1,18}$")] = None,
) -> Response:
    if hub.is_full:
        raise TooManyStreams(len(hub))
    if not is_name(environment):
        raise BadEnvironment(environment)
    caller.demand(Right.EVALUATE, environment)
    selection = Selection(environment, None, frozenset({"flag", "segment"}), refetch=True)
    after = int(last_event_id) if last_event_id else None
    return EventStream(hub, log, follower, selection, after, stream_grant(caller, hub))
