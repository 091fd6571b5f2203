"""Flags and segments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilothouse_core.bucketing import Range
from pilothouse_core.conditions.model import Condition, segments_in

Type = Literal["boolean", "string", "integer", "number", "object"]
TYPES: tuple[Type, ...] = ("boolean", "string", "integer", "number", "object")


@dataclass(frozen=True, slots=True)
class Fixed:
    variant: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """Subjects by their bucket. `weights` as they were written, `ranges` as they came to lie."""

    by: str
    salt: str
    hash: str
    weights: Mapping[str, float]
    ranges: tuple[Range, ...]

    @property
    def total(self) -> int:
        return self.ranges[-1].end


@dataclass(frozen=True, slots=True)
class Progressive:
    """A share that moves from one percentage to another, linear in time."""

    by: str
    salt: str
    hash: str
    variant: str
    otherwise: str
    starts: str
    first: float
    ends: str
    last: float


Serve = Fixed | Rollout | Progressive


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, not including, `until`: RFC 3339, None is open."""

    start: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    when: Condition | None
    serve: Serve
    active: Window | None = None


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """Met when flag `flag` serves one of `variants`."""

    flag: str
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    type: Type
    variants: Mapping[str, Any]
    default_variant: str | None  # None: the caller's own default
    off_variant: str | None
    enabled: bool
    rules: tuple[Rule, ...] = ()
    prerequisites: tuple[Prerequisite, ...] = ()
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Segment:
    name: str
    when: Condition | None
    description: str = ""


def rollouts_of(flag: Flag | None) -> Mapping[str, Rollout]:
    if flag is None:
        return {}
    return {rule.id: rule.serve for rule in flag.rules if isinstance(rule.serve, Rollout)}


def segment_references(flag: Flag) -> Iterator[tuple[str, str]]:
    """Name every segment with the place that names it."""
    for number, rule in enumerate(flag.rules):
        for name in segments_in(rule.when):
            yield name, f"/rules/{number}/when"


def with_name(flag: Flag, name: str) -> Flag:
    """Return the flag under another name; no subject changes buckets, as every salt is stored."""
    return replace(flag, name=name)
