r"""Constraints, segments and rollouts of Unleash as conditions.

Contexts hold texts, as Unleash's do. `userId` becomes `user_id`; every other name stays. The
conditions differ from some SDKs of Unleash in these cases only:

- case_insensitive folds `ss` and `ß` into one;
- an IPv4 address that is written as IPv6 (::ffff:10.0.0.1) is in the networks of the IPv4 address;
- `\d`, `\w`, `\s` and `\b` of a REGEX are ASCII, as in RE2;
- NUM_EQ compares exactly, Unleash to 15 digits;
- where stickiness falls back to a random value, no subject matches.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from app.importers.model import (
    ALWAYS,
    NEVER,
    Condition,
    Notes,
    UnexpressedNote,
    all_of,
    any_of,
    check_segment,
    comparison_json,
    exists,
    negation_of,
    when_of,
)
from app.importers.unleash_documents import optional_items, optional_text
from pilothouse_core.conditions.reading import read_attribute, read_condition
from pilothouse_core.definitions import DefinitionError, Place, quote
from pilothouse_core.times import seconds_of
from pilothouse_core.versions import version_key

CLOCK: Final = "currentTime"
USER: Final = "user_id"
SESSION: Final = "sessionId"
HASH: Final = "unleash-1"
_MANY_NOTES: Final = 10  # of a segment, repeated for each feature that uses it
_MANY_MOMENTS: Final = 10  # of a segment, copied into each strategy that uses it
_TAKEN: Final = (USER, "targetingKey")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_PERCENT = re.compile(r"0*(100|[0-9]{1,2})")
_MASKED = re.compile(r"[%]|/.*[.:]")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition, within a window of time if there is one."""

    when: Condition
    active: Mapping[str, str | None] | None = None


@dataclass(slots=True)
class _Tests:
    """Tests that must all hold; tests of the time are separate and become windows of rules."""

    conditions: list[Condition] = field(default_factory=list)
    clock: list[Condition] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)


class ConstraintReader:
    """Reads strategies; `segments` are the constraints of each, by id."""

    def __init__(self, segments: Mapping[int, Place]) -> None:
        self._places = segments
        self._read: dict[int, _Segment] = {}

    def segment(self, number: int) -> Mapping[str, Any]:
        return self._read[number].definition

    def constraints(
        self, feature: str, strategy: Place, notes: Notes, used: set[int]
    ) -> list[Constraint]:
        """Return gates of which one must be passed; `used` collects the segments they need."""
        tests = _Tests([_strategy(feature, strategy, notes)])
        for constraint in optional_items(strategy, "constraints"):
            _add(tests, constraint, notes)
        for number in _distinct(optional_items(strategy, "segments")):
            self._add_segment(tests, number, notes, used)
        return _gates(tests)

    def _add_segment(self, tests: _Tests, number: Place, notes: Notes, used: set[int]) -> None:
        if number.value not in self._places:
            notes.add(number, "is not the id of a segment in this file")
            return
        if number.value not in self._read:
            self._read[number.value] = _read_segment(number.value, self._places[number.value])
        segment = self._read[number.value]
        for note in segment.notes[:_MANY_NOTES]:
            notes.add(Place(None, note.pointer), note.reason)
        if segment.notes:
            return
        tests.clock += segment.tests.clock
        tests.after += segment.tests.after
        tests.before += segment.tests.before
        if segment.tests.conditions:
            used.add(number.value)
            tests.conditions.append({"segment": segment.definition["name"]})


def _distinct(numbers: Iterable[Place]) -> Iterable[Place]:
    return {whole_number(number): number for number in numbers}.values()


def whole_number(place: Place) -> int:
    if type(place.value) is not int:
        place.fail("is not an integer")
    return place.value


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment, apart from its tests of the clock: it knows no window of time."""

    definition: Mapping[str, Any]
    tests: _Tests
    notes: Sequence[UnexpressedNote]


def _read_segment(number: int, place: Place) -> _Segment:
    notes, tests = Notes(""), _Tests()
    definition: dict[str, Any] = {"name": f"unleash-{number}"}
    with notes.catching():
        if not place.has("constraints"):
            place.fail("has no constraints, because exports omit them: add them")
        for constraint in optional_items(place, "constraints"):
            _add(tests, constraint, notes)
        if len(tests.clock) > _MANY_MOMENTS:
            place.fail(f"compares the current time more than {_MANY_MOMENTS} times")
        definition["description"] = optional_text(place, "name")
        definition["when"] = when_of(all_of(tests.conditions))
        if not notes.entries:
            check_segment(definition, place, notes)
    return _Segment(definition, tests, notes.entries)


def _gates(tests: _Tests) -> list[Constraint]:
    if not tests.clock:
        return [Constraint(all_of(tests.conditions))]
    with_clock = all_of([exists(CLOCK), *tests.conditions, *tests.clock])
    without_clock = all_of([negation_of(exists(CLOCK)), *tests.conditions])
    start = max(tests.after, key=_moment, default=None)
    until = min(tests.before, key=_moment, default=None)
    if start is not None and until is not None and _moment(until) <= _moment(start):
        return [Constraint(with_clock)]
    return [Constraint(with_clock), Constraint(without_clock, {"from": start, "until": until})]


def _moment(text: str) -> float:
    return seconds_of(text) or 0.0


def _add(tests: _Tests, constraint: Place, notes: Notes) -> None:
    with notes.catching():
        attribute = attribute_of(constraint.member("contextName"))
        name = constraint.member("operator").text()
        reads = _OPERATORS.get(name)
        if reads is None:
            constraint.at("operator").fail(f"{quote(name)} has no equivalent in Pilothouse")
        holds = reads(attribute, constraint)
        is_inverted = bool(constraint.at("inverted").value)
        holds = negation_of(holds) if is_inverted else holds
        if attribute != CLOCK:
            tests.conditions.append(holds)
            return
        if name not in ("DATE_AFTER", "DATE_BEFORE"):
            constraint.at("operator").fail("must compare the current time with a time")
        tests.clock.append(holds)
        starts = (name == "DATE_AFTER") is not is_inverted
        (tests.after if starts else tests.before).append(constraint.at("value").text())


def attribute_of(place: Place) -> str:
    """Return the name an attribute of Unleash's contexts has here."""
    name = place.text()
    if name == "userId":
        return USER
    if "." in name:
        place.fail(f"{quote(name)} would be read as a path into the context")
    if name in _TAKEN:
        place.fail(f"{quote(name)} is reserved for the subject")
    return read_attribute(place)


def _values(constraint: Place) -> list[str]:
    return [value.text() for value in optional_items(constraint, "values")]


def _some_values(constraint: Place) -> list[str]:
    values = _values(constraint)
    if not values:
        constraint.at("values").fail("is empty: Unleash's SDKs disagree about what that means")
    return values


def _folds(constraint: Place) -> dict[str, bool]:
    return {"case_insensitive": True} if constraint.at("caseInsensitive").value else {}


def _in(attribute: str, constraint: Place) -> Condition:
    values = _values(constraint)
    return comparison_json(attribute, "in", *values) if values else NEVER


def _part(op: str) -> Callable[[str, Place], Condition]:
    def read(attribute: str, constraint: Place) -> Condition:
        return comparison_json(attribute, op, *_some_values(constraint), **_folds(constraint))

    return read


def _number(*ops: str) -> Callable[[str, Place], Condition]:
    def read(attribute: str, constraint: Place) -> Condition:
        at = constraint.member("value")
        text = at.text()
        if not _NUMBER.fullmatch(text) or math.isinf(float(text)):
            at.fail(f"{quote(text)} is not a number in every SDK of Unleash")
        limit = float(text)
        plain = int(limit) if limit == int(limit) else limit
        return all_of([comparison_json(attribute, op, plain, loose=True) for op in ops])

    return read


def _moment_test(op: str) -> Callable[[str, Place], Condition]:
    def read(attribute: str, constraint: Place) -> Condition:
        at = constraint.member("value")
        if seconds_of(at.text()) is None:
            at.fail(f"{quote(at.text())} is not an RFC 3339 time")
        return comparison_json(attribute, op, at.text())

    return read


def _version(op: str) -> Callable[[str, Place], Condition]:
    def read(attribute: str, constraint: Place) -> Condition:
        at = constraint.member("value")
        if version_key(at.text()) is None:
            at.fail(f"{quote(at.text())} is not a semantic version")
        return comparison_json(attribute, op, at.text())

    return read


def _pattern(attribute: str, constraint: Place) -> Condition:
    at = constraint.member("value")
    condition = comparison_json(attribute, "matches", at.text(), **_folds(constraint))
    try:
        read_condition(Place(condition))
    except DefinitionError as error:
        at.fail(error.detail)
    return condition


def _networks(attribute: str, constraint: Place) -> Condition:
    return _inside(
        attribute, [(value, value.text()) for value in optional_items(constraint, "values")]
    )


def _inside(attribute: str, addresses: list[tuple[Place, str]]) -> Condition:
    """Unleash ignores an invalid address; a definition here must not contain one."""
    networks = []
    for place, text in addresses:
        try:
            ip_network(text, strict=False)
        except ValueError:
            continue
        if _MASKED.search(text):
            place.fail(f"{quote(text)} has a mask or a zone: state the length of the prefix")
        networks.append(text)
    return comparison_json(attribute, "cidr", *networks) if networks else NEVER


_OPERATORS: Mapping[str, Callable[[str, Place], Condition]] = {
    "IN": _in,
    "NOT_IN": lambda attribute, constraint: negation_of(_in(attribute, constraint)),
    "STR_CONTAINS": _part("contains"),
    "STR_STARTS_WITH": _part("starts_with"),
    "STR_ENDS_WITH": _part("ends_with"),
    "NUM_EQ": _number("gte", "lte"),
    "NUM_GT": _number("gt"),
    "NUM_GTE": _number("gte"),
    "NUM_LT": _number("lt"),
    "NUM_LTE": _number("lte"),
    "DATE_AFTER": _moment_test("after"),
    "DATE_BEFORE": _moment_test("before"),
    "SEMVER_EQ": _version("semver_eq"),
    "SEMVER_GT": _version("semver_gt"),
    "SEMVER_GTE": _version("semver_gte"),
    "SEMVER_LT": _version("semver_lt"),
    "SEMVER_LTE": _version("semver_lte"),
    "REGEX": _pattern,
    "IN_CIDR": _networks,
}


def _strategy(feature: str, strategy: Place, notes: Notes) -> Condition:
    with notes.catching():
        name = strategy.member("name").text()
        reads = _STRATEGIES.get(name)
        if reads is None:
            strategy.at("name").fail(f"strategy {quote(name)} has no equivalent in Pilothouse")
        return reads(feature, strategy, parameters_of(strategy))
    return NEVER


def hashes_requested_name(strategy: Place) -> bool:
    """Tell whether a rollout has no group: Unleash then hashes the requested feature's name.

    As a parent is asked for by the name of its child, its cohort there is another one.
    """
    parameters = parameters_of(strategy)
    if strategy.at("name").value != "flexibleRollout" or parameters.at("groupId").value is not None:
        return False
    return _percent(parameters.member("rollout")) not in (0, 100)


def parameters_of(strategy: Place) -> Place:
    parameters = strategy.at("parameters")
    return Place({}, parameters.pointer) if parameters.value is None else parameters


def _words(parameters: Place, name: str) -> list[str]:
    return [word.strip() for word in parameters.member(name).text(1_000_000).split(",")]


def _users(_: str, __: Place, parameters: Place) -> Condition:
    return comparison_json(USER, "in", *_words(parameters, "userIds"))


def _addresses(_: str, __: Place, parameters: Place) -> Condition:
    at = parameters.member("IPs")
    return _inside("remoteAddress", [(at, word) for word in _words(parameters, "IPs")])


def _percent(place: Place) -> int:
    text = str(place.value) if type(place.value) is int else place.text()
    match = _PERCENT.fullmatch(text)
    if match is None:
        place.fail("is not an integer percentage")
    return int(match[1])


def _share(by: str, salt: str, percent: int) -> Condition:
    return {"rollout": {"by": by, "salt": salt, "hash": HASH, "percent": percent}}


def _gradual(by: str) -> Callable[[str, Place, Place], Condition]:
    def read(_: str, __: Place, parameters: Place) -> Condition:
        percent = _percent(parameters.member("percentage"))
        salt = parameters.member("groupId").text()
        return _share(by, salt, percent) if percent else NEVER

    return read


def _random_share(place: Place, percent: int) -> Condition:
    if 0 < percent < 100:  # noqa: PLR2004
        place.fail("is random at every evaluation: it has no stable cohort to import")
    return ALWAYS if percent else NEVER


def _random_rollout(_: str, strategy: Place, parameters: Place) -> Condition:
    return _random_share(strategy, _percent(parameters.member("percentage")))


def _flexible(feature: str, _: Place, parameters: Place) -> Condition:
    percent = _percent(parameters.member("rollout"))
    group = parameters.at("groupId")
    salt = feature if group.value is None else group.text()
    sticky = parameters.at("stickiness")
    if sticky.value == "random":
        return _random_share(sticky, percent)
    if sticky.value not in (None, "default"):
        attribute = attribute_of(sticky)
        return _share(attribute, salt, percent) if percent else NEVER
    if percent in (0, 100):
        return ALWAYS if percent else NEVER
    session = all_of([negation_of(exists(USER)), _share(SESSION, salt, percent)])
    return any_of([_share(USER, salt, percent), session])


_STRATEGIES: Mapping[str, Callable[[str, Place, Place], Condition]] = {
    "default": lambda _, __, ___: ALWAYS,
    "userWithId": _users,
    "remoteAddress": _addresses,
    "gradualRolloutUserId": _gradual(USER),
    "gradualRolloutSessionId": _gradual(SESSION),
    "gradualRolloutRandom": _random_rollout,
    "flexibleRollout": _flexible,
}
