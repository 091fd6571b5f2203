"""Routes of who reads which version of a configuration."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.access.errors import Denied
from app.access.model import Right
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.configs.model import document_id
from app.proposals.releases.api.router_releases import Readers
from app.proposals.releases.api.schemas import ReaderOut, ReaderReportIn
from app.proposals.releases.readers.model import Place, Report
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import NAME, READ, with_headers
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS

router = APIRouter(
    prefix="/api/v1/readers",
    tags=["releases"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Filter = Annotated[str | None, Query(description="Only of this one.", json_schema_extra=NAME)]


@router.get("", responses=READ, summary="Which instance reads which version")
async def list_readers(
    response: Response,
    readers: Readers,
    caller: CurrentCaller,
    follower: Following,
    environment: Filter = None,
    service_name: Filter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ReaderOut]:
    """Of instances that read with `instance`; what they read is shown after a few seconds."""
    if not caller.has_right_anywhere(Right.READ_CONFIGS):
        raise Denied(Right.READ_CONFIGS, "", "")
    response.headers[REVISION_HEADER] = str(follower.revision)
    after = decode_cursor(cursor, str, str, str) if cursor else None
    page, is_more = await readers.page(
        environment,
        service_name,
        after,
        limit,
        lambda place: caller.may(Right.READ_CONFIGS, place.environment, place.service),
    )
    more = None
    if page and is_more:
        last = page[-1].place
        more = encode_cursor(last.environment, last.service, last.instance)
    return Page(items=[ReaderOut.of(each) for each in page], next=more)


@router.post(
    "",
    status_code=204,
    responses=with_headers(status=204),
    summary="Say what an instance makes of what it has read",
)
async def report(body: ReaderReportIn, readers: Readers, caller: CurrentCaller) -> None:
    """Where no release is running; else the report belongs to the release."""
    document = document_id(body.environment, body.service_name, None)
    caller.demand(Right.REPORT_RELEASES, document.environment, document.service)
    place = Place(document.environment, document.service, body.instance)
    await readers.report(place, Report(body.outcome, body.code))
