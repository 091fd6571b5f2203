"""Configurations judged by a schema: what a violation says, and what it never says."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.errors import SchemaInvalid, SchemaTooCostly
from app.rules.schemas.compiled import MOST_VIOLATIONS, CompiledSchema, violations
from app.rules.schemas.model import Violation
from tests.trials import trials

Json = Any
NEVER: Json = False
SEALED = {"$secret": {"ciphertext": "vault:v1:abc"}}
DRAFT_07 = "http://json-schema.org/draft-07/schema#"


def violations_of(schema: Json, tree: Json, at: str = "") -> list[Violation]:
    return list(violations(CompiledSchema(schema), tree, at))


def keywords(schema: Json, tree: Json) -> list[tuple[str, str]]:
    return [(found.key, found.keyword) for found in violations_of(schema, tree)]


POOL = {"properties": {"db": {"properties": {"pool": {"type": "integer", "maximum": 50}}}}}
EXPECTED: dict[str, tuple[Json, Json, Violation]] = {
    "a limit": (
        POOL,
        {"db": {"pool": 70}},
        Violation("db.pool", "/db/pool", "/properties/db/properties/pool/maximum", "maximum", 50),
    ),
    "a type": (
        POOL,
        {"db": {"pool": "many"}},
        Violation(
            "db.pool", "/db/pool", "/properties/db/properties/pool/type", "type", ["integer"]
        ),
    ),
    "an option": (
        {"properties": {"a": {"enum": ["x", "y"]}}},
        {"a": "z"},
        Violation("a", "/a", "/properties/a/enum", "enum", ["x", "y"]),
    ),
    "a constant": (
        {"properties": {"a": {"const": {"b": 1}}}},
        {"a": 2},
        Violation("a", "/a", "/properties/a/const", "const", {"b": 1}),
    ),
    "a missing member": (
        {"properties": {"db": {"required": ["host"]}}},
        {"db": {"port": 1}},
        Violation("db.host", "/db/host", "/properties/db/required", "required", "host"),
    ),
    "a member that another needs": (
        {"dependentRequired": {"a": ["b"]}},
        {"a": 1},
        Violation("b", "/b", "/dependentRequired", "dependentRequired", "b"),
    ),
    "a member too many": (
        {"additionalProperties": False},
        {"a/b": 1},
        Violation(
            "[a/b]", "/a~1b", "/additionalProperties", "additionalProperties", expected=False
        ),
    ),
    "an item": (
        {"properties": {"l": {"items": {"properties": {"x.y": {"type": "null"}}}}}},
        {"l": [{}, {"x.y": 1}]},
        Violation(
            "l[1][x.y]",
            "/l/1/x.y",
            "/properties/l/items/properties/x.y/type",
            "type",
            ["null"],
        ),
    ),
    "a place that must not be": (
        {"properties": {"a": False}},
        {"a": 1},
        Violation("a", "/a", "/properties/a", "false", expected=False),
    ),
    "behind a reference": (
        {"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"pattern": "^x"}}},
        {"a": "y"},
        Violation("a", "/a", "/$defs/x/pattern", "pattern", "^x"),
    ),
    "a format": (
        {"properties": {"a": {"format": "ipv4"}}},
        {"a": "300.1.1.1"},
        Violation("a", "/a", "/properties/a/format", "format", "ipv4"),
    ),
    "no branch": (
        {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"a": 1},
        Violation("a", "/a", "/properties/a/anyOf", "anyOf"),
    ),
    "a name": (
        {"propertyNames": {"maxLength": 1}},
        {"long": 1},
        Violation("", "", "/propertyNames/maxLength", "propertyNames"),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_violation_says_the_place_and_what_is_expected(name: str) -> None:
    schema, tree, expected = EXPECTED[name]

    assert violations_of(schema, tree) == [expected]


def test_a_schema_below_a_key_names_the_whole_key() -> None:
    tree = {"plugins": {"[a.b]": {"volume": 12}}}

    found = violations_of({"properties": {"volume": {"maximum": 11}}}, tree, "plugins[a.b]")

    assert [(each.key, each.pointer) for each in found] == [
        ("plugins[a.b].volume", "/plugins/[a.b]/volume")
    ]


def test_a_key_that_is_absent_is_not_judged() -> None:
    assert violations_of(NEVER, {"plugins": {}}, "plugins.audio") == []


def test_draft_07_is_read_as_such() -> None:
    schema = {"properties": {"l": {"items": [{"type": "string"}], "additionalItems": False}}}

    assert keywords({"$schema": DRAFT_07, **schema}, {"l": [1, 2]}) == [
        ("l[0]", "type"),
        ("l", "additionalItems"),
    ]


def test_members_are_judged_as_a_reader_sees_them() -> None:
    tree = {"$schema": "https://example.com/s", "level": {"$value": "INFO", "com": "DEBUG"}}

    assert keywords({"properties": {"$schema": {"format": "uri"}}}, tree) == []
    assert keywords({"properties": {"level": {"additionalProperties": {"enum": []}}}}, tree) == [
        ("level", "enum"),
        ("level.com", "enum"),
    ]


def test_what_is_found_is_bounded() -> None:
    tree = {f"key-{number}": "x" for number in range(3 * MOST_VIOLATIONS)}

    assert len(violations_of({"additionalProperties": {"type": "null"}}, tree)) == MOST_VIOLATIONS


PASSWORD = {"type": "string", "minLength": 12, "secret": True}
UNDECIDED: dict[str, tuple[Json, Json]] = {
    "its own rules": ({"properties": {"a": PASSWORD}}, {"a": SEALED}),
    "rules inside of it": ({"properties": {"a": {"required": ["b"]}}}, {"a": SEALED}),
    "null or a secret": (
        {"properties": {"a": {"anyOf": [PASSWORD, {"type": "null"}]}}},
        {"a": SEALED},
    ),
    "a branch that may hold": (
        {
            "oneOf": [
                {"properties": {"a": PASSWORD}, "required": ["a"]},
                {"required": ["token"]},
            ]
        },
        {"a": SEALED},
    ),
    "members evaluated by what may hold": (
        {"allOf": [{"properties": {"a": PASSWORD, "b": {}}}], "unevaluatedProperties": False},
        {"a": SEALED, "b": 1},
    ),
    "what compares the whole": (
        {"properties": {"l": {"uniqueItems": True, "enum": [1], "not": {}, "const": 1}}},
        {"l": [SEALED, SEALED]},
    ),
    "a list with a secret among others": (
        {"properties": {"l": {"contains": {"const": "x"}}}},
        {"l": [SEALED, "y"]},
    ),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_a_sealed_secret_might_meet_is_left_out(name: str) -> None:
    schema, tree = UNDECIDED[name]

    assert violations_of(schema, tree) == []


def test_a_sealed_secret_counts_as_present() -> None:
    schema = {"required": ["a", "b"], "maxProperties": 1, "properties": {"a": PASSWORD}}

    assert keywords(schema, {"a": SEALED, "c": 1}) == [("", "maxProperties"), ("b", "required")]


def test_beside_a_sealed_secret_the_rest_is_judged() -> None:
    schema = {"properties": {"a": PASSWORD, "b": {"oneOf": [{"type": "null"}]}}}

    assert keywords(schema, {"a": SEALED, "b": 1}) == [("b", "oneOf")]


def test_a_new_secret_is_judged_in_the_clear_and_not_shown() -> None:
    found = violations_of({"properties": {"a": PASSWORD}}, {"a": "hunter2"})

    assert [each.keyword for each in found] == ["minLength"]
    assert "hunter2" not in repr(found)


def test_items_that_are_not_expected_are_not_shown() -> None:
    schema = {"properties": {"keys": {"prefixItems": [True], "unevaluatedItems": False}}}

    [found] = violations_of(schema, {"keys": [1, "hunter2", {"pin": "hunter2"}]})

    assert (found.key, found.keyword, found.expected) == ("keys", "unevaluatedItems", None)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"const": "x" * 1000}, None),
        ({"pattern": "x{2}" * 300}, None),
        ({"enum": ["x" * 300] * 10}, ["x" * 300] * 2),
        ({"enum": ["x" * 3000]}, None),
        ({"enum": list(range(1, 90))}, list(range(1, 21))),
    ],
)
def test_what_is_expected_is_shortened(schema: Json, expected: Json) -> None:
    [found] = violations_of({"properties": {"a": schema}}, {"a": "no"})

    assert found.expected == expected


REFUSED: dict[str, tuple[Json, str]] = {
    "rules below the root": (
        {"properties": {"a": {"x-rules": [{"id": "a", "rule": "true"}]}}},
        "/properties/a/x-rules",
    ),
    "a type that is none": ({"properties": {"a": {"type": "word"}}}, "/properties/a/type"),
    "look-around": ({"properties": {"a": {"pattern": "(?=x)"}}}, "/properties/a/pattern"),
    "a back-reference": ({"items": {"pattern": r"(a)\1"}}, "/items/pattern"),
    "a pattern of a megabyte": ({"pattern": "((a{1,500}){1,500}){1,500}"}, "/pattern"),
    "look-around in names": ({"patternProperties": {"(?!x)": {}}}, "/patternProperties/(?!x)"),
    "a server": ({"$ref": "http://127.0.0.1:1/x"}, "/$ref"),
    "a file": ({"allOf": [{"$ref": "file:///etc/passwd"}]}, "/allOf/0/$ref"),
    "a negative length": ({"properties": {"a": {"minLength": -1}}}, "/properties/a/minLength"),
    "a secret below not": ({"not": {"secret": True}}, "/not"),
    "itself": ({"$ref": "#"}, ""),
    "itself by others": (
        {
            "properties": {"a": {"$ref": "#/$defs/b"}},
            "$defs": {"b": {"anyOf": [{"$ref": "#/$defs/b"}]}},
        },
        "/$defs/b/anyOf/0",
    ),
    "a list": ([], ""),
    "a doubling of references": (
        {
            "$ref": "#/$defs/0",
            "$defs": {
                **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(20)},
                "20": {},
            },
        },
        "",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_cannot_be_used_is_refused_at_its_place(name: str) -> None:
    schema, pointer = REFUSED[name]

    with pytest.raises(SchemaInvalid) as refused:
        CompiledSchema(schema)

    assert refused.value.pointer == pointer
    assert refused.value.flaws[0]["code"] == "bad_schema"


def test_a_schema_that_doubles_with_each_level_judges_shallow_values_only() -> None:
    branch = {"properties": {"a": {"$ref": "#"}, "b": False}}
    schema = CompiledSchema({"anyOf": [branch, branch]})
    deep: Json = {"b": 1}
    for _ in range(30):
        deep = {"a": deep}

    assert [each.keyword for each in violations(schema, {"a": {"b": 1}})] == ["anyOf"]
    with pytest.raises(SchemaTooCostly):
        violations(schema, deep)


def test_of_a_value_that_is_costly_to_judge_the_first_error_is_described() -> None:
    branches = [{"required": [f"k{number}"]} for number in range(50)]
    schema = CompiledSchema({"additionalProperties": {"anyOf": branches}})
    good: Json = {f"m{number}": {"k49": 1} for number in range(1500)}
    bad: Json = {name: {"other": 1} for name in good}
    sealed: Json = {**bad, "secret": {"$secret": "masked"}}

    assert violations(schema, good) == ()
    assert [each.keyword for each in violations(schema, bad)] == ["anyOf"]
    with pytest.raises(SchemaTooCostly):
        violations(schema, sealed)


def test_a_schema_of_trees_judges_deep_values() -> None:
    schema = CompiledSchema(
        {
            "properties": {
                "left": {"$ref": "#"},
                "right": {"$ref": "#"},
                "all": {"items": {"$ref": "#"}},
                "value": {"type": "integer"},
            },
            "additionalProperties": False,
        }
    )
    deep: Json = {"value": "x"}
    for number in range(60):
        deep = {("left", "right")[number % 2]: deep}

    assert [each.keyword for each in violations(schema, deep)] == ["type"]


def test_a_pattern_is_matched_in_linear_time() -> None:
    schema = CompiledSchema({"properties": {"a": {"pattern": "^(a+)+$"}}})
    started = time.process_time()

    assert len(violations(schema, {"a": "a" * 100_000 + "!"})) == 1
    assert time.process_time() - started < 10  # backtracking takes longer than the universe


PLANTED = "planted-value-7f3a"
texts = st.just(PLANTED) | st.integers(10**9, 10**10)
trees = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        texts,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=3,
)
demands = st.sampled_from(
    [
        {"type": "boolean"},
        {"enum": [1, "x"]},
        {"const": None},
        {"maxLength": 2, "maximum": 3, "maxItems": 0, "maxProperties": 0},
        {"pattern": "^x", "multipleOf": 7, "format": "ipv4"},
        {"required": ["z"]},
        {"uniqueItems": True},
        {"propertyNames": {"const": "z"}},
        {"not": {}},
        {"contains": {"const": 5}},
        {"prefixItems": [True], "unevaluatedItems": False},
        {"unevaluatedProperties": False},
        {"minItems": 4, "minProperties": 4, "minLength": 90, "minimum": 90},
        {"exclusiveMaximum": 0, "exclusiveMinimum": 90},
        {"dependentRequired": {"a": ["z"]}},
        False,
    ]
)
schemas = st.recursive(
    demands,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner),
            "additionalProperties": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "if": inner,
            "else": inner,
        },
    ),
    max_leaves=6,
)


@settings(max_examples=trials(100))
@given(schemas, trees)
def test_no_violation_has_a_value_of_the_configuration(schema: Json, tree: Json) -> None:
    found = violations_of(schema, tree)

    text = json.dumps([repr(each) for each in found])
    assert PLANTED not in text
    assert not [number for number in _numbers(tree) if str(number) in text]


@settings(max_examples=trials(100))
@given(schemas, trees)
def test_sealing_what_is_there_adds_no_violation(schema: Json, tree: Json) -> None:
    """Errors at what is sealed vanish; what is refused beside it was refused before."""
    before = set(keywords(schema, tree))
    sealed = {name: SEALED if name == "a" else value for name, value in tree.items()}

    after = keywords(schema, sealed)

    if "if" not in json.dumps(schema) and "oneOf" not in json.dumps(schema):
        assert set(after) <= before


def _numbers(value: Json) -> list[int]:
    if isinstance(value, int):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for each in inner for number in _numbers(each)]
