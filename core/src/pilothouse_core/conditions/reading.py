"""Conditions read from JSON and checked."""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from ipaddress import ip_network
from math import isfinite

import re2

from pilothouse_core.bucketing import DEFAULT_HASH, HASHES, Hash
from pilothouse_core.conditions.literals import NUMERAL, compile_pattern, loose_version_key
from pilothouse_core.conditions.model import (
    DEFAULT_BY,
    EQUAL_OPS,
    NUMBER_OPS,
    OPERATORS,
    SET_OPS,
    TEXT_OPS,
    TIME_OPS,
    VERSION_OPS,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    InSegment,
    Not,
    Share,
)
from pilothouse_core.definitions import Place, quote
from pilothouse_core.names import NAME_GRAMMAR, is_name
from pilothouse_core.times import seconds_of
from pilothouse_core.versions import version_key

MAX_VALUES = 100_000
MAX_DEPTH = 32
# Of one flag or segment: to read, compile or evaluate it takes milliseconds.
MAX_CONDITIONS = 5000
MAX_COMPARED = 10_000  # values that are looked at one by one, as no set can hold them
MAX_STEPS = 20_000  # of the programs that RE2 makes of patterns
_MAX_INNER = 1000
_MAX_PATTERN = 1000
_MAX_PATTERNS = 100
_MAX_VALUE = 1000
_SEGMENT = re.compile(r"[^.\x00-\x1f]{1,128}")
_FOLDING = frozenset({*SET_OPS, *EQUAL_OPS, *TEXT_OPS})
_LOOSENED = frozenset({*NUMBER_OPS, *VERSION_OPS})
_ONE_VALUE = frozenset({*EQUAL_OPS, *NUMBER_OPS, *TIME_OPS, *VERSION_OPS})
_ONE_BY_ONE = frozenset({*TEXT_OPS, "cidr"})
_HASHED = frozenset({*SET_OPS, *EQUAL_OPS, "includes"})


def read_condition(place: Place, depth: int = 0) -> Condition:
    """Read and check a condition; raises DefinitionError."""
    if depth > MAX_DEPTH:
        place.fail(f"is nested more than {MAX_DEPTH} levels deep", "too_deep")
    place.spend("conditions", 1, MAX_CONDITIONS)
    members = place.object()
    if "attribute" in members or "op" in members:
        return _read_test(place)
    name = next(iter(members), "")
    read = _READERS.get(name)
    if read is None or len(members) != 1:
        place.fail(f"is not a condition: one of {', '.join(_READERS)}, or attribute with op")
    return read(place.at(name), depth + 1)


def _read_inner(place: Place, depth: int) -> tuple[Condition, ...]:
    return tuple(read_condition(item, depth) for item in place.items(_MAX_INNER))


def read_name(place: Place) -> str:
    name = place.text()
    if not is_name(name):
        place.fail(f"{quote(name)} is not a valid name: {NAME_GRAMMAR}", "bad_name")
    return name


def read_attribute(place: Place) -> str:
    """Read a dotted path into the context."""
    path = place.text()
    if not all(map(_SEGMENT.fullmatch, path.split("."))):
        place.fail(f"{quote(path)} is not a dotted path into the context", "bad_attribute")
    return path


def _read_share(place: Place) -> Share:
    place.object({"by", "salt", "hash", "percent"})
    method = place.at("hash").one_of(HASHES) if place.has("hash") else DEFAULT_HASH
    percent = read_percent(place.member("percent"), HASHES[method])
    return Share(
        by=read_attribute(place.at("by")) if place.has("by") else DEFAULT_BY,
        salt=place.member("salt").text(),
        hash=method,
        percent=percent,
    )


def read_percent(place: Place, method: Hash) -> float:
    """Read a percentage that is a whole number of buckets."""
    value = place.number()
    try:
        method.share(value)
    except ValueError as error:
        place.fail(str(error), "bad_weight")
    return float(value)


def _read_test(place: Place) -> Comparison:
    place.object({"attribute", "op", "values", "case_insensitive", "loose"})
    operator = place.member("op").one_of(OPERATORS)
    folds = _is_set(place, "case_insensitive", operator, _FOLDING)
    at = place.at("values")
    values = at.values(MAX_VALUES) if place.has("values") else []
    if operator == "exists":
        if values:
            at.fail("must be empty for the operator exists")
    elif not values:
        at.fail("is missing or empty", "missing")
    if operator in _ONE_VALUE and len(values) != 1:
        at.fail(f"must have one value for the operator {operator}")
    if operator == "matches" and len(values) > _MAX_PATTERNS:
        at.fail(f"has more than {_MAX_PATTERNS} patterns", "too_many")
    if operator in _ONE_BY_ONE:
        at.spend("values that are compared one by one", len(values), MAX_COMPARED)
    is_loose = _is_set(place, "loose", operator, _LOOSENED)
    for number, value in enumerate(values):
        if operator not in _HASHED or not _is_scalar(value):
            _check_value(operator, at.item(number), folds=folds, is_loose=is_loose)
    return Comparison(
        read_attribute(place.member("attribute")), operator, tuple(values), folds, is_loose
    )


def _is_set(place: Place, name: str, operator: str, operators: Container[str]) -> bool:
    is_set = place.at(name).boolean() if place.has(name) else False
    if is_set and operator not in operators:
        place.at(name).fail(f"is not supported by the operator {operator}")
    return is_set


def _is_scalar(value: object) -> bool:
    """Quick check that a value may be in a set; other values are checked in full."""
    kind = type(value)
    return kind is str or kind is bool or (kind is int and -(2**63) < value < 2**63)  # type: ignore[operator]


def _check_value(operator: str, place: Place, *, folds: bool, is_loose: bool) -> None:
    if operator in _HASHED:
        if not isinstance(place.value, (str, int, float)):
            place.fail("is not a string, number or boolean", "wrong_type")
        if not isinstance(place.value, (str, bool)):
            place.number()
        return
    if operator in NUMBER_OPS:
        if not (is_loose and _is_finite_numeral(place.value)):
            place.number()
        return
    text = place.text(_MAX_PATTERN if operator == "matches" else _MAX_VALUE)
    for operators, is_good, code, what in _TEXT_CHECKS:
        judge = loose_version_key if is_loose and operators is VERSION_OPS else is_good
        if operator in operators and not judge(text):
            place.fail(f"{quote(text)} is not {what}", code)
    if operator == "matches":
        _check_pattern(place, text, folds=folds)


def _is_finite_numeral(value: object) -> bool:
    is_numeral = type(value) is str and len(value) <= _MAX_VALUE and NUMERAL.fullmatch(value)
    return bool(is_numeral) and isfinite(float(value))  # type: ignore[arg-type]


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check_pattern(place: Place, text: str, *, folds: bool) -> None:
    try:
        program = compile_pattern(
            text, folds=folds
        )  # folding makes it larger: it may no longer fit
    except (re2.error, UnicodeEncodeError):
        place.fail(f"{quote(text)} is not a pattern that RE2 can run", "bad_pattern")
    place.spend("steps of patterns", program.programsize, MAX_STEPS)


_TEXT_CHECKS: Sequence[tuple[Sequence[str], Callable[[str], object], str, str]] = (
    (TIME_OPS, lambda text: seconds_of(text) is not None, "bad_time", "an RFC 3339 time"),
    (VERSION_OPS, version_key, "bad_version", "a semantic version"),
    (("cidr",), _is_network, "bad_network", "an IPv4 or IPv6 network"),
)
_READERS: Mapping[str, Callable[[Place, int], Condition]] = {
    "all": lambda place, depth: AllOf(_read_inner(place, depth)),
    "any": lambda place, depth: AnyOf(_read_inner(place, depth)),
    "not": lambda place, depth: Not(read_condition(place, depth)),
    "segment": lambda place, _: InSegment(read_name(place)),
    "rollout": lambda place, _: _read_share(place),
}
