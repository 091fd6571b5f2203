"""Upper bounds of the time of an evaluation, computed without evaluating anything.

Measured on one slow core and rounded up. The bound decides where to evaluate: long evaluations do
not run on the event loop.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from pilothouse_core.conditions.literals import pattern_steps
from pilothouse_core.conditions.model import (
    MAX_TEXT,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    InSegment,
    Not,
    Share,
    segments_in,
)
from pilothouse_core.flags.model import Flag, Segment, segment_references


class Cost(NamedTuple):
    """Nanoseconds: a fixed part, and more for each character of the longest attribute."""

    fixed: float
    of_letter: float

    def plus(self, other: "Cost") -> "Cost":
        return Cost(self.fixed + other.fixed, self.of_letter + other.of_letter)

    def seconds(self, letters: int) -> float:
        """Return the seconds for a context of which no part is longer than `letters` characters."""
        return (self.fixed + self.of_letter * min(letters, MAX_TEXT)) * 1e-9

    def letters(self, seconds: float) -> int:
        """Return the longest attribute that is evaluated within `seconds`; -1 if none is."""
        if self.seconds(MAX_TEXT) <= seconds:
            return sys.maxsize
        left = seconds * 1e9 - self.fixed
        return -1 if left < 0 else int(left / self.of_letter)


NOTHING = Cost(0, 0)
_FLAG = Cost(2500, 0)  # also to tell the answer
_RULE = Cost(500, 1)
_NODE = Cost(200, 0)
_CHEAP = frozenset({"in", "not_in", "eq", "neq", "gt", "gte", "lt", "lte", "exists"})
_OF_VALUE = {"contains": Cost(50, 4), "starts_with": Cost(40, 0), "ends_with": Cost(40, 0)}
_MOST_OF_VALUES = Cost(20_000, 1500)  # of many values, not each is looked for by itself
_OF_STEP = Cost(10, 10)
_PATTERN = Cost(2000, 10)
_TEXT = Cost(5000, 8)
_LIST = Cost(500, 1200)  # a list has up to 8 items for each letter that a text may have


def cost_of_condition(condition: Condition | None) -> Cost:
    """Return the cost of a condition, without that of the segments it names."""
    match condition:
        case AllOf(inner) | AnyOf(inner):
            return total(map(cost_of_condition, inner)).plus(_NODE)
        case Not(one):
            return cost_of_condition(one).plus(_NODE)
        case Comparison():
            return _cost_of_comparison(condition)
        case Share():
            return _RULE
        case InSegment():
            return _NODE
        case None:
            return NOTHING


def _cost_of_comparison(comparison: Comparison) -> Cost:
    operator, count = comparison.op, len(comparison.values)
    if operator == "includes":
        return _LIST
    if operator == "matches":
        steps = pattern_steps(comparison)
        return _times(_OF_STEP, steps).plus(_times(_PATTERN, count))
    if operator in _OF_VALUE:
        each = _times(_OF_VALUE[operator], count)
        return Cost(*map(min, each, _MOST_OF_VALUES)).plus(_TEXT)
    if operator in _CHEAP and not (comparison.case_insensitive or comparison.loose):
        return _NODE
    return _TEXT


def _times(cost: Cost, count: int) -> Cost:
    return Cost(cost.fixed * count, cost.of_letter * count)


def total(costs: Iterable[Cost]) -> Cost:
    fixed = of_letter = 0.0
    for cost in costs:
        fixed += cost.fixed
        of_letter += cost.of_letter
    return Cost(fixed, of_letter)


def cost_of_flag(flag: Flag) -> Cost:
    """Return the cost of a flag, without that of the segments and flags it names."""
    rules = (cost_of_condition(rule.when).plus(_RULE) for rule in flag.rules)
    return total(rules).plus(_FLAG)


class FlagWithCost(Protocol):
    """A flag with its own cost."""

    @property
    def flag(self) -> Flag: ...

    @property
    def cost(self) -> Cost: ...


class Costs:
    """The costs of the flags of a set, with all they need; each is found out when asked for."""

    def __init__(self, flags: Mapping[str, FlagWithCost], segments: Mapping[str, Segment]) -> None:
        self._flags = flags
        self._segments = segments
        self._of_flags: dict[str, Cost] = {}
        self._of_segments: dict[str, Cost] = {}

    def of_flag(self, name: str) -> Cost:
        """Return the cost of evaluating a flag; a flag that is needed twice is evaluated twice."""
        cost = self._of_flags.get(name)
        if cost is None:
            compiled_flag = self._flags.get(name)
            if compiled_flag is None:
                return _FLAG  # not kept: a caller may request any name
            cost = self._of_flags[name] = self._with_needs(compiled_flag.flag, compiled_flag.cost)
        return cost

    def _with_needs(self, flag: Flag, own: Cost) -> Cost:
        segments = (self._of_segment(name) for name, _ in segment_references(flag))
        needs = (self.of_flag(need.flag) for need in flag.prerequisites)
        return own.plus(total(segments)).plus(total(needs))

    def _of_segment(self, name: str) -> Cost:
        cost = self._of_segments.get(name)
        if cost is None:
            segment = self._segments.get(name)
            when = None if segment is None else segment.when
            self._of_segments[name] = NOTHING  # never looked at: segments are no cycles
            inner = (self._of_segment(used) for used in segments_in(when))
            cost = self._of_segments[name] = cost_of_condition(when).plus(total(inner))
        return cost
