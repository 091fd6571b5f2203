"""Conditions, against a reference interpreter that takes every operator at its word."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import semver
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.bucketing import DEFAULT_HASH, HASHES
from pilothouse_core.conditions.compiler import compile_condition
from pilothouse_core.conditions.model import MAX_TEXT, OPERATORS, Matcher
from pilothouse_core.conditions.reading import read_condition
from pilothouse_core.conditions.serialization import condition_json
from pilothouse_core.definitions import Place
from pilothouse_core.evaluation import EMPTY, FlagSet
from pilothouse_core.flags.reading import read_segment
from tests.core.drawn import SEGMENTS, conditions, contexts, json_values
from tests.trials import trials

quick = settings(max_examples=trials(60))
Json = Any
NOTHING = object()


def with_segments(**segments: Json) -> FlagSet:
    read = {name: read_segment({"name": name, "when": when}) for name, when in segments.items()}
    return EMPTY.with_changes(segments=read.items())


def holds(condition: Json, context: Mapping[str, Json], flags: FlagSet = EMPTY) -> bool:
    return compile_condition(read_condition(Place(condition)))(context, flags)


def compare(attribute: str, op: str, *values: Json, **members: Json) -> Json:
    return {"attribute": attribute, "op": op, "values": list(values), **members}


# The reference.


def expected_result(
    condition: Json, context: Mapping[str, Json], segments: Mapping[str, Json]
) -> bool:
    def holding(inner: Json) -> bool:
        return expected_result(inner, context, segments)

    if "op" in condition:
        return comparison_holds(condition, context)
    ((kind, inner),) = condition.items()
    match kind:
        case "all" | "any":
            answers = list(map(holding, inner))
            return all(answers) if kind == "all" else any(answers)
        case "not":
            return not holding(inner)
        case "segment":
            return segments[inner] is None or holding(segments[inner])
        case _:
            return is_in_share(inner, context)


def is_in_share(share: Json, context: Mapping[str, Json]) -> bool:
    limit: int = round(share["percent"] * 1000)
    if limit == 100_000:  # everybody, also who has no subject
        return True
    subject = value_at(context, share.get("by", "user_id"))
    if is_integer(subject) and abs(subject) < 10**4300:
        subject = str(subject)
    if not isinstance(subject, str):
        return False
    return HASHES[DEFAULT_HASH].bind(share["salt"], 100_000)(subject) < limit


NEGATED = {"not_in": "in", "neq": "eq"}


def comparison_holds(condition: Json, context: Mapping[str, Json]) -> bool:
    if condition["op"] in NEGATED:
        return not comparison_holds({**condition, "op": NEGATED[condition["op"]]}, context)
    value = value_at(context, condition["attribute"])
    if value is NOTHING or value is None:
        return False
    folds = condition.get("case_insensitive", False)
    says = MEANT[condition["op"]]
    return any(says(value, wanted, folds) for wanted in condition.get("values", [None]))


def value_at(context: Mapping[str, Json], path: str) -> Json:
    value: Json = context
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return NOTHING
        value = value[name]
    return value


def is_integer(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Json) -> bool:
    return is_integer(value) or isinstance(value, float)


def equal(value: Json, wanted: Json, folds: bool) -> bool:  # noqa: FBT001
    if isinstance(value, str) and isinstance(wanted, str):
        return value.casefold() == wanted.casefold() if folds else value == wanted
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return is_number(value) and is_number(wanted) and bool(value == wanted)


Meaning = Callable[[Json, Json, bool], bool]


def on_text(says: Callable[[str, str], bool]) -> Meaning:
    def meaning(value: Json, wanted: Json, folds: bool) -> bool:  # noqa: FBT001
        if not isinstance(value, str):
            return False
        return says(value.casefold(), wanted.casefold()) if folds else says(value, wanted)

    return meaning


def matches(value: Json, pattern: str, folds: bool) -> bool:  # noqa: FBT001
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
        return False
    return re.search(pattern.replace("$", r"\Z"), value, re.IGNORECASE if folds else 0) is not None


def on_number(says: Callable[[Json, Json], bool]) -> Meaning:
    return lambda value, wanted, _: is_number(value) and says(value, wanted)


def on_order(read: Callable[[str], Json], says: Callable[[Json, Json], bool]) -> Meaning:
    def meaning(value: Json, wanted: Json, _: bool) -> bool:  # noqa: FBT001
        try:
            return isinstance(value, str) and says(read(value), read(wanted))
        except ValueError:
            return False

    return meaning


def moment(text: str) -> float:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt]", text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).timestamp()


def inside(value: Json, network: str, _: bool) -> bool:  # noqa: FBT001
    try:
        address = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address in ip_network(network) or (mapped is not None and mapped in ip_network(network))


MEANT: dict[str, Meaning] = {
    "in": equal,
    "eq": equal,
    "starts_with": on_text(str.startswith),
    "ends_with": on_text(str.endswith),
    "contains": on_text(str.__contains__),
    "matches": matches,
    "gt": on_number(lambda value, wanted: value > wanted),
    "gte": on_number(lambda value, wanted: value >= wanted),
    "lt": on_number(lambda value, wanted: value < wanted),
    "lte": on_number(lambda value, wanted: value <= wanted),
    "before": on_order(moment, lambda value, wanted: value < wanted),
    "after": on_order(moment, lambda value, wanted: value > wanted),
    "semver_eq": on_order(semver.Version.parse, lambda value, wanted: value == wanted),
    "semver_gt": on_order(semver.Version.parse, lambda value, wanted: value > wanted),
    "semver_gte": on_order(semver.Version.parse, lambda value, wanted: value >= wanted),
    "semver_lt": on_order(semver.Version.parse, lambda value, wanted: value < wanted),
    "semver_lte": on_order(semver.Version.parse, lambda value, wanted: value <= wanted),
    "cidr": inside,
    "exists": lambda _value, _wanted, _folds: True,
    "includes": lambda value, wanted, _: (
        isinstance(value, list) and any(equal(one, wanted, folds=False) for one in value)
    ),
}


def test_the_reference_knows_every_operator() -> None:
    assert set(OPERATORS) == {*MEANT, *NEGATED}


@settings(quick, max_examples=trials(200))
@given(conditions(SEGMENTS), contexts, conditions(), st.none() | conditions(("beta",)))
def test_a_condition_holds_as_the_reference_says(
    condition: Json, context: Json, beta: Json, staff: Json
) -> None:
    flags = with_segments(beta=beta, staff=staff)

    answer = holds(condition, context, flags)

    assert answer is expected_result(condition, context, {"beta": beta, "staff": staff})


@quick
@given(conditions(SEGMENTS))
def test_a_condition_that_is_written_is_read_again(condition: Json) -> None:
    read = read_condition(Place(condition))

    assert read_condition(Place(condition_json(read))) == read


@quick
@given(conditions(), contexts)
def test_not_negates(condition: Json, context: Json) -> None:
    assert holds({"not": condition}, context) is not holds(condition, context)


@pytest.mark.parametrize("op", sorted(set(OPERATORS) - {*NEGATED}))
@pytest.mark.parametrize("context", [{}, {"a": None}, {"a": []}, {"a": {}}, {"a": {"b": 1}}])
def test_what_is_missing_or_of_another_type_makes_an_operator_false(op: str, context: Json) -> None:
    values: Json = {"cidr": ["::/0"], "exists": [], "before": ["2026-01-01T00:00:00Z"]}
    values |= {"after": values["before"]} | {op: [0] for op in ("gt", "gte", "lt", "lte")}
    value = ["1.0.0"] if op.startswith("semver") else values.get(op, [""])
    expected = op == "exists" and context.get("a") is not None

    assert holds({"attribute": "a", "op": op, "values": value}, context) is expected


@pytest.mark.parametrize("value", [None, [], {}, True, 1, "b"])
def test_not_in_and_neq_are_exactly_the_negation(value: Json) -> None:
    assert holds(compare("a", "not_in", "x", 2), {"a": value})
    assert holds(compare("a", "neq", "x"), {"a": value})
    assert holds(compare("a", "neq", "x"), {})
    assert not holds(compare("a", "neq", "b"), {"a": "b"})


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        (compare("a", "in", 1), {"a": True}, False),
        ({"attribute": "a", "op": "in", "values": [True]}, {"a": 1}, False),
        (compare("a", "in", 0), {"a": False}, False),
        (compare("a", "eq", 1), {"a": 1.0}, True),
        (compare("a", "eq", 2**53 + 1), {"a": float(2**53)}, False),
        (compare("a", "eq", "1"), {"a": 1}, False),
        (compare("a", "gt", 0), {"a": True}, False),
        (compare("a", "gt", 1e308), {"a": 10**400}, True),
        (compare("a", "lt", 0.5), {"a": -(10**5000)}, True),
        (compare("a", "eq", "STRASSE", case_insensitive=True), {"a": "straße"}, True),
        (compare("a", "in", "ΜΆΪΟΣ", case_insensitive=True), {"a": "μάϊος"}, True),
        (compare("a", "contains", "SS", case_insensitive=True), {"a": "straße"}, True),
        (compare("a", "contains", "SS"), {"a": "straße"}, False),
        (compare("a", "starts_with", "b", "a"), {"a": "ab"}, True),
        (compare("a", "matches", "b"), {"a": "abc"}, True),
        (compare("a", "matches", "^b", "c$"), {"a": "abc"}, True),
        (compare("a", "matches", "B", case_insensitive=True), {"a": "abc"}, True),
        (compare("a", "matches", "."), {"a": "\ud800"}, False),
        (compare("a", "matches", "a.c"), {"a": "a\0c"}, True),
        (compare("a", "matches", "b$"), {"a": "a" * (MAX_TEXT - 1) + "b"}, True),
        (compare("a", "matches", "b$"), {"a": "a" * MAX_TEXT + "b"}, False),
        (compare("a", "cidr", "10.0.0.0/8"), {"a": "10.255.0.1"}, True),
        (compare("a", "cidr", "10.0.0.0/8"), {"a": "::ffff:10.1.1.1"}, True),
        (compare("a", "cidr", "10.0.0.7/8"), {"a": "10.1.1.1"}, True),
        (compare("a", "cidr", "10.0.0.0/8"), {"a": "11.0.0.1"}, False),
        (compare("a", "cidr", "10.0.0.0/8"), {"a": "10.0.0.1/8"}, False),
        (compare("a", "cidr", "10.0.0.0/8"), {"a": 167772161}, False),
        (compare("a", "cidr", "2001:db8::/32"), {"a": "2001:db8::1"}, True),
        (compare("a", "cidr", "0.0.0.0/0"), {"a": "2001:db8::1"}, False),
        (compare("a", "semver_lt", "1.0.0"), {"a": "1.0.0-rc.1"}, True),
        (compare("a", "semver_eq", "1.0.0"), {"a": "1.0.0+build"}, True),
        (compare("a", "semver_gte", "1.10.0"), {"a": "1.9.9"}, False),
        (compare("a", "semver_gt", "1.0.0"), {"a": "latest"}, False),
        (compare("a", "before", "2026-01-01T00:00:00Z"), {"a": "2026-01-01T00:30:00+01:00"}, True),
        (compare("a", "after", "2026-01-01T00:00:00Z"), {"a": "2026-01-01T00:00:00Z"}, False),
        (compare("a.b", "eq", 1), {"a": {"b": 1}}, True),
        (compare("a.b", "eq", 1), {"a.b": 1}, False),
        (compare("a.b", "eq", 1), {"a": [{"b": 1}]}, False),
        (compare("a.0", "eq", 1), {"a": [1]}, False),
        (compare("a", "exists"), {"a": False}, True),
        ({"all": []}, {}, True),
        ({"any": []}, {}, False),
    ],
)
def test_a_condition_holds_or_not(condition: Json, context: Json, *, expected: bool) -> None:
    assert holds(condition, context) is expected


HOSTILE = ("(a+)+$", "(a|aa)+$", "(a*)*b", "(.*)*(.*)*x", "^(([a-z])+.)+[A-Z]$", "(a?){50}a{50}$")


@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_hostile_pattern_takes_no_longer_than_a_friendly_one(pattern: str) -> None:
    assert not holds(compare("a", "matches", pattern), {"a": "a" * (MAX_TEXT - 1) + "!"})


@quick
@given(st.lists(st.text(max_size=5) | st.integers() | st.booleans(), min_size=1), json_values)
def test_any_value_is_looked_up_in_any_list(values: list[Json], value: Json) -> None:
    expected = any(equal(value, one, folds=False) for one in values)

    assert holds(compare("a", "in", *values), {"a": value}) is expected


def test_ten_thousand_identifiers_are_one_look_up() -> None:
    names = [f"user-{number}" for number in range(10_000)]
    segment = with_segments(many=compare("user_id", "in", *names)).segments["many"]

    kept = [cell.cell_contents for cell in getattr(segment, "__closure__", ())]

    assert [frozenset(names)] == [each for each in kept if not isinstance(each, str)]
    assert segment({"user_id": "user-9999"}, EMPTY)
    assert not segment({"user_id": "user-10000"}, EMPTY)


def test_a_segment_is_asked_in_the_set_that_is_evaluated() -> None:
    condition: Matcher = compile_condition(read_condition(Place({"segment": "beta"})))
    first = with_segments(beta=compare("a", "eq", 1))
    second = with_segments(beta=compare("a", "eq", 2))

    assert [condition({"a": 1}, flags) for flags in (first, second)] == [True, False]
    assert condition({}, with_segments(beta=None))
    assert not condition({}, EMPTY)


def _holds_for(attribute: str, found: Any, op: str, *values: Any, **modifiers: Any) -> bool:
    condition = {"attribute": attribute, "op": op, "values": list(values), **modifiers}
    return compile_condition(read_condition(Place(condition)))({attribute: found}, EMPTY)


@pytest.mark.parametrize("attribute", ["user_id", "targetingKey"])
def test_a_subject_is_one_whether_it_is_a_number_or_its_decimals(attribute: str) -> None:
    def holds(found: Any, op: str, *values: Any, **modifiers: Any) -> bool:
        return _holds_for(attribute, found, op, *values, **modifiers)

    for found, value in ((101, "101"), ("101", 101), (101, 101), ("101", "101")):
        assert holds(found, "in", value, "x")
        assert holds(found, "eq", value)
        assert holds(found, "in", value, case_insensitive=True)
        assert not holds(found, "not_in", value, "x")
        assert not holds(found, "neq", value)
    assert holds(101, "starts_with", "10")
    assert holds(101, "matches", "^1.1$")
    assert holds(101.0, "in", 101)
    assert holds(101, "gt", 100)


@pytest.mark.parametrize("attribute", ["user_id", "targetingKey"])
def test_nothing_else_becomes_a_subject(attribute: str) -> None:
    for found, value in ((True, "True"), (True, 1), (1, True), (1.5, "1.5"), (101, "0101")):
        assert not _holds_for(attribute, found, "in", value)
    assert not _holds_for(attribute, 10**5000, "in", "1")
    assert _holds_for(attribute, 10**5000, "neq", "1")
    assert not _holds_for(attribute, "101", "gt", 100)


def test_other_attributes_keep_numbers_and_texts_apart() -> None:
    assert not _holds_for("plan", 101, "in", "101")
    assert not _holds_for("plan", "101", "eq", 101)
    assert not _holds_for("plan", 101, "starts_with", "10")
