"""Routes of proposals: made, revised, reviewed, applied and withdrawn."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER
from app.proposals.api.schemas import (
    ApplyProposalIn,
    DecisionIn,
    NextRoundIn,
    ProposalIn,
    ProposalOut,
    ProposalPreviewOut,
    ProposalSummaryOut,
    VerdictIn,
)
from app.proposals.decisions import DecisionService
from app.proposals.errors import BadRound, BadSchedule
from app.proposals.model import Proposal, ProposalFilter, State
from app.proposals.reading import ProposalReader
from app.proposals.releasing import ReleasingService
from app.proposals.rounds import RoundSent, RoundService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, etag
from app.web.openapi import NAME, with_headers
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.workers import is_large_request
from pilothouse_core.times import seconds_of

PROPOSALS = "/api/v1/proposals"
router = APIRouter(
    prefix=PROPOSALS, tags=["proposals"], route_class=StrictRoute, responses=PROBLEMS
)
Reader = Annotated[ProposalReader, from_state("proposals")]
Rounds = Annotated[RoundService, from_state("proposal_rounds")]
Releasing = Annotated[ReleasingService, from_state("proposal_releases")]
Decisions = Annotated[DecisionService, from_state("proposal_decisions")]
ProposalId = Annotated[str, Path(max_length=40, json_schema_extra={"pattern": "^p-[a-z0-9]+$"})]
DryRun = Annotated[bool, Query(description="Report what would be proposed, and store nothing.")]
_WRITTEN = with_headers("ETag", "X-Revision")
_CREATED = with_headers("ETag", "Location", "X-Revision", status=201)
_ACCEPTED = with_headers("ETag", "X-Revision", status=202)


@router.post(
    "",
    status_code=201,
    response_model=ProposalOut,
    responses={
        **_CREATED,
        200: {
            "model": ProposalPreviewOut | ProposalOut,
            "description": "With `dry_run`: what would be proposed. Else the proposal that the "
            "same request has made before.",
        },
    },
    summary="Propose changes",
)
async def create_proposal(
    body: ProposalIn,
    reader: Reader,
    rounds: Rounds,
    caller: CurrentCaller,
    idempotency: Idempotent,
    *,
    dry_run: DryRun = False,
) -> Response:
    """All items are checked as writes would be, and their secrets encrypted at once. Without a
    policy that asks for approvals, the proposal is approved.
    """
    sent = body.round_sent()
    if dry_run:
        made = await rounds.draft(sent, caller)
        return await model_response(
            is_large_request(), lambda: ProposalPreviewOut.of_round(made), {}
        )
    proposal, is_new = await rounds.create(sent, caller, idempotency)
    location = {"Location": f"{PROPOSALS}/{proposal.id}"} if is_new else {}
    return await _answer(reader, proposal, 201 if is_new else 200, location)


@router.get("", summary="List proposals, the newest first")
async def list_proposals(
    reader: Reader,
    caller: CurrentCaller,
    state: Annotated[list[State] | None, Query(description="May be repeated.")] = None,
    environment: Annotated[str | None, Query(json_schema_extra=NAME)] = None,
    author: Annotated[str | None, Query(max_length=200)] = None,
    *,
    waiting_for_me: Annotated[
        bool, Query(description="Only those that an approval of the caller would count for.")
    ] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ProposalSummaryOut]:
    """Only proposals all of whose items the caller may read."""
    before = decode_cursor(cursor, int)[0] if cursor else None
    filters = ProposalFilter(frozenset(state) if state else None, environment, author)
    page = await reader.proposals(
        caller, filters, limit + 1, before, is_waiting_for_caller=waiting_for_me
    )
    more = encode_cursor(page[limit - 1].number) if len(page) > limit else None
    return Page(items=[ProposalSummaryOut.of_proposal(each) for each in page[:limit]], next=more)


@router.get(
    "/{proposal_id}",
    response_model=ProposalOut,
    responses=_WRITTEN,
    summary="Read a proposal: what it changes, its reviews and its checks",
)
async def get_proposal(proposal_id: ProposalId, reader: Reader, caller: CurrentCaller) -> Response:
    return await _answer(reader, await reader.proposal(proposal_id, caller))


@router.patch(
    "/{proposal_id}",
    response_model=ProposalOut,
    responses=_WRITTEN,
    summary="Write another round of a proposal",
)
async def revise_proposal(
    proposal_id: ProposalId,
    body: NextRoundIn,
    reader: Reader,
    rounds: Rounds,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    """Reviews of earlier rounds count no more. `If-Match` states the round."""
    proposal = await reader.proposal(proposal_id, caller)
    if (body.items is None) == (body.rebase is None):
        raise BadRound
    proposal = replace(
        proposal,
        title=proposal.title if body.title is None else body.title,
        description=proposal.description if body.description is None else body.description,
        on_failure=proposal.on_failure if body.on_failure is None else body.on_failure,
    )
    if body.rebase is not None:
        revised = await rounds.rebase(proposal, body.rebase, caller, expected)
    else:
        items = [item.item_sent(number) for number, item in enumerate(body.items or ())]
        sent = RoundSent(proposal.title, proposal.description, proposal.on_failure, items)
        revised = await rounds.revise(proposal, sent, caller, expected)
    return await _answer(reader, revised)


@router.post(
    "/{proposal_id}/reviews",
    status_code=201,
    response_model=ProposalOut,
    responses=with_headers("ETag", "X-Revision", status=201),
    summary="Approve or refuse a round, or remark on it",
)
async def review_proposal(
    proposal_id: ProposalId,
    body: VerdictIn,
    reader: Reader,
    decisions: Decisions,
    caller: CurrentCaller,
) -> Response:
    """Authors of any round do not approve, nor a token related to theirs. The
    newest verdict of a reviewer counts.
    """
    proposal = await reader.proposal(proposal_id, caller)
    reviewed = await decisions.review(proposal, body.round, body.verdict, body.text, caller)
    return await _answer(reader, reviewed, 201)


@router.post(
    "/{proposal_id}/apply",
    status_code=202,
    response_model=ProposalOut,
    responses=_ACCEPTED,
    summary="Apply a proposal, now or at a time",
)
async def apply_proposal(
    proposal_id: ProposalId,
    body: ApplyProposalIn,
    reader: Reader,
    decisions: Decisions,
    releasing: Releasing,
    caller: CurrentCaller,
) -> Response:
    """Answered before it is applied: read the proposal, or follow the stream.

    With `release`, first a few instances of the service get the change, then more, and all; if
    a signal is bad, it is taken back.
    """
    proposal = await reader.proposal(proposal_id, caller)
    if body.release is not None:
        if body.at is not None:
            raise BadSchedule("a release begins at once; state either `at` or `release`")
        started = await releasing.release(proposal, body.release, caller, body.comment)
    else:
        started = await decisions.apply(proposal, caller, _time(body.at), body.comment)
    return await _answer(reader, started, 202)


@router.post(
    "/{proposal_id}/unschedule",
    response_model=ProposalOut,
    responses=_WRITTEN,
    summary="Take back the time at which a proposal is applied",
)
async def unschedule_proposal(
    proposal_id: ProposalId,
    body: DecisionIn,
    reader: Reader,
    decisions: Decisions,
    caller: CurrentCaller,
) -> Response:
    proposal = await reader.proposal(proposal_id, caller)
    return await _answer(reader, await decisions.unschedule(proposal, caller, body.comment))


@router.post(
    "/{proposal_id}/withdraw",
    response_model=ProposalOut,
    responses=_WRITTEN,
    summary="Withdraw a proposal",
)
async def withdraw_proposal(
    proposal_id: ProposalId,
    body: DecisionIn,
    reader: Reader,
    decisions: Decisions,
    caller: CurrentCaller,
) -> Response:
    """Its authors may, and callers who may apply it."""
    proposal = await reader.proposal(proposal_id, caller)
    return await _answer(reader, await decisions.withdraw(proposal, caller, body.comment))


async def _answer(
    reader: ProposalReader,
    proposal: Proposal,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    details = await reader.details(proposal)
    made = {
        **(headers or {}),
        "ETag": etag(str(proposal.round)),
        REVISION_HEADER: str(proposal.revision),
    }
    return await model_response(
        is_large_request(), lambda: ProposalOut.of_details(details), made, status
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    seconds = seconds_of(text)
    if seconds is None:
        raise BadSchedule("must be a time such as 2026-03-01T08:00:00Z")
    return datetime.fromtimestamp(seconds, UTC)
