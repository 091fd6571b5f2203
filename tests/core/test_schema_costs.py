"""How much work a schema may be, by how deep a value is."""

from itertools import pairwise
from typing import Any

import pytest

from pilothouse_core.schema_costs import MAX_APPLIED, judging_costs
from pilothouse_core.schema_index import BadSchema, SchemaIndex, TooCostly


def costs(schema: Any) -> tuple[int, ...]:
    return judging_costs(SchemaIndex(schema))


def test_a_schema_without_branches_costs_one_for_each_place() -> None:
    sections = {
        f"section-{number}": {"properties": {"port": {"type": "integer"}}} for number in range(900)
    }

    assert set(costs({"properties": sections})) == {1}


def test_what_leads_to_itself_once_may_be_as_deep_as_any_document() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}

    assert len(costs(tree)) == 128
    assert max(costs(tree)) == 2


def test_what_leads_to_itself_twice_doubles_with_each_level_and_ends() -> None:
    branch = {"properties": {"a": {"$ref": "#"}}}

    found = costs({"anyOf": [branch, branch]})

    assert found[0] == 3
    assert all(2 * before <= after for before, after in pairwise(found[1:]))
    assert found[-1] <= MAX_APPLIED < 2 * found[-1]


@pytest.mark.parametrize(
    "inner",
    [
        {"patternProperties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
        {"items": {"$ref": "#"}, "contains": {"$ref": "#"}},
        {"additionalProperties": {"not": {"$ref": "#"}, "if": {"$ref": "#"}}},
        {"allOf": [{"unevaluatedProperties": {"$ref": "#"}}], "properties": {"a": {"$ref": "#"}}},
    ],
)
def test_each_way_of_leading_to_itself_twice_is_counted(inner: Any) -> None:
    assert len(costs({"oneOf": [inner, {"dependentSchemas": {"a": inner}}]})) < 16


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"not": {"$ref": "#"}},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}},
        {"anyOf": [{}] * (MAX_APPLIED + 1)},
    ],
)
def test_a_schema_that_is_too_costly_for_any_value_is_refused(schema: Any) -> None:
    with pytest.raises(BadSchema):
        costs(schema)


def test_looking_for_the_costs_ends() -> None:
    names = {f"name-{number}": {"$ref": "#"} for number in range(2000)}

    with pytest.raises(TooCostly):
        costs({"properties": names})


def test_a_list_of_values_to_compare_with_costs_by_its_length() -> None:
    few, many = {"enum": [1, 2]}, {"enum": [{"a": [number]} for number in range(1000)]}

    assert costs({"items": few})[1] == 1
    assert costs({"items": many})[1] > 50
    assert costs({"items": {"const": list(range(1000))}})[1] > 20
