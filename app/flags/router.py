"""Feature flags and segments: reading and writing their definitions."""

import json
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import Calling
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, hold, reaches_revision, reflected
from app.flags.model import Item, Kind
from app.flags.requests import Environment, FlagName, StatedEnvironment, addressed, request_of
from app.flags.schemas import (
    BASE,
    Comment,
    FlagEdit,
    FlagIn,
    FlagOut,
    SegmentEdit,
    SegmentIn,
    SegmentOut,
    UsageOut,
    VersionOut,
)
from app.flags.service import FlagService, Wanted
from app.web.bodies import StrictRoute
from app.web.conditional import Expected, Known, etag, matches, not_modified
from app.web.freshness import Fresh, carried, marked_when_stale
from app.web.openapi import CREATED, DELETED, READ, TAGGED, UNCHANGED, WRITTEN
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.state import from_state
from app.web.waiting import Wait

FLAGS, SEGMENTS = "/api/v1/feature-flags", "/api/v1/segments"
router = APIRouter(
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)
Flags = Annotated[FlagService, from_state("flags")]
_FLAG: list[str | Enum] = ["feature flags"]
_SEGMENT: list[str | Enum] = ["segments"]


def _told(response: Response, service: FlagService, item: Item) -> dict[str, Any]:
    response.headers["ETag"] = etag(str(item.version))
    response.headers[REVISION_HEADER] = str(item.revision)
    return service.shown(item)


def _made(response: Response, service: FlagService, item: Item, base: str) -> dict[str, Any]:
    response.headers["Location"] = f"{base}/{item.name}?environment={item.environment}"
    return _told(response, service, item)


@router.post(FLAGS, status_code=201, responses=CREATED, tags=_FLAG, summary="Create a flag")
async def create_flag(
    body: FlagIn, response: Response, flags: Flags, caller: Calling, idempotency: Idempotent
) -> FlagOut:
    caller.demand(Right.WRITE_FLAGS, body.environment)
    request = request_of(caller, body.comment, idempotency=idempotency)
    item = await flags.create("flag", body.environment, body.members(), request)
    return FlagOut.model_validate(_made(response, flags, item, FLAGS))


@router.post(
    SEGMENTS, status_code=201, responses=CREATED, tags=_SEGMENT, summary="Create a segment"
)
async def create_segment(
    body: SegmentIn, response: Response, flags: Flags, caller: Calling, idempotency: Idempotent
) -> SegmentOut:
    caller.demand(Right.WRITE_FLAGS, body.environment)
    request = request_of(caller, body.comment, idempotency=idempotency)
    item = await flags.create("segment", body.environment, body.members(), request)
    return SegmentOut.model_validate(_made(response, flags, item, SEGMENTS))


@router.get(FLAGS, responses=READ, tags=_FLAG, summary="List flags")
async def list_flags(
    response: Response,
    flags: Flags,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
    enabled: Annotated[bool | None, Query(description="Only these.")] = None,
    tag: Annotated[str | None, Query(description="Only flags with this tag.")] = None,
    q: Annotated[str | None, Query(description="Part of the name or description.")] = None,
    stale_days: Annotated[
        int | None, Query(ge=0, le=36_500, description="Only flags not evaluated for so long.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[FlagOut]:
    caller.demand(Right.READ_FLAGS, environment)
    wanted = Wanted(enabled, tag, q, stale_days)
    await _say_revision(response, flags, follower, environment)
    items, more = _page(flags.listed("flag", environment, wanted), limit, cursor)
    shown = [FlagOut.model_validate(flags.shown(item)) for item in items]
    return Page(items=shown, next=more)


@router.get(SEGMENTS, responses=READ, tags=_SEGMENT, summary="List segments")
async def list_segments(
    response: Response,
    flags: Flags,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
    q: Annotated[str | None, Query(description="Part of the name or description.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SegmentOut]:
    caller.demand(Right.READ_FLAGS, environment)
    await _say_revision(response, flags, follower, environment)
    items, more = _page(flags.listed("segment", environment, Wanted(text=q)), limit, cursor)
    shown = [SegmentOut.model_validate(flags.shown(item)) for item in items]
    return Page(items=shown, next=more)


def _page(items: Any, limit: int, cursor: str | None) -> tuple[list[Item], str | None]:
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [item for item in items if item.name > after]
    more = encode_cursor(rest[limit - 1].name) if len(rest) > limit else None
    return rest[:limit], more


async def _say_revision(
    response: Response, flags: FlagService, follower: Following, environment: str
) -> None:
    revision = await reflected(follower, lambda: flags.environment(environment).revision)
    response.headers[REVISION_HEADER] = str(revision)


async def _read(
    kind: Kind,
    name: str,
    environment: str,
    response: Response,
    flags: FlagService,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    caller: Caller,
) -> dict[str, Any] | Response:
    def tag() -> str:
        found = flags.environment(environment).items.get((kind, name))
        return str(found.version if found is not None else 0)

    await hold(tag, known, wait, follower, fresh, caller.stay)
    await _say_revision(response, flags, follower, environment)
    item = flags.item(kind, environment, name)
    told = etag(str(item.version))
    if matches(known, told):
        return not_modified(told, carried(response))
    response.headers["ETag"] = told
    return flags.shown(item)


@router.get(
    f"{FLAGS}/{{name}}",
    response_model=FlagOut,
    responses=TAGGED | UNCHANGED,
    tags=_FLAG,
    summary="Read a flag",
)
async def get_flag(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    caller: Calling,
    environment: Environment = BASE,
) -> Any:
    caller.demand(Right.READ_FLAGS, environment)
    return await _read(
        "flag", name, environment, response, flags, follower, fresh, known, wait, caller
    )


@router.get(
    f"{SEGMENTS}/{{name}}",
    response_model=SegmentOut,
    responses=TAGGED | UNCHANGED,
    tags=_SEGMENT,
    summary="Read a segment",
)
async def get_segment(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    caller: Calling,
    environment: Environment = BASE,
) -> Any:
    caller.demand(Right.READ_FLAGS, environment)
    return await _read(
        "segment", name, environment, response, flags, follower, fresh, known, wait, caller
    )


@router.put(f"{FLAGS}/{{name}}", responses=WRITTEN, tags=_FLAG, summary="Replace a flag")
async def replace_flag(
    name: FlagName,
    body: FlagEdit,
    response: Response,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: StatedEnvironment = None,
) -> FlagOut:
    where = addressed(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = request_of(caller, body.comment, expected=expected)
    item = await flags.replace("flag", where, name, body.members(), request)
    return FlagOut.model_validate(_told(response, flags, item))


@router.put(f"{SEGMENTS}/{{name}}", responses=WRITTEN, tags=_SEGMENT, summary="Replace a segment")
async def replace_segment(
    name: FlagName,
    body: SegmentEdit,
    response: Response,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: StatedEnvironment = None,
) -> SegmentOut:
    where = addressed(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = request_of(caller, body.comment, expected=expected)
    item = await flags.replace("segment", where, name, body.members(), request)
    return SegmentOut.model_validate(_told(response, flags, item))


@router.patch(
    f"{FLAGS}/{{name}}", responses=WRITTEN, tags=_FLAG, summary="Replace single members of a flag"
)
async def change_flag(
    name: FlagName,
    body: FlagEdit,
    response: Response,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: StatedEnvironment = None,
) -> FlagOut:
    where = addressed(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = request_of(caller, body.comment, expected=expected)
    item = await flags.change("flag", where, name, body.members(), request)
    return FlagOut.model_validate(_told(response, flags, item))


@router.patch(
    f"{SEGMENTS}/{{name}}",
    responses=WRITTEN,
    tags=_SEGMENT,
    summary="Replace single members of a segment",
)
async def change_segment(
    name: FlagName,
    body: SegmentEdit,
    response: Response,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: StatedEnvironment = None,
) -> SegmentOut:
    where = addressed(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = request_of(caller, body.comment, expected=expected)
    item = await flags.change("segment", where, name, body.members(), request)
    return SegmentOut.model_validate(_told(response, flags, item))


_Why = Annotated[Comment, Query(description="Why; kept in the history.")]


@router.delete(
    f"{FLAGS}/{{name}}", status_code=204, responses=DELETED, tags=_FLAG, summary="Delete a flag"
)
async def delete_flag(
    name: FlagName,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: Environment = BASE,
    comment: _Why = "",
) -> Response:
    """Its history stays, and the versions of a flag made anew under the name go on."""
    caller.demand(Right.WRITE_FLAGS, environment)
    request = request_of(caller, comment, expected=expected)
    item = await flags.delete("flag", environment, name, request)
    return Response(status_code=204, headers={REVISION_HEADER: str(item.revision)})


@router.delete(
    f"{SEGMENTS}/{{name}}",
    status_code=204,
    responses=DELETED,
    tags=_SEGMENT,
    summary="Delete a segment",
)
async def delete_segment(
    name: FlagName,
    flags: Flags,
    caller: Calling,
    expected: Expected,
    environment: Environment = BASE,
    comment: _Why = "",
) -> Response:
    """Refused as long as a flag or another segment uses it."""
    caller.demand(Right.WRITE_FLAGS, environment)
    request = request_of(caller, comment, expected=expected)
    item = await flags.delete("segment", environment, name, request)
    return Response(status_code=204, headers={REVISION_HEADER: str(item.revision)})


async def _history(
    kind: Kind,
    name: str,
    environment: str,
    response: Response,
    flags: FlagService,
    follower: Following,
    limit: int,
    cursor: str | None,
) -> Page[VersionOut]:
    await _say_revision(response, flags, follower, environment)
    before = decode_cursor(cursor, int)[0] if cursor else None
    found = await flags.history(kind, environment, name, limit, before)
    items = [
        VersionOut.of(item, json.loads(item.definition) if item.definition else None, diff)
        for item, diff in found
    ]
    more = len(items) == limit and items[-1].version > 1
    return Page(items=items, next=encode_cursor(items[-1].version) if more else None)


@router.get(
    f"{FLAGS}/{{name}}/history",
    responses=READ,
    tags=_FLAG,
    summary="Every version of a flag, newest first",
)
async def flag_history(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[VersionOut]:
    caller.demand(Right.READ_FLAGS, environment)
    return await _history("flag", name, environment, response, flags, follower, limit, cursor)


@router.get(
    f"{SEGMENTS}/{{name}}/history",
    responses=READ,
    tags=_SEGMENT,
    summary="Every version of a segment, newest first",
)
async def segment_history(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[VersionOut]:
    caller.demand(Right.READ_FLAGS, environment)
    return await _history("segment", name, environment, response, flags, follower, limit, cursor)


@router.get(
    f"{FLAGS}/{{name}}/usage", responses=READ, tags=_FLAG, summary="How often a flag is evaluated"
)
async def flag_usage(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
) -> UsageOut:
    caller.demand(Right.READ_FLAGS, environment)
    await _say_revision(response, flags, follower, environment)
    return UsageOut.of(environment, name, await flags.usage(environment, name))
