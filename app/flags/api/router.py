"""Feature flags and segments: reading and writing their definitions."""

import json
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.flags.api.requests import (
    ALL_ENVIRONMENTS,
    EnvironmentParameter,
    EnvironmentsParameter,
    FlagName,
    OptionalEnvironmentParameter,
    stated_environment,
    write_request,
)
from app.flags.api.schemas import (
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
from app.flags.model import Item, Kind
from app.flags.service import FlagFilter, FlagService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, adds_stale_header, headers_so_far
from app.web.openapi import CREATED, DELETED, READ, TAGGED, UNCHANGED, WRITTEN
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, fitting_items
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.web.wait_preference import Wait
from app.workers import LARGE_TEXT

FLAGS, SEGMENTS = "/api/v1/feature-flags", "/api/v1/segments"
router = APIRouter(
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Flags = Annotated[FlagService, from_state("flags")]
_FLAG: list[str | Enum] = ["feature flags"]
_SEGMENT: list[str | Enum] = ["segments"]
_MOST_VERSIONS = 2**31 - 1  # what the store has room for


def _members_with_headers(response: Response, service: FlagService, item: Item) -> dict[str, Any]:
    response.headers["ETag"] = etag(str(item.version))
    response.headers[REVISION_HEADER] = str(item.revision)
    return service.public_members(item)


async def answer_written(
    response: Response, service: FlagService, item: Item, status: int = 200
) -> Response:
    """Answer a write with the flag it wrote."""
    response.headers[REVISION_HEADER] = str(item.revision)
    return await _answer_flag(response, service, item, status)


async def _answer_flag(
    response: Response, service: FlagService, item: Item, status: int = 200
) -> Response:
    """Answer with a flag; a large one is encoded in a worker thread."""
    response.headers["ETag"] = etag(str(item.version))
    service.counter.collect()
    is_large = len(item.definition) > LARGE_TEXT
    return await model_response(
        is_large,
        lambda: FlagOut.model_validate(service.members_without_collecting(item)),
        response.headers,
        status,
    )


@router.post(
    FLAGS,
    status_code=201,
    response_model=FlagOut,
    responses=CREATED,
    tags=_FLAG,
    summary="Create a flag",
)
async def create_flag(
    body: FlagIn, response: Response, flags: Flags, caller: CurrentCaller, idempotency: Idempotent
) -> Response:
    caller.demand(Right.WRITE_FLAGS, body.environment)
    request = write_request(caller, body.comment, idempotency=idempotency)
    item = await flags.create("flag", body.environment, body.members(), request)
    response.headers["Location"] = f"{FLAGS}/{item.name}?environment={item.environment}"
    return await answer_written(response, flags, item, 201)


@router.post(
    SEGMENTS, status_code=201, responses=CREATED, tags=_SEGMENT, summary="Create a segment"
)
async def create_segment(
    body: SegmentIn,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    idempotency: Idempotent,
) -> SegmentOut:
    caller.demand(Right.WRITE_FLAGS, body.environment)
    request = write_request(caller, body.comment, idempotency=idempotency)
    item = await flags.create("segment", body.environment, body.members(), request)
    response.headers["Location"] = f"{SEGMENTS}/{item.name}?environment={item.environment}"
    return SegmentOut.model_validate(_members_with_headers(response, flags, item))


@router.get(FLAGS, response_model=Page[FlagOut], responses=READ, tags=_FLAG, summary="List flags")
async def list_flags(
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: EnvironmentsParameter = None,
    enabled: Annotated[bool | None, Query(description="Only these.")] = None,
    tag: Annotated[str | None, Query(description="Only flags with this tag.")] = None,
    q: Annotated[str | None, Query(description="Part of the name or description.")] = None,
    stale_days: Annotated[
        int | None, Query(ge=0, le=36_500, description="Only flags not evaluated for so long.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    *,
    archived: Annotated[
        bool, Query(description="Only archived flags, which are left out otherwise.")
    ] = False,
) -> Response:
    """Without any filter, and with `environment=*`: of every environment the caller may read."""
    wanted = FlagFilter(enabled, tag, q, stale_days, archived)
    items, more = await _list_items(
        "flag", environment, wanted, response, flags, follower, caller, limit, cursor
    )
    shown = await flags.page_of_members(items, FlagOut.model_validate, is_large=_is_large(items))
    return await model_response(
        _is_large(items), lambda: Page[FlagOut](items=shown, next=more), response.headers
    )


@router.get(
    SEGMENTS,
    response_model=Page[SegmentOut],
    responses=READ,
    tags=_SEGMENT,
    summary="List segments",
)
async def list_segments(
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: EnvironmentsParameter = None,
    q: Annotated[str | None, Query(description="Part of the name or description.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Without any filter, and with `environment=*`: of every environment the caller may read."""
    wanted = FlagFilter(text=q)
    items, more = await _list_items(
        "segment", environment, wanted, response, flags, follower, caller, limit, cursor
    )
    shown = await flags.page_of_members(items, SegmentOut.model_validate, is_large=_is_large(items))
    return await model_response(
        _is_large(items), lambda: Page[SegmentOut](items=shown, next=more), response.headers
    )


async def _list_items(
    kind: Kind,
    environment: str | None,
    wanted: FlagFilter,
    response: Response,
    flags: FlagService,
    follower: Following,
    caller: Caller,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Item], str | None]:
    if environment == ALL_ENVIRONMENTS or (environment is None and wanted == FlagFilter()):
        return await _list_items_everywhere(
            kind, wanted, response, flags, follower, caller, limit, cursor
        )
    named = BASE if environment is None else environment
    caller.demand(Right.READ_FLAGS, named)
    await _set_revision_header(response, flags, follower, named)
    return _page(await flags.list_items(kind, named, wanted), limit, cursor)


async def _list_items_everywhere(
    kind: Kind,
    wanted: FlagFilter,
    response: Response,
    flags: FlagService,
    follower: Following,
    caller: Caller,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[Item], str | None]:
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    names = [name for name in flags.environments() if caller.may(Right.READ_FLAGS, name)]

    def newest() -> int:
        return max((flags.environment(name).revision for name in names), default=0)

    response.headers[REVISION_HEADER] = str(await wait_until_followed(follower, newest))
    rest: list[Item] = []
    for name in names:
        if name >= after[0] and len(rest) <= limit:
            found = await flags.list_items(kind, name, wanted)
            rest += [item for item in found if (item.environment, item.name) > after]
    page = fitting_items(rest[:limit], lambda item: len(item.definition))
    more = encode_cursor(page[-1].environment, page[-1].name) if len(rest) > len(page) else None
    return page, more


def _page(
    items: Sequence[Item], limit: int, cursor: str | None
) -> tuple[Sequence[Item], str | None]:
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [item for item in items if item.name > after]
    page = fitting_items(rest[:limit], lambda item: len(item.definition))
    more = encode_cursor(page[-1].name) if len(rest) > len(page) else None
    return page, more


def _is_large(items: Iterable[Item]) -> bool:
    return sum(len(item.definition) for item in items) > LARGE_TEXT


async def _set_revision_header(
    response: Response, flags: FlagService, follower: Following, environment: str
) -> None:
    revision = await wait_until_followed(follower, lambda: flags.environment(environment).revision)
    response.headers[REVISION_HEADER] = str(revision)


async def _read(
    kind: Kind,
    name: str,
    environment: str,
    response: Response,
    flags: FlagService,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    caller: Caller,
) -> Response:
    def tag() -> str:
        found = flags.environment(environment).items.get((kind, name))
        return str(found.version if found is not None else 0)

    await hold_until_changed(tag, known, wait, follower, fresh, caller.require_still_valid)
    await _set_revision_header(response, flags, follower, environment)
    item = flags.item(kind, environment, name)
    entity_tag = etag(str(item.version))
    if matches(known, entity_tag):
        return not_modified(entity_tag, headers_so_far(response))
    if kind == "flag":
        return await _answer_flag(response, flags, item)
    response.headers["ETag"] = entity_tag
    return await model_response(
        len(item.definition) > LARGE_TEXT,
        lambda: SegmentOut.model_validate(flags.members_without_collecting(item)),
        response.headers,
    )


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
    known: IfNoneMatch,
    wait: Wait,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
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
    known: IfNoneMatch,
    wait: Wait,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
) -> Any:
    caller.demand(Right.READ_FLAGS, environment)
    return await _read(
        "segment", name, environment, response, flags, follower, fresh, known, wait, caller
    )


Force = Annotated[
    bool,
    Query(description="Give another type to a flag that was evaluated in the last 24 hours."),
]


@router.put(
    f"{FLAGS}/{{name}}",
    response_model=FlagOut,
    responses=WRITTEN,
    tags=_FLAG,
    summary="Replace a flag",
)
async def replace_flag(
    name: FlagName,
    body: FlagEdit,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
    force: Force = False,  # noqa: FBT002
) -> Response:
    """The simple form keeps what it does not name; a body with rules or variants replaces all."""
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected)
    item = await flags.replace("flag", where, name, body.members(), request, force=force)
    return await answer_written(response, flags, item)


@router.put(f"{SEGMENTS}/{{name}}", responses=WRITTEN, tags=_SEGMENT, summary="Replace a segment")
async def replace_segment(
    name: FlagName,
    body: SegmentEdit,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
) -> SegmentOut:
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected)
    item = await flags.replace("segment", where, name, body.members(), request)
    return SegmentOut.model_validate(_members_with_headers(response, flags, item))


@router.patch(
    f"{FLAGS}/{{name}}",
    response_model=FlagOut,
    responses=WRITTEN,
    tags=_FLAG,
    summary="Replace single members of a flag",
)
async def change_flag(
    name: FlagName,
    body: FlagEdit,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
    force: Force = False,  # noqa: FBT002
) -> Response:
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected)
    item = await flags.change("flag", where, name, body.members(), request, force=force)
    return await answer_written(response, flags, item)


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
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
) -> SegmentOut:
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected)
    item = await flags.change("segment", where, name, body.members(), request)
    return SegmentOut.model_validate(_members_with_headers(response, flags, item))


_Why = Annotated[Comment, Query(description="Why; kept in the history.")]


@router.delete(
    f"{FLAGS}/{{name}}", status_code=204, responses=DELETED, tags=_FLAG, summary="Delete a flag"
)
async def delete_flag(
    name: FlagName,
    flags: Flags,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: EnvironmentParameter = BASE,
    comment: _Why = "",
) -> Response:
    """Its history stays, and the versions of a flag made anew under the name go on.

    An archived flag is deleted for good.
    """
    caller.demand(Right.WRITE_FLAGS, environment)
    request = write_request(caller, comment, expected=expected)
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
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: EnvironmentParameter = BASE,
    comment: _Why = "",
) -> Response:
    """Refused as long as a flag or another segment uses it."""
    caller.demand(Right.WRITE_FLAGS, environment)
    request = write_request(caller, comment, expected=expected)
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
) -> Response:
    await _set_revision_header(response, flags, follower, environment)
    before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
    found = await flags.history(kind, environment, name, limit, before)
    page = fitting_items(found, lambda entry: 2 * len(entry[0].definition))
    is_whole = len(page) < limit and len(page) == len(found)
    more = None if is_whole or page[-1][0].version <= 1 else encode_cursor(page[-1][0].version)

    def response_body() -> Page[VersionOut]:
        items = [
            VersionOut.of(
                item, action, json.loads(item.definition) if item.definition else None, diff
            )
            for item, action, diff in page
        ]
        return Page[VersionOut](items=items, next=more)

    return await model_response(
        _is_large(item for item, _, _ in page), response_body, response.headers
    )


@router.get(
    f"{FLAGS}/{{name}}/history",
    response_model=Page[VersionOut],
    responses=READ,
    tags=_FLAG,
    summary="Every version of a flag, newest first",
)
async def flag_history(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    caller.demand(Right.READ_FLAGS, environment)
    return await _history("flag", name, environment, response, flags, follower, limit, cursor)


@router.get(
    f"{SEGMENTS}/{{name}}/history",
    response_model=Page[VersionOut],
    responses=READ,
    tags=_SEGMENT,
    summary="Every version of a segment, newest first",
)
async def segment_history(
    name: FlagName,
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
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
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
) -> UsageOut:
    caller.demand(Right.READ_FLAGS, environment)
    await _set_revision_header(response, flags, follower, environment)
    return UsageOut.of(environment, name, await flags.usage(environment, name))
