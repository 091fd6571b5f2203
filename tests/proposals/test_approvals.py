"""Which approvals of a proposal count: for any authors, reviewers, ages and policies."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.access.identity import Lineage
from app.proposals.approvals import tally_of
from app.proposals.model import Author, ItemOutcome, Proposal, ProposalItem, Review, Target
from app.proposals.serialization import COLUMNS, proposal_json, read_proposal
from app.rules.policies.model import Requirements

NOW = datetime(2026, 1, 2, tzinfo=UTC)
# The root has made `a` and `b`; `a` has made `c`, and nobody knows who has made `x`.
MAKERS = {"a": "token:root", "b": "token:root", "c": "token:a"}
LINEAGE = Lineage(MAKERS.get, frozenset({"root"}))
RELATED: dict[str, set[str]] = {
    "token:root": {"token:root", "token:a", "token:b", "token:c", "token:x"},
    "token:a": {"token:root", "token:a", "token:c", "token:x"},
    "token:b": {"token:root", "token:b", "token:x"},
    "token:c": {"token:root", "token:a", "token:c", "token:x"},
    "person:i#p": {"person:i#p", "token:x"},
    "person:i#q": {"person:i#q", "token:x"},
}
IDENTITIES = st.sampled_from([*RELATED, "token:x", None])
REVIEWS = st.lists(
    st.builds(
        Review,
        st.integers(1, 2),
        st.sampled_from(["approve", "refuse", "remark"]),
        st.just(""),
        st.just("somebody"),
        IDENTITIES,
        st.integers(0, 100).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        st.sampled_from([(), ("change:approve",), ("change:approve", "policy:write")]),
    ),
    max_size=8,
).map(tuple)
PROPOSALS = st.builds(
    lambda authors, reviews, outcome: Proposal(
        "p-1",
        "title",
        "open",
        2,
        (ProposalItem(Target("config", "e", "s"), "patch", 1, (("e", "s"),), ("a",), 2, outcome),),
        tuple(Author("name", identity) for identity in authors),
        NOW,
        NOW,
        reviews=reviews,
    ),
    st.lists(IDENTITIES, min_size=1, max_size=3),
    REVIEWS,
    st.sampled_from([None, ItemOutcome("failed", 1, 2, "code", "detail")]),
)
REQUIREMENTS = st.builds(
    Requirements,
    st.just(("p",)),
    st.integers(1, 3),
    st.sampled_from([frozenset({"publisher", "admin"}), frozenset({"admin"})]),
    st.booleans(),
    st.sampled_from([None, 60, 3000]),
    st.just("approved"),
    st.just(()),
)


def is_related(one: str | None, other: str | None) -> bool:
    """Whoever is not known, or has a maker who is not, is related to all."""
    return None in (one, other) or "token:x" in (one, other) or other in RELATED[str(one)]


def counts(proposal: Proposal, asked: Requirements | None, review: Review) -> bool:
    if review.verdict != "approve" or any(
        is_related(author.identity, review.identity) for author in proposal.authors
    ):
        return False
    if asked is None:
        return True
    is_person = str(review.identity).startswith("person:")
    right = "change:approve" if "publisher" in asked.of else "policy:write"
    is_valid = asked.valid_for is None or NOW - review.at < timedelta(seconds=asked.valid_for)
    return (is_person or not asked.people_only) and right in review.rights and is_valid


@given(PROPOSALS, st.one_of(st.none(), REQUIREMENTS))
def test_the_newest_verdicts_of_others_count(
    proposal: Proposal, asked: Requirements | None
) -> None:
    newest: dict[object, Review] = {}
    for review in proposal.reviews:
        if review.round == proposal.round and review.verdict != "remark":
            newest[review.identity] = review
    expected = [review for review in newest.values() if counts(proposal, asked, review)]

    tally = tally_of(proposal, asked, LINEAGE, NOW)

    assert list(tally.approvals) == expected
    assert tally.is_enough == (asked is None or len(expected) >= asked.approvals)


@given(PROPOSALS)
def test_what_is_stored_is_read_as_it_was(proposal: Proposal) -> None:
    columns = {name: getattr(proposal, name) for name in COLUMNS}

    assert read_proposal(columns, json.loads(json.dumps(proposal_json(proposal)))) == proposal
