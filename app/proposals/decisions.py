"""Decisions on proposals: reviews, when they are applied, and withdrawals."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from app.access.model import Caller, Right
from app.proposals.approvals import is_related_to_authors, refusal_of
from app.proposals.errors import (
    ApprovalsMissing,
    BadSchedule,
    ChecksFailed,
    ProposalStale,
    ReviewerNotAsked,
    ReviewerUnknown,
    RoundMoved,
    SelfApproval,
    TooManyReviews,
    WindowClosed,
    WrongState,
)
from app.proposals.model import (
    MOST_REVIEWS,
    REVISABLE_STATES,
    Proposal,
    Review,
    State,
    Verdict,
)
from app.proposals.reading import ProposalReader, author_of, demand_everywhere
from app.proposals.rounds import commit_by

_LATEST = timedelta(days=366)
_DECIDABLE: Final[frozenset[State]] = frozenset({"open", "approved", "scheduled"})


@dataclass(frozen=True, slots=True)
class DecisionService:
    """`started` has what the applier of this replica is to continue at once."""

    reader: ProposalReader
    started: asyncio.Queue[Proposal] = field(default_factory=asyncio.Queue)

    async def review(
        self, proposal: Proposal, round_: int, verdict: Verdict, text: str, caller: Caller
    ) -> Proposal:
        """Add a review of one round, or a remark; the last approval needed makes it approved.

        Raises RoundMoved, WrongState, SelfApproval, ReviewerUnknown, ReviewerNotAsked, Denied,
        TooManyReviews, ChecksFailed and ProposalStale.
        """
        if round_ != proposal.round:
            raise RoundMoved(proposal.round)
        if proposal.state == "applying":  # each remark would send its holder back
            raise WrongState("reviewed", proposal.state)
        if len(proposal.reviews) >= MOST_REVIEWS:
            raise TooManyReviews(MOST_REVIEWS)
        now = await self.reader.store.now()
        review = self.reader.review_by(proposal, verdict, text, caller, now)
        if verdict != "remark":
            await self._refuse_verdict(proposal, review, caller)
        reviewed = replace(proposal, reviews=(*proposal.reviews, review))
        if verdict == "refuse":
            reviewed = replace(reviewed, state="refused", apply_at=None)
        elif proposal.state == "open" and self.reader.tally(reviewed, now).is_enough:
            reviewed = replace(reviewed, state="approved")
        facts = {"step": "reviewed", "verdict": verdict}
        return await self._replace(reviewed, caller, text, facts)

    async def _refuse_verdict(self, proposal: Proposal, review: Review, caller: Caller) -> None:
        refuse_undecidable(proposal, "reviewed")
        if not caller.is_known:
            raise ReviewerUnknown
        demand_everywhere(caller, Right.APPROVE_CHANGES, proposal.items)
        if review.verdict == "refuse":
            return
        lineage = self.reader.lineage
        if is_related_to_authors(proposal, lineage, review.identity):
            raise SelfApproval
        asked = self.reader.requirements(proposal.items)
        if why := refusal_of(proposal, asked, lineage, review, review.at):
            raise ReviewerNotAsked(why)
        await self.refuse_unsound(proposal)

    async def withdraw(self, proposal: Proposal, caller: Caller, comment: str) -> Proposal:
        """Close a proposal; its authors may, and callers who may apply it.

        Raises WrongState and Denied.
        """
        if proposal.state not in REVISABLE_STATES:
            raise WrongState("withdrawn", proposal.state)
        if not caller.is_known or author_of(caller) not in proposal.authors:
            demand_apply(caller, proposal)
        withdrawn = replace(proposal, state="withdrawn", apply_at=None)
        return await self._replace(withdrawn, caller, comment, {"step": "withdrawn"})

    async def apply(
        self, proposal: Proposal, caller: Caller, at: datetime | None, comment: str
    ) -> Proposal:
        """Begin to apply a proposal, or schedule it for a time of the store's clock.

        Raises Denied, WrongState, ApprovalsMissing, WindowClosed, ProposalStale, ChecksFailed and
        BadSchedule.
        """
        refuse_undecidable(proposal, "applied")
        demand_apply(caller, proposal)
        now = await self.reader.store.now()
        if at is not None:
            _refuse_time(at, now)
        # Pinned before the last check: what is written after the check has another version.
        pinned = await self.with_pins(proposal)
        await self.refuse_unready(proposal, now, at or now)
        if at is not None:
            scheduled = replace(proposal, state="scheduled", apply_at=at, applied_by=caller.actor())
            facts = {"step": "scheduled", "at": at.isoformat()}
            return await self._replace(scheduled, caller, comment, facts)
        started = replace(pinned, applied_by=caller.actor())
        started = await self._replace(started, caller, comment, {"step": "started"})
        self.started.put_nowait(started)
        return started

    async def unschedule(self, proposal: Proposal, caller: Caller, comment: str) -> Proposal:
        """Let a scheduled proposal wait until a caller applies it; raises WrongState and Denied."""
        if proposal.state != "scheduled":
            raise WrongState("unscheduled", proposal.state)
        demand_apply(caller, proposal)
        waiting = replace(proposal, state="approved", apply_at=None)
        return await self._replace(waiting, caller, comment, {"step": "unscheduled"})

    async def refuse_unready(self, proposal: Proposal, now: datetime, at: datetime) -> None:
        """Raise ApprovalsMissing, WindowClosed, ProposalStale or ChecksFailed.

        The approvals are those that count `now`, the policies must not be closed `at` a time.
        """
        tally = self.reader.tally(proposal, now)
        if not tally.is_enough:
            raise ApprovalsMissing(tally.needed_count, tally.given_count)
        asked = self.reader.requirements(proposal.items)
        if asked is not None and asked.is_closed_at(at):
            raise WindowClosed(asked.policies[0])
        await self.refuse_unsound(proposal)

    async def refuse_unsound(self, proposal: Proposal) -> None:
        """Raise ProposalStale or ChecksFailed if the items cannot be written as they are."""
        if stale := await self.reader.stale_items(proposal):
            raise ProposalStale(list(stale.items()))
        if flaws := await self.reader.check(proposal):
            raise ChecksFailed(flaws)

    async def with_pins(self, proposal: Proposal) -> Proposal:
        """Return a proposal that is being applied, each item on top of what exists now."""
        items = [
            replace(item, pin=await self.reader.handler(item).current_version(item))
            for item in proposal.items
        ]
        return replace(proposal, state="applying", items=tuple(items), apply_at=None)

    async def _replace(
        self, proposal: Proposal, caller: Caller, comment: str, facts: Mapping[str, Any]
    ) -> Proposal:
        return await self.reader.store.replace(commit_by(caller, proposal, comment, facts))


def refuse_undecidable(proposal: Proposal, action: str) -> None:
    """Raise WrongState if the proposal has ended, or is being applied."""
    if proposal.state not in _DECIDABLE:
        raise WrongState(action, proposal.state)


def demand_apply(caller: Caller, proposal: Proposal) -> None:
    """Raise Denied unless the caller may apply every item.

    Callers who may write somewhere may apply there too: in protected environments, publishers.
    """
    for item in proposal.items:
        for environment, service in item.places:
            if not _may_write(caller, item.target.kind, environment, service):
                caller.demand(Right.APPLY_CHANGES, environment, service)


def _may_write(caller: Caller, kind: str, environment: str, service: str) -> bool:
    if kind == "config":
        return caller.may(Right.WRITE_CONFIGS, environment, service)
    return kind in {"flag", "segment"} and caller.may(Right.WRITE_FLAGS, environment, service)


def _refuse_time(at: datetime, now: datetime) -> None:
    if not now < at <= now + _LATEST:
        raise BadSchedule("the time must lie in the future, and at most 366 days from now")
