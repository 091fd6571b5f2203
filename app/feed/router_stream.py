"""GET /api/v1/stream: changes as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from app.access.caller import CurrentCaller
from app.access.limits import stream_grant
from app.changes.errors import BadFilter, BadKind, TooManyStreams
from app.changes.revisions import Following, Log, Streams, min_revision_dependency
from app.changes.stream.event_stream import EventStream
from app.changes.stream.hub import Selection
from app.feed.scope import STREAM_KINDS, kinds_heard
from app.web.openapi import NAME
from app.web.problem import PROBLEMS
from pilothouse_core.names import is_name

router = APIRouter(
    prefix="/api/v1", tags=["changes"], responses=PROBLEMS, dependencies=[min_revision_dependency]
)
_EVENT = (
    "id: 42\nevent: config.changed\n"
    'data: {"revision":42,"kind":"config","environment":"production","name":"billing",'
    '"version":7,"action":"updated"}\n\n'
)
Contributing = Annotated[
    str | None,
    Query(
        description="With both parameters, the stream has the changes of all layers of a service.",
        json_schema_extra=NAME,
    ),
]


@router.get(
    "/stream",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events `config.changed`, `flag.changed`, ...: `id` is the "
            "revision, `data` names what changed, without values.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EVENT}},
        }
    },
    summary="Changes as they happen",
)
async def stream(
    hub: Streams,
    log: Log,
    follower: Following,
    caller: CurrentCaller,
    environment: Contributing = None,
    service_name: Contributing = None,
    kinds: Annotated[
        str | None,
        Query(description=f"Comma-separated, of {', '.join(STREAM_KINDS)}; default all."),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="Continue after this revision.", pattern="^[0-9]{1,18}$")
    ] = None,
) -> Response:
    if hub.is_full:
        raise TooManyStreams(len(hub))
    for name in (environment, service_name):
        if name is not None and not is_name(name):
            raise BadFilter(name)
    stated_kinds = frozenset(kinds.split(",")) if kinds else None
    if stated_kinds is not None and not stated_kinds <= set(STREAM_KINDS):
        raise BadKind(STREAM_KINDS)
    heard = kinds_heard(caller, environment, service_name, stated_kinds)
    selection = Selection(environment, service_name, heard)
    after = int(last_event_id) if last_event_id else None
    return EventStream(hub, log, follower, selection, after, stream_grant(caller, hub))
