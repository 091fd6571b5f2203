"""Which approvals of a proposal count. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.access.identity import Lineage
from app.proposals.model import Proposal, Review
from app.rules.policies.model import Requirements

_PERSON = "person:"


@dataclass(frozen=True, slots=True)
class Tally:
    """The approvals that count, and what the policies ask for; None: nothing."""

    approvals: Sequence[Review]
    asked: Requirements | None = None

    @property
    def needed_count(self) -> int:
        return 0 if self.asked is None else self.asked.approvals

    @property
    def given_count(self) -> int:
        return len(self.approvals)

    @property
    def is_enough(self) -> bool:
        return self.given_count >= self.needed_count


def tally_of(
    proposal: Proposal, requirements: Requirements | None, lineage: Lineage, now: datetime
) -> Tally:
    """Count the approvals of the current round, as the policies ask for them at `now`."""
    approvals = [
        review
        for review in proposal.newest_verdicts()
        if review.verdict == "approve"
        and refusal_of(proposal, requirements, lineage, review, now) is None
    ]
    return Tally(approvals, requirements)


def refusal_of(
    proposal: Proposal,
    requirements: Requirements | None,
    lineage: Lineage,
    review: Review,
    now: datetime,
) -> str | None:
    """Return why an approval does not count, None if it does."""
    if is_related_to_authors(proposal, lineage, review.identity):
        return "the reviewer is an author, or related to one"
    if requirements is None:
        return None
    if requirements.people_only and not (review.identity or "").startswith(_PERSON):
        return "only people may approve, no tokens"
    if requirements.approver_right not in review.rights:
        return f"the reviewer lacks the right {requirements.approver_right.value!r} there"
    life = requirements.valid_for
    if life is not None and review.at + timedelta(seconds=life) <= now:
        return "it was given too long ago"
    return None


def is_related_to_authors(proposal: Proposal, lineage: Lineage, identity: str | None) -> bool:
    """Tell whether an identity wrote a round, or is related to one that did."""
    return lineage.relations(author.identity for author in proposal.authors).includes(identity)
