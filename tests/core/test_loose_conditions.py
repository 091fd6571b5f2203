"""Conditions that imports need: texts that spell numbers, versions cut short, lists."""

from typing import Any

import pytest

from pilothouse_core.conditions import compiled, read_condition, written
from pilothouse_core.definitions import DefinitionError, Place
from pilothouse_core.evaluation import EMPTY


def holds(value: Any, op: str, *values: Any, **modifiers: Any) -> bool:
    condition = read_condition(
        Place({"attribute": "x", "op": op, "values": list(values), **modifiers})
    )
    assert read_condition(Place(written(condition))) == condition
    return compiled(condition)({"x": value}, EMPTY)


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
