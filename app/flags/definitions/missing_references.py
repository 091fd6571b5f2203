"""Flags and segments that a flag needs and an environment does not have."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.flags.cache import EnvironmentFlags
from app.flags.model import Kind
from pilothouse_core.flags.model import Flag, segment_references


@dataclass(frozen=True, slots=True)
class MissingReference:
    """A flag or segment that a copied flag needs and the target environment does not have."""

    kind: Kind
    name: str
    pointer: str
    archived: bool = False

    @property
    def detail(self) -> str:
        what = f"the {self.kind} {self.name!r}"
        return f"{what} is archived there" if self.archived else f"there is no {what[4:]}"


def missing_references(flag: Flag, target: EnvironmentFlags) -> Sequence[MissingReference]:
    """Return the references of a flag that do not exist in the target environment."""
    segments = [
        MissingReference("segment", used, pointer)
        for used, pointer in segment_references(flag)
        if target.segment(used) is None
    ]
    return segments + [
        MissingReference(
            "flag",
            need.flag,
            f"/prerequisites/{number}/flag",
            target.archived_item("flag", need.flag) is not None,
        )
        for number, need in enumerate(flag.prerequisites)
        if target.flag(need.flag) is None
    ]
