import datetime as dt
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.json_schema import JsonSchema, Mismatch
from pilothouse_core.schema_index import BadSchema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


def violations(schema: dict[str, Any], value: object) -> list[str]:
    return list(map(str, JsonSchema(schema).violations(value)))


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "hunter2", "the value is not of type integer (type)"),
        ({"type": ["integer", "null"]}, "x", "the value is not of type null or integer (type)"),
        ({"enum": ["ro", "rw", 1]}, "x", "the value is not one of ro, rw, 1 (enum)"),
        ({"const": 1}, True, "the value is not 1 (const)"),
        ({"minimum": 2}, 1, "the value is below 2 (minimum)"),
        ({"maximum": 2}, 3, "the value is above 2 (maximum)"),
        ({"exclusiveMinimum": 2}, 2, "the value is not above 2 (exclusiveMinimum)"),
        ({"exclusiveMaximum": 2}, 2, "the value is not below 2 (exclusiveMaximum)"),
        ({"multipleOf": 2}, 3, "the value is not a multiple of 2 (multipleOf)"),
        ({"minLength": 2}, "ü", "the value has fewer than 2 characters (minLength)"),
        ({"maxLength": 1}, "ab", "the value has more than 1 characters (maxLength)"),
        ({"pattern": "^[a-z]+$"}, "A", "the value does not match ^[a-z]+$ (pattern)"),
        ({"format": "email"}, "hunter2", "the value is not of the format email (format)"),
        ({"minItems": 1}, [], "the value has fewer than 1 items (minItems)"),
        ({"maxItems": 1}, [1, 2], "the value has more than 1 items (maxItems)"),
        ({"uniqueItems": True}, [1, 1], "the value has an item twice (uniqueItems)"),
        ({"items": {"type": "null"}}, [None, 1], "/1 is not of type null (type)"),
        ({"prefixItems": [True], "items": False}, [1, 2], "/1 is not allowed (items)"),
        ({"required": ["a/b"]}, {}, "/a~1b is missing (required)"),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "/b is missing (dependentRequired)"),
        ({"properties": {"a": False}}, {"a": 1}, "/a is not allowed (properties)"),
        ({"additionalProperties": False}, {"a": 1}, "/a is not known here (additionalProperties)"),
        (
            {"unevaluatedProperties": False},
            {"a": 1},
            "/a is not known here (unevaluatedProperties)",
        ),
        (
            {"prefixItems": [True], "unevaluatedItems": False},
            [1, "hunter2"],
            "the value has an item that is not known here (unevaluatedItems)",
        ),
        (
            {"properties": {"additionalProperties": False}},
            {"additionalProperties": {"a": 1}},
            "/additionalProperties is not allowed (additionalProperties)",
        ),
        ({"minProperties": 1}, {}, "the value has fewer than 1 members (minProperties)"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            "the value has a member with a name that is not allowed (propertyNames)",
        ),
        (
            {"anyOf": [{"type": "null"}, {"minimum": 3}]},
            1,
            "the value matches none of the alternatives (anyOf)",
        ),
        ({"not": {"type": "null"}}, None, "the value is of a kind that is not allowed (not)"),
        (
            {"oneOf": [{"minimum": 1}, {"minimum": 2}]},
            3,
            "the value does not match exactly one of the alternatives (oneOf)",
        ),
        (
            {"contains": {"type": "null"}},
            [1],
            "the value has the wrong number of items of the expected kind (contains)",
        ),
        (
            {"$defs": {"port": {"maximum": 65535}}, "properties": {"p": {"$ref": "#/$defs/port"}}},
            {"p": 70000},
            "/p is above 65535 (maximum)",
        ),
        (
            {
                "$schema": DRAFT_7,
                "definitions": {"port": {"maximum": 65535}},
                "properties": {"p": {"$ref": "#/definitions/port"}},
            },
            {"p": 70000},
            "/p is above 65535 (maximum)",
        ),
    ],
)
def test_a_violation_names_pointer_keyword_and_expectation(
    schema: dict[str, Any], value: object, expected: str
) -> None:
    assert violations(schema, value) == [expected]


def test_a_violation_leads_to_its_keyword() -> None:
    schema = {"properties": {"db": {"properties": {"port": {"type": "integer"}}}}}

    assert list(JsonSchema(schema).violations({"db": {"port": "x"}})) == [
        Mismatch(
            place=("db", "port"),
            keyword="type",
            message="is not of type integer",
            schema_place=("properties", "db", "properties", "port", "type"),
        )
    ]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"lowest": 1}, "at '': unknown keywords: lowest"),
        (
            {"$defs": {"a": {"anyOf": [{"items": {"foo": 1, "bar": 2}}]}}},
            "at '/$defs/a/anyOf/0/items': unknown keywords: bar, foo",
        ),
        ({"type": "text"}, "at '/type': not a type of JSON"),
        ({"minLength": -1}, "at '/minLength': "),
        ({"properties": {"a": 1}}, "at '/properties/a': "),
        ({"pattern": "("}, "at '/pattern': the pattern is malformed"),
        ({"pattern": "(?=a)b"}, "or needs look-around or backreferences"),
        ({"pattern": r"(a)\1"}, "or needs look-around or backreferences"),
        ({"format": "e-mail"}, "e-mail"),
        ({"$ref": "https://schemas.invalid/a.json"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/hostname"}, "Retrieval is disabled"),
        ({"$schema": "https://schemas.invalid/own"}, "Unknown meta-schema"),
    ],
)
def test_a_schema_that_would_not_be_checked_whole_is_refused(
    schema: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSchema) as refused:
        JsonSchema(schema)

    assert message in str(refused.value)


@pytest.mark.parametrize("dialect", [DRAFT_7, DRAFT_2020])
def test_comments_and_extensions_are_no_unknown_keywords(dialect: str) -> None:
    schema = {
        "$schema": dialect,
        "$id": "urn:example:db",
        "$comment": "c",
        "title": "t",
        "description": "d",
        "x-owner": {"lowest": 1},
        "properties": {"lowest": {"default": {"foo": 1}, "examples": [{"foo": 1}]}},
    }

    assert violations(schema, {"lowest": 1}) == []


def test_patterns_take_linear_time() -> None:
    assert violations({"pattern": "^(a+)+$"}, "a" * 50_000 + "b") != []


@pytest.mark.parametrize(
    "value",
    [
        "\udc80",
        {"a": MappingProxyType({"b": (1,)})},
        {1: dt.date(2024, 1, 1)},
        [Decimal("1.5")],
    ],
)
def test_values_that_json_lacks_are_judged_by_their_form(value: object) -> None:
    assert violations({"type": ["string", "object", "array"]}, value) == []
    assert violations({"type": "null"}, value) != []


_VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 3, 0.5, 70000, 1.0, "", "ab", "AB", "ro"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner)
    ),
    max_leaves=8,
)


@given(_VALUES, st.sampled_from([DRAFT_7, DRAFT_2020]))
def test_what_is_accepted_is_what_json_schema_accepts(value: object, dialect: str) -> None:
    schema = {
        "$schema": dialect,
        "properties": {
            "a": {"type": ["integer", "array"], "minimum": 1, "items": {"enum": ["ro", 1]}},
            "b": {"anyOf": [{"type": "null"}, {"multipleOf": 2}, {"$ref": "#"}]},
        },
        "required": ["a"],
        "propertyNames": {"enum": ["a", "b"]},
        "if": {"required": ["b"]},
        "then": {"not": {"properties": {"a": {"const": 3}}}},
    }
    reference = jsonschema.validators.validator_for(schema)(schema)

    assert (violations(schema, value) == []) == reference.is_valid(value)
