"""Conditions that imports need: texts that spell numbers, versions cut short, lists."""

from typing import Any

import pytest

from pilothouse_core.conditions.compiler import compile_condition
from pilothouse_core.conditions.reading import read_condition
from pilothouse_core.conditions.serialization import condition_json
from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.evaluation import EMPTY


def holds(value: Any, op: str, *values: Any, **modifiers: Any) -> bool:
    condition = read_condition(
        Place({"attribute": "x", "op": op, "values": list(values), **modifiers})
    )
    assert read_condition(Place(condition_json(condition))) == condition
    return compile_condition(condition)({"x": value}, EMPTY)


@pytest.mark.parametrize("text", ["5", "+5", "5.", "5.0", ".5e1", "50E-1", "05"])
def test_a_loose_comparison_takes_a_text_that_spells_a_number(text: str) -> None:
    assert holds(text, "gte", 5, loose=True)
    assert holds(text, "lte", 5, loose=True)
    assert not holds(text, "gte", 5)


@pytest.mark.parametrize(
    "value", ["", " 5", "5 ", "0x5", "5_0", "\u0665", "five", "nan", None, True, []]
)
def test_a_loose_comparison_takes_nothing_else(value: Any) -> None:
    assert not holds(value, "gte", 5, loose=True)
    assert not holds(value, "lte", 5, loose=True)


def test_a_loose_comparison_takes_numbers_as_before() -> None:
    assert holds(7, "gt", 6.5, loose=True)
    assert not holds(6, "gt", 6.5, loose=True)
    assert holds("inf", "gt", 6.5, loose=True)


@pytest.mark.parametrize("text", ["v1.2", "V1.2.0", "1.2", "1.2.0", "1.2+build.7"])
def test_a_loose_comparison_fills_up_a_version(text: str) -> None:
    assert holds(text, "semver_eq", "1.2.0", loose=True)
    assert holds(text, "semver_eq", "1.2.0") is (text == "1.2.0")


@pytest.mark.parametrize("text", ["v10.1", "V10.1.0", "10.1", "10.1.0"])
def test_a_loose_comparison_takes_the_same_spellings_in_the_rule(text: str) -> None:
    for found in ("v10.1", "10.1.0", "10.1"):
        assert holds(found, "semver_eq", text, loose=True)
    assert holds("v10.0.9", "semver_lt", text, loose=True)
    if text != "10.1.0":
        with pytest.raises(DefinitionError):
            holds("10.1.0", "semver_eq", text)


@pytest.mark.parametrize("text", ["5", "+5", "5.0", ".5e1"])
def test_a_loose_rule_takes_a_text_that_spells_a_number(text: str) -> None:
    assert holds(6, "gt", text, loose=True)
    assert holds("6", "gt", text, loose=True)
    assert not holds("5", "gt", text, loose=True)
    with pytest.raises(DefinitionError):
        holds(6, "gt", text)


@pytest.mark.parametrize("text", ["", "five", "nan", "inf", "1e999", " 5", "v1.2.3.4"])
def test_a_loose_rule_takes_nothing_else(text: str) -> None:
    for op in ("gt", "semver_gt"):
        with pytest.raises(DefinitionError):
            holds("1", op, text, loose=True)


@pytest.mark.parametrize("text", ["", "v", "vv1", "1.2.3.4", "1.", "one", "1.2-"])
def test_a_loose_comparison_does_not_make_up_versions(text: str) -> None:
    assert not holds(text, "semver_gte", "0.0.0-0", loose=True)


def test_what_comes_before_a_release_stays_before_it() -> None:
    assert holds("v1.2-rc.1", "semver_lt", "1.2.0", loose=True)


def test_a_list_includes_a_value_of_its_very_type() -> None:
    assert holds(["a", 1], "includes", "b", 1)
    assert not holds([True, "1", ["a"], None], "includes", 1, "a")
    assert not holds("a", "includes", "a")
    assert not holds(None, "includes", "a")


@pytest.mark.parametrize("op", ["eq", "in", "contains", "before", "cidr", "includes"])
def test_only_numbers_and_versions_can_be_compared_loosely(op: str) -> None:
    condition = {"attribute": "x", "op": op, "values": ["::1"], "loose": True}

    with pytest.raises(DefinitionError):
        read_condition(Place(condition))


@pytest.mark.parametrize(("value", "says"), [(1.2, True), (1, False), (2, False), (2.0, False)])
def test_a_loose_comparison_takes_a_number_for_a_version(value: float, says: bool) -> None:  # noqa: FBT001
    assert holds(value, "semver_eq", "1.2.0", loose=True) is says
    assert not holds(value, "semver_eq", "1.2.0")


def test_what_is_no_number_of_a_version_is_none() -> None:
    for value in (True, False, float("inf"), float("nan"), 10**5000, -1, 1e300):
        assert not holds(value, "semver_gte", "0.0.0-0", loose=True)
