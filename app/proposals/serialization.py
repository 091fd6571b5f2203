"""Proposals as JSON, for the rows of the stores."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from app.proposals.model import Author, ItemOutcome, Proposal, ProposalItem, Review, Target

# The stores keep these in columns of their own.
COLUMNS = ("id", "version", "number", "revision", "created_at", "updated_at", "apply_at", "state")


def proposal_json(proposal: Proposal) -> dict[str, Any]:
    """Return what is stored of a proposal besides the columns of its row."""
    members = asdict(proposal)
    for column in COLUMNS:
        del members[column]
    for review in members["reviews"]:
        review["at"] = review["at"].isoformat()
    return members


def read_proposal(columns: Mapping[str, Any], members: Mapping[str, Any]) -> Proposal:
    """Return the proposal that `proposal_json` made an object of."""
    rest = dict(members)
    return Proposal(
        **{column: columns[column] for column in COLUMNS},
        items=tuple(_read_item(item) for item in rest.pop("items")),
        authors=tuple(Author(**author) for author in rest.pop("authors")),
        reviews=tuple(
            Review(
                **{
                    **review,
                    "at": datetime.fromisoformat(review["at"]),
                    "rights": tuple(review["rights"]),
                }
            )
            for review in rest.pop("reviews")
        ),
        **rest,
    )


def _read_item(raw: Mapping[str, Any]) -> ProposalItem:
    outcome = raw["outcome"]
    return ProposalItem(
        Target(**raw["target"]),
        raw["operation"],
        raw["base"],
        tuple((environment, service) for environment, service in raw["places"]),
        tuple(raw["keys"]),
        raw["pin"],
        None if outcome is None else ItemOutcome(**outcome),
    )
