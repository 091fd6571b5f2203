"""What was changed, and what became of a write that was not answered."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import Calling
from app.changes.errors import IntentNotFound
from app.changes.revisions import REVISION_HEADER, Following, Log, reaches_revision
from app.feed.schemas import ChangeOut, WriteStateOut
from app.feed.scope import may_see
from app.web.freshness import marked_when_stale
from app.web.openapi import READ
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS

router = APIRouter(
    prefix="/api/v1",
    tags=["changes"],
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)

Filter = Annotated[str | None, Query(max_length=140)]


@router.get("/changes", responses=READ, summary="The change log, ascending, without values")
async def list_changes(
    response: Response,
    log: Log,
    follower: Following,
    caller: Calling,
    since: Annotated[int, Query(ge=0, lt=2**63, description="Only later revisions.")] = 0,
    environment: Filter = None,
    kind: Filter = None,
    entity: Filter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ChangeOut]:
    after = max(since, decode_cursor(cursor, int)[0]) if cursor else since
    response.headers[REVISION_HEADER] = str(follower.revision)
    changes = await log.since(after, limit, environment=environment, kind=kind, name=entity)
    more = encode_cursor(changes[-1].revision) if len(changes) == limit else None
    shown = [ChangeOut.of(change) for change in changes if may_see(caller, change.entity)]
    return Page(items=shown, next=more)


@router.get("/writes/{intent}", responses=READ, summary="What became of a write answered 504")
async def get_write(
    response: Response,
    log: Log,
    follower: Following,
    intent: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
    caller: Calling,
) -> WriteStateOut:
    response.headers[REVISION_HEADER] = str(follower.revision)
    found = await log.intent(intent)
    if not may_see(caller, found.entity):
        raise IntentNotFound(intent)  # that somebody else writes there is told to nobody
    return WriteStateOut.of(found)
