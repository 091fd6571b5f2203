"""The change log, and the outcomes of unanswered writes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Caller
from app.changes.errors import IntentNotFound
from app.changes.model import Change
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    Log,
    LoggedIntents,
    min_revision_dependency,
)
from app.feed.schemas import ChangeOut, WriteStateOut
from app.feed.scope import may_see, may_see_any
from app.web.freshness import adds_stale_header
from app.web.openapi import READ
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS

router = APIRouter(
    prefix="/api/v1",
    tags=["changes"],
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)

_SPAN = 5000  # revisions that one page looks through at most
_AT_ONCE = 1000
_LAST_REVISION = 2**63 - 1
Filter = Annotated[str | None, Query(max_length=140)]


@router.get(
    "/changes",
    responses=READ,
    summary="The change log, ascending, without values",
    description="Only changes that the caller may see. A page can be short or empty although there "
    "is a next one, because a page covers at most 5,000 revisions.",
)
async def list_changes(
    response: Response,
    log: Log,
    follower: Following,
    caller: CurrentCaller,
    since: Annotated[int, Query(ge=0, lt=2**63, description="Only later revisions.")] = 0,
    environment: Filter = None,
    kind: Filter = None,
    entity: Filter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ChangeOut]:
    after = max(since, decode_cursor(cursor, int)[0]) if cursor else since
    revision = follower.revision
    response.headers[REVISION_HEADER] = str(revision)
    end = min(after + _SPAN, _LAST_REVISION)
    shown: list[Change] = []
    if may_see_any(caller, environment, kind, entity):
        read = partial(log.since, environment=environment, kind=kind, name=entity)
        shown = await _visible(read, caller, after, end, limit)
    # Only the visible changes and the newest revision, which is public, may decide whether there
    # is more: anything else would reveal changes that the caller may not see.
    more = None
    if len(shown) == limit:
        more = encode_cursor(shown[-1].revision)
    elif end < revision:
        more = encode_cursor(end)
    return Page(items=[ChangeOut.of(change) for change in shown], next=more)


async def _visible(
    read: Callable[[int, int], Awaitable[Sequence[Change]]],
    caller: Caller,
    after: int,
    end: int,
    limit: int,
) -> list[Change]:
    """Return the first `limit` changes with `after` < revision <= `end` that a caller may see."""
    shown: list[Change] = []
    count = limit  # to whom everything is shown, the first call returns all
    while after < end and len(shown) < limit:
        changes = await read(after, count)
        shown += (
            change
            for change in changes
            if change.revision <= end and may_see(caller, change.entity)
        )
        after = changes[-1].revision if len(changes) == count else end
        count = _AT_ONCE
    return shown[:limit]


@router.get(
    "/writes/{intent}", responses=READ, summary="The outcome of a write that was answered 504"
)
async def get_write(
    response: Response,
    intents: LoggedIntents,
    follower: Following,
    intent: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
    caller: CurrentCaller,
) -> WriteStateOut:
    response.headers[REVISION_HEADER] = str(follower.revision)
    begun = await intents.intent(intent)
    if not may_see(caller, begun.entity):
        raise IntentNotFound(intent)  # do not reveal that other callers write there
    return WriteStateOut.of(begun)
