"""What a plan says that becomes of an environment. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.changes.model import Action
from app.flags.cache import ItemKey
from pilothouse_core.flags.model import Flag, Segment

Definition = Flag | Segment


@dataclass(frozen=True, slots=True)
class PlannedDefinition:
    """A planned definition of a flag or segment that is archived, restored, or needs a reason."""

    definition: Definition
    is_archived: bool = False
    action: Action | None = None  # `created` or `updated` where nothing is stated
    reason: str | None = None  # for the audit


# What becomes of an environment, by kind and name: None deletes, and a bare definition is not
# written over one that is archived.
PlannedChange = Mapping[ItemKey, Definition | PlannedDefinition | None]


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan depends on that the environment does not hold."""

    now: datetime
    last_evaluated_at: datetime | None = None  # the flag of the plan; None: never
