"""The list of stale flags, over all environments that the caller may read."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    min_revision_dependency,
    wait_until_followed,
)
from app.flags.api.requests import ALL_ENVIRONMENTS, Flags
from app.flags.api.stale_schemas import StaleFlagOut
from app.flags.stale import Reason, StaleFilter
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import READ
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS

router = APIRouter(
    tags=["feature flags"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)


@router.get("/api/v1/stale-flags", responses=READ, summary="List stale flags")
async def stale_flags(
    response: Response,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
    environment: Annotated[
        str | None, Query(description="Default and `*`: all that the caller may read.")
    ] = None,
    owner: Annotated[
        str | None, Query(description="Only flags of exactly this owner; empty: without an owner.")
    ] = None,
    days: Annotated[
        int,
        Query(ge=0, le=36_500, description="Only flags that are stale for so many days."),
    ] = 30,
    reason: Annotated[Reason | None, Query(description="Only for this reason.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[StaleFlagOut]:
    """Flags that may be removed: their owner, their age, and why they are stale since when.

    Archived flags are not listed. An expired flag is listed whatever `days` says.
    """
    if environment in {None, ALL_ENVIRONMENTS}:
        names = [name for name in flags.environments() if caller.may(Right.READ_FLAGS, name)]
    else:
        assert environment is not None
        caller.demand(Right.READ_FLAGS, environment)
        names = [flags.environment(environment).name]

    def newest() -> int:
        return max((flags.environment(name).revision for name in names), default=0)

    response.headers[REVISION_HEADER] = str(await wait_until_followed(follower, newest))
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    wanted = StaleFilter(days, owner, reason)
    page = await flags.stale.list_flags(names, wanted, after, limit + 1)
    now = datetime.now(UTC)
    items = [StaleFlagOut.of(flag, now) for flag in page[:limit]]
    more = encode_cursor(items[-1].environment, items[-1].name) if len(page) > limit else None
    return Page[StaleFlagOut](items=items, next=more)
