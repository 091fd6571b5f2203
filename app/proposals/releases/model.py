"""A release: what it gives to whom, how far it has come, and what ended it. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from app.changes.model import Entity
from pilothouse_core.releases.arms import TOTAL, Arm, arm_of
from pilothouse_core.releases.control import Progress, State
from pilothouse_core.releases.plan import Plan

Kind = Literal["config", "flag"]
KIND: Final = "release"  # in the log
NO_SERVICE: Final = "*"  # of a flag, which belongs to none
ACTIVE: Final[frozenset[State]] = frozenset({"running", "held", "finishing"})
MOST_ACTIVE: Final = 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """What a release changes: the layer of a service, or a flag; one release of it at a time."""

    kind: Kind
    environment: str
    service: str = NO_SERVICE
    flag: str = ""

    def __str__(self) -> str:
        return f"{self.environment}/{self.flag or self.service}"


@dataclass(frozen=True, slots=True)
class Item:
    """The item of a round of a proposal that a release applies."""

    proposal: str
    round: int
    item: int


@dataclass(frozen=True, slots=True)
class NewRelease:
    """A release to be started; `keys` are those that it changes in version `base`."""

    id: str
    subject: Subject
    plan: Plan
    keys: tuple[str, ...]
    base: int
    item: Item | None = None
    members: tuple[str, ...] = ()  # the instances of the first step, where the plan counts them


@dataclass(frozen=True, slots=True)
class Release:
    """All times are of the store's clock; `version` grows with every change."""

    id: str
    version: int
    subject: Subject
    plan: Plan
    keys: tuple[str, ...]
    base: int
    item: Item | None
    members: frozenset[str]
    state: State
    step: int
    step_since: datetime
    started_at: datetime
    started_by: str
    ended_at: datetime | None
    signal: str  # what aborted it, "" if nothing did
    actor: str  # of the newest change
    comment: str
    revision: int  # of the newest change

    @property
    def entity(self) -> Entity:
        return entity_of(self.id, self.subject)

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def progress(self) -> Progress:
        return Progress(self.plan, self.state, self.step, self.step_since)

    @property
    def serves_all(self) -> bool:
        """Whether every instance has the candidate: in the bake and while it is written."""
        return self.state == "finishing" or self.step >= len(self.plan.steps)

    @property
    def share(self) -> int | None:
        """The buckets of the candidate; None where instances are counted."""
        if not self.is_active:
            return 0
        if self.serves_all:
            return TOTAL
        return None if self.plan.pick == "count" else self.plan.share(self.step)

    def arm(self, instance: str) -> Arm:
        share = self.share
        if share is None:
            return "candidate" if instance in self.members else "stable"
        return arm_of(self.id, instance, share)


@dataclass(frozen=True, slots=True)
class Move:
    """The next state of a release at `version`; `restarts`: its step begins now.

    `members` is None where they stay.
    """

    release: str
    version: int
    state: State
    step: int
    restarts: bool = False
    members: Collection[str] | None = None
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who changes a release, and the request in which they do."""

    actor: str
    request_id: str = ""
    source: str | None = None  # the address it came from
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which releases a list has; None selects all."""

    environment: str | None = None
    service: str | None = None
    states: frozenset[State] | None = None
    proposal: str | None = None


def entity_of(release: str, subject: Subject) -> Entity:
    name = f"{subject.service}/{release}"
    return Entity(KIND, subject.environment, name, f"releases/{release}")


def audit_facts(
    subject: Subject, item: Item | None, state: State, step: int, signal: str
) -> dict[str, object]:
    """Return what the audit has of each change of a release."""
    facts: dict[str, object] = {"state": state, "step": step}
    if signal:
        facts["signal"] = signal
    if item is not None:
        facts["proposal"] = item.proposal
    if subject.flag:
        facts["flag"] = subject.flag
    return facts
