"""Proposals as they are stored: items, rounds, reviews and outcomes, without any value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from app.changes.model import Entity

ItemKind = Literal["config", "flag", "segment", "schema", "template", "policy"]
Operation = Literal["patch", "replace", "delete", "restore", "archive"]
OnFailure = Literal["stop", "undo"]
Verdict = Literal["approve", "refuse", "remark"]
State = Literal[
    "open",
    "approved",
    "scheduled",
    "applying",
    "applied",
    "partly_applied",
    "not_applied",
    "undone",
    "refused",
    "withdrawn",
    "outdated",
    "missed",
    "releasing",
    "aborted",
]
ItemState = Literal["applied", "unchanged", "stale", "failed", "skipped", "undone"]

KIND: Final = "proposal"
ANY: Final = "*"  # several environments or services, or none
# States in which a proposal may still be applied.
OPEN_STATES: Final[frozenset[State]] = frozenset(
    {"open", "approved", "scheduled", "applying", "releasing"}
)
# A new round opens a proposal again in these.
REVISABLE_STATES: Final[frozenset[State]] = frozenset(
    {
        "open",
        "approved",
        "scheduled",
        "refused",
        "outdated",
        "missed",
        "not_applied",
        "undone",
        "aborted",
    }
)
MOST_ITEMS: Final = 200
MOST_REVIEWS: Final = 1000
MOST_OPEN: Final = 1000
BASE_ENVIRONMENT: Final = "default"  # of what belongs to the whole installation


@dataclass(frozen=True, slots=True)
class Target:
    """What an item changes.

    `service` is "" for what belongs to no service; `name` is that of a flag, segment, schema,
    template or policy, or of the user of a configuration, "" for a layer of all users.
    """

    kind: ItemKind
    environment: str
    service: str = ""
    name: str = ""

    def __str__(self) -> str:
        if self.kind != "config":
            return f"{self.kind} {self.name} in {self.environment}"
        of_user = f" for {self.name}" if self.name else ""
        return f"{self.environment}/{self.service}{of_user}"


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of an item; `code` is that of the problem, where there was one."""

    state: ItemState
    version: int = 0
    revision: int = 0
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProposalItem:
    """One item, without what it sets, which is in the body of the round.

    `places` are the environments and services that it reaches, patterns for a schema, template or
    policy; the service is "" for flags and segments. `base` is the version that it was drafted
    from, 0 for none. `keys` are the keys that a patch sets or removes; an item without keys is
    about the whole of its target. `pin` is the version that applying demands, once it has begun.
    """

    target: Target
    operation: Operation
    base: int
    places: tuple[tuple[str, str], ...]
    keys: tuple[str, ...] = ()
    pin: int | None = None
    outcome: ItemOutcome | None = None


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a round: the actor as it is shown, and the identity, which no other has."""

    actor: str
    identity: str | None


@dataclass(frozen=True, slots=True)
class Review:
    """What a caller says of one round; callers of one name differ by `identity`."""

    round: int
    verdict: Verdict
    text: str
    actor: str
    identity: str | None
    at: datetime
    rights: tuple[str, ...] = ()  # to decide, that the reviewer had at every place then


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal of one or more items, in its current round.

    `version` counts the changes of its row, for compare-and-set; `number` is its place in the
    order of creation. `authors` are those of all rounds.
    """

    id: str
    title: str
    state: State
    round: int
    items: tuple[ProposalItem, ...]
    authors: tuple[Author, ...]
    created_at: datetime
    updated_at: datetime
    description: str = ""
    on_failure: OnFailure = "stop"
    reviews: tuple[Review, ...] = ()
    apply_at: datetime | None = None
    applied_by: str = ""  # who asked for it to be applied
    reason: str = ""  # why it was not applied: the code of a problem
    release: Mapping[str, object] | None = None  # how it is released to a few first
    release_id: str = ""
    version: int = 0
    number: int = 0
    revision: int = 0

    @property
    def entity(self) -> Entity:
        environments = {item.target.environment for item in self.items}
        services = {item.target.service for item in self.items}
        environment = environments.pop() if len(environments) == 1 else ANY
        service = services.pop() if len(services) == 1 else ""
        return Entity(KIND, environment, f"{service or ANY}/{self.id}", f"proposals/{self.id}")

    @property
    def body_name(self) -> str:
        """The name of what the items of this round set."""
        return f"{self.id}.{self.round}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def outcomes(self) -> Sequence[ItemOutcome]:
        return [item.outcome for item in self.items if item.outcome is not None]

    def reviews_of_round(self) -> Sequence[Review]:
        return [review for review in self.reviews if review.round == self.round]

    def newest_verdicts(self) -> Sequence[Review]:
        """Return the newest verdict of each reviewer of this round, without remarks."""
        newest: dict[str, Review] = {}
        for review in self.reviews_of_round():
            if review.verdict != "remark":
                newest[review.identity or review.actor] = review
        return list(newest.values())


@dataclass(frozen=True, slots=True)
class ProposalCommit:
    """One change of a row, with what the log and the audit say of it.

    `proposal.version` is the version that the row has before, 0 to create it.
    """

    proposal: Proposal
    actor: str
    comment: str
    request_id: str
    source: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ProposalFilter:
    states: frozenset[State] | None = None
    environment: str | None = None
    author: str | None = None


def version_comment(proposal: Proposal, number: int) -> str:
    """Return the comment of what an item writes, which says whose version it is."""
    return f"{proposal.title} [{proposal.id} round {proposal.round} item {number}]"
