"""Conditions and their operators."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# Characters that an operator looks at, or a hash: for it a longer text is no text at all.
MAX_TEXT = 4096
DEFAULT_BY = "user_id"
SUBJECTS = frozenset({DEFAULT_BY, "targetingKey"})  # attributes that hold the subject itself
Context = Mapping[str, Any]
Scalar = str | int | float | bool


class Segments(Protocol):
    """Where a condition finds the segments it names: the flag set that is evaluated."""

    @property
    def segments(self) -> Mapping[str, "Matcher"]: ...

    def pause(self) -> None:
        """Called before costly work; may raise to end the evaluation in time."""
        ...


Matcher = Callable[[Context, Any], bool]


@dataclass(frozen=True, slots=True)
class AllOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class InSegment:
    name: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator on one attribute.

    `loose` takes more for a number or a version, in `values` as in the context: a text that spells
    a number, and a version with a leading `v` or with fewer than three numbers.
    """

    attribute: str
    op: str
    values: tuple[Scalar, ...]
    case_insensitive: bool = False
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """True for a share of the subjects, by their bucket: see bucketing."""

    by: str
    salt: str
    hash: str
    percent: float


Condition = AllOf | AnyOf | Not | InSegment | Comparison | Share
TEXT_OPS = ("starts_with", "ends_with", "contains", "matches")
SET_OPS = ("in", "not_in")
EQUAL_OPS = ("eq", "neq")
NUMBER_OPS = ("gt", "gte", "lt", "lte")
TIME_OPS = ("before", "after")
VERSION_OPS = ("semver_eq", "semver_gt", "semver_gte", "semver_lt", "semver_lte")
OPERATORS = (
    *SET_OPS,
    *TEXT_OPS,
    *EQUAL_OPS,
    *NUMBER_OPS,
    *TIME_OPS,
    *VERSION_OPS,
    "cidr",
    "exists",
    "includes",
)


def segments_in(condition: Condition | None) -> Iterator[str]:
    """Name every segment a condition uses itself."""
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            for inner in conditions:
                yield from segments_in(inner)
        case Not(inner):
            yield from segments_in(inner)
        case InSegment(name):
            yield name
        case _:
            return


def nesting(condition: Condition | None) -> int:
    """Count the conditions inside each other, at the deepest."""
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            return 1 + max(map(nesting, conditions), default=0)
        case Not(inner):
            return 1 + nesting(inner)
        case _:
            return 1
