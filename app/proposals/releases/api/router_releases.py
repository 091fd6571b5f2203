"""Routes of releases: their state, moving them by hand, and the reports of instances."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.errors import Denied
from app.access.model import Caller, Right
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.proposals.releases.api.schemas import (
    MoveIn,
    ReleaseAbortIn,
    ReleaseOut,
    ReleaseReportIn,
    StateName,
)
from app.proposals.releases.errors import ReleaseNotFound
from app.proposals.releases.model import Origin, Release, Selection
from app.proposals.releases.readers.model import Place, Report
from app.proposals.releases.readers.service import ReaderService
from app.proposals.releases.service import ALERT, MANUAL, ReleaseService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, etag
from app.web.freshness import adds_stale_header
from app.web.openapi import NAME, READ, TAGGED, WRITTEN, with_headers
from app.web.paging import BadCursor, Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

router = APIRouter(
    prefix="/api/v1/releases",
    tags=["releases"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Releases = Annotated[ReleaseService, from_state("releases")]
Readers = Annotated[ReaderService, from_state("readers")]
ReleaseId = Annotated[str, Path(max_length=63, description="Id of the release.")]
Filter = Annotated[str | None, Query(description="Only of this one.", json_schema_extra=NAME)]
Move = Callable[[str, Origin], Awaitable[Release]]


@router.get("", responses=READ, summary="List releases, the newest first")
async def list_releases(
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
    follower: Following,
    environment: Filter = None,
    service_name: Filter = None,
    state: Annotated[list[StateName] | None, Query(description="Only in these states.")] = None,
    proposal: Annotated[
        str | None, Query(max_length=63, description="Only of this proposal.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ReleaseOut]:
    _demand_read(caller)
    response.headers[REVISION_HEADER] = str(follower.revision)
    states = None if state is None else frozenset(state)
    selection = Selection(environment, service_name, states, proposal)
    page, is_more = await releases.page(
        selection, _place_of(cursor), limit, lambda each: may_see_release(caller, each)
    )
    counts = await readers.counts([each.id for each in page])
    last = page[-1] if page else None
    more = encode_cursor(last.started_at.isoformat(), last.id) if last and is_more else None
    return Page(items=[ReleaseOut.of(each, counts.get(each.id)) for each in page], next=more)


@router.get("/{release_id}", responses=TAGGED, summary="Read a release")
async def get_release(
    release_id: ReleaseId,
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
    follower: Following,
) -> ReleaseOut:
    release = await _visible(releases, release_id, caller)
    response.headers[REVISION_HEADER] = str(follower.revision)
    return await _answer(response, readers, release)


@router.post("/{release_id}/next", responses=WRITTEN, summary="Take the next step now")
async def advance(
    release_id: ReleaseId,
    body: MoveIn,
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> ReleaseOut:
    """After the last step, the change is written and the release is done."""
    await _demand_apply(releases, release_id, caller)
    moved = await releases.advance(release_id, _origin(caller, body.comment), expected)
    return await _answer(response, readers, moved)


@router.post("/{release_id}/hold", responses=WRITTEN, summary="Stay at the step")
async def hold(
    release_id: ReleaseId,
    body: MoveIn,
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> ReleaseOut:
    """Signals still abort it."""
    await _demand_apply(releases, release_id, caller)
    moved = await releases.hold(release_id, _origin(caller, body.comment), expected)
    return await _answer(response, readers, moved)


@router.post("/{release_id}/resume", responses=WRITTEN, summary="Continue a release that is held")
async def resume(
    release_id: ReleaseId,
    body: MoveIn,
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> ReleaseOut:
    """The time of its step begins again."""
    await _demand_apply(releases, release_id, caller)
    moved = await releases.resume(release_id, _origin(caller, body.comment), expected)
    return await _answer(response, readers, moved)


@router.post(
    "/{release_id}/abort", responses=WRITTEN, summary="Take the candidate back from every instance"
)
async def abort(
    release_id: ReleaseId,
    body: ReleaseAbortIn,
    response: Response,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
) -> ReleaseOut:
    """Alertmanager may call it as a webhook. A release that was aborted before stays as it is."""
    await _demand_apply(releases, release_id, caller)
    if body.status == "resolved":
        return await _answer(response, readers, await releases.store.get(release_id))
    signal = MANUAL if body.status is None else ALERT
    comment = body.comment or ("an alert is firing" if signal == ALERT else "")
    aborted = await releases.abort(release_id, _origin(caller, comment), signal)
    return await _answer(response, readers, aborted)


@router.post(
    "/{release_id}/reports",
    status_code=204,
    responses=with_headers(status=204),
    summary="Say what an instance makes of its arm",
)
async def report(
    release_id: ReleaseId,
    body: ReleaseReportIn,
    releases: Releases,
    readers: Readers,
    caller: CurrentCaller,
) -> None:
    """A refusal may abort the release at once; of one release it stays."""
    if not caller.has_right_anywhere(Right.REPORT_RELEASES):
        raise Denied(Right.REPORT_RELEASES, "", "")
    release = await releases.store.get(release_id)
    subject = release.subject
    if not caller.may(Right.REPORT_RELEASES, subject.environment, subject.service):
        if not may_see_release(caller, release):
            raise ReleaseNotFound(release_id)
        caller.demand(Right.REPORT_RELEASES, subject.environment, subject.service)
    place = Place(subject.environment, subject.service, body.instance)
    await readers.report(place, Report(body.outcome, body.code, release_id, body.arm))


def may_see_release(caller: Caller, release: Release) -> bool:
    subject = release.subject
    if subject.kind == "flag":
        return caller.may(Right.READ_FLAGS, subject.environment)
    return caller.may(Right.READ_CONFIGS, subject.environment, subject.service)


def _demand_read(caller: Caller) -> None:
    if not caller.has_right_anywhere(Right.READ_CONFIGS):
        raise Denied(Right.READ_CONFIGS, "", "")


async def _visible(releases: ReleaseService, release_id: str, caller: Caller) -> Release:
    _demand_read(caller)
    release = await releases.store.get(release_id)
    if not may_see_release(caller, release):
        raise ReleaseNotFound(release_id)
    return release


async def _demand_apply(releases: ReleaseService, release_id: str, caller: Caller) -> None:
    subject = (await _visible(releases, release_id, caller)).subject
    caller.demand(Right.APPLY_CHANGES, subject.environment, subject.service)


def _origin(caller: Caller, comment: str) -> Origin:
    return Origin(caller.actor(), caller.request_id, caller.source or None, comment)


def _place_of(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    moment, release_id = decode_cursor(cursor, str, str)
    try:
        return datetime.fromisoformat(moment).astimezone(UTC), release_id
    except (ValueError, OverflowError) as error:
        raise BadCursor from error


async def _answer(response: Response, readers: ReaderService, release: Release) -> ReleaseOut:
    response.headers["ETag"] = etag(str(release.version))
    response.headers.setdefault(REVISION_HEADER, str(release.revision))
    counts = await readers.counts([release.id])
    return ReleaseOut.of(release, counts.get(release.id))
