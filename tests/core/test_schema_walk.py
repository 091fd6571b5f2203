"""Secret places and defaults by a JSON Schema: where they are found, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.keys import is_below
from pilothouse_core.schema_defaults import (
    DefaultConflict,
    SecretDefault,
    combined_defaults,
    schema_defaults,
)
from pilothouse_core.schema_index import BadSchema, SchemaIndex, TooCostly
from pilothouse_core.schema_walk import SchemaWalk
from pilothouse_core.trees import leaf_key, leaves, node_at
from tests.trials import trials

Json = Any
SECRET = {"type": "string", "secret": True}
DRAFT_07 = "http://json-schema.org/draft-07/schema#"


def keys(schema: Json, value: Json, at: str = "") -> list[str]:
    return SchemaWalk(schema).secret_keys(value, at)


PLACES: dict[str, tuple[Json, Json, list[str]]] = {
    "properties": ({"properties": {"a": SECRET}}, {"a": "x", "b": "y"}, ["a"]),
    "writeOnly": ({"properties": {"a": {"writeOnly": True}}}, {"a": "x"}, ["a"]),
    "patternProperties": (
        {"patternProperties": {"_key$": SECRET}},
        {"api_key": "x", "api_keys": "y"},
        ["api_key"],
    ),
    "additionalProperties": (
        {
            "properties": {"a": {}},
            "patternProperties": {"^b": {}},
            "additionalProperties": SECRET,
        },
        {"a": 1, "b1": 2, "c": 3},
        ["c"],
    ),
    "items": (
        {"properties": {"users": {"items": {"properties": {"password": SECRET}}}}},
        {"users": [{"name": "a", "password": "x"}, {"password": "y"}, 7]},
        ["users[0].password", "users[1].password"],
    ),
    "prefixItems": (
        {"properties": {"l": {"prefixItems": [{}, SECRET], "items": {}}}},
        {"l": [1, 2, 3]},
        ["l[1]"],
    ),
    "items after prefixItems": (
        {"properties": {"l": {"prefixItems": [{}], "items": SECRET}}},
        {"l": [1, 2, 3]},
        ["l[1]", "l[2]"],
    ),
    "items of draft-07": (
        {
            "$schema": DRAFT_07,
            "properties": {"l": {"items": [{}, SECRET], "additionalItems": SECRET}},
        },
        {"l": [1, 2, 3]},
        ["l[1]", "l[2]"],
    ),
    "contains": ({"properties": {"l": {"contains": SECRET}}}, {"l": [1, 2]}, ["l[0]", "l[1]"]),
    "unevaluatedItems": (
        {"properties": {"l": {"prefixItems": [{}], "unevaluatedItems": SECRET}}},
        {"l": [1, 2]},
        ["l[1]"],
    ),
    "unevaluatedProperties": (
        {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": SECRET},
        {"a": 1, "b": 2},
        ["b"],
    ),
    "unevaluatedProperties beside a branch that may fail": (
        {"anyOf": [{"properties": {"a": {}}}, {}], "unevaluatedProperties": SECRET},
        {"a": 1},
        ["a"],
    ),
    "anyOf, as Pydantic writes what may be null": (
        {"properties": {"a": {"anyOf": [{"type": "string", "writeOnly": True}, {"type": "null"}]}}},
        {"a": "x"},
        ["a"],
    ),
    "null hides nothing": ({"properties": {"a": SECRET}}, {"a": None}, []),
    "allOf": ({"allOf": [{"properties": {"a": SECRET}}]}, {"a": 1}, ["a"]),
    "oneOf": ({"oneOf": [{}, {"properties": {"a": SECRET}}]}, {"a": 1}, ["a"]),
    "if": ({"if": {"properties": {"a": SECRET}}}, {"a": 1}, ["a"]),
    "then": ({"if": False, "then": {"properties": {"a": SECRET}}}, {"a": 1}, ["a"]),
    "else": ({"if": True, "else": {"properties": {"a": SECRET}}}, {"a": 1}, ["a"]),
    "dependentSchemas": (
        {"dependentSchemas": {"z": {"properties": {"a": SECRET}}}},
        {"a": 1},
        ["a"],
    ),
    "dependencies of draft-07": (
        {"$schema": DRAFT_07, "dependencies": {"y": ["z"], "z": {"properties": {"a": SECRET}}}},
        {"a": 1},
        ["a"],
    ),
    "$ref": ({"properties": {"a": {"$ref": "#/$defs/s"}}, "$defs": {"s": SECRET}}, {"a": 1}, ["a"]),
    "$ref with siblings": (
        {"properties": {"a": {"$ref": "#/$defs/s", "secret": True}}, "$defs": {"s": {}}},
        {"a": 1},
        ["a"],
    ),
    "$ref with siblings in draft-07": (
        {
            "$schema": DRAFT_07,
            "properties": {"a": {"$ref": "#/definitions/s", "writeOnly": True}},
            "definitions": {"s": {}},
        },
        {"a": 1},
        ["a"],
    ),
    "$anchor": (
        {"properties": {"a": {"$ref": "#s"}}, "$defs": {"x": {"$anchor": "s", "secret": True}}},
        {"a": 1},
        ["a"],
    ),
    "an anchor of draft-07": (
        {
            "$schema": DRAFT_07,
            "properties": {"a": {"$ref": "#s"}},
            "definitions": {"x": {"$id": "#s", "writeOnly": True}},
        },
        {"a": 1},
        ["a"],
    ),
    "$id": (
        {
            "$id": "https://example.com/root.json",
            "properties": {"a": {"$ref": "inner.json#/$defs/s"}},
            "$defs": {"x": {"$id": "inner.json", "$defs": {"s": SECRET}}},
        },
        {"a": 1},
        ["a"],
    ),
    "$id that is a URN": (
        {
            "$id": "urn:uuid:deadbeef-1234-00ff-ff00-4321feebdaed",
            "properties": {"a": {"$ref": "#/$defs/s"}},
            "$defs": {"s": SECRET},
        },
        {"a": 1},
        ["a"],
    ),
    "$dynamicRef": (
        {
            "properties": {"a": {"$dynamicRef": "#s"}},
            "$defs": {
                "x": {"$dynamicAnchor": "s"},
                "y": {"$id": "https://example.com/y", "$dynamicAnchor": "s", "secret": True},
            },
        },
        {"a": 1},
        ["a"],
    ),
    "a reference to a place of no keyword": (
        {"properties": {"a": {"$ref": "#/components/s%20t"}}, "components": {"s t": SECRET}},
        {"a": 1},
        ["a"],
    ),
    "recursion": (
        {"properties": {"child": {"$ref": "#"}, "a": SECRET}},
        {"child": {"child": {"a": 1}, "a": 2}},
        ["child.a", "child.child.a"],
    ),
    "a reference to itself": ({"$ref": "#", "properties": {"a": SECRET}}, {"a": 1}, ["a"]),
    "a section that is secret": (
        {"properties": {"db": {"secret": True}}},
        {"db": {"user": "a", "pool": {"min": 1}, "none": None}},
        ["db.pool.min", "db.user"],
    ),
    "a list that is secret": ({"properties": {"l": {"secret": True}}}, {"l": [1, {"a": 2}]}, ["l"]),
    "the whole": ({"secret": True}, {"a": {"b": 1}}, ["a.b"]),
    "sealed": ({"properties": {"a": SECRET}}, {"a": {"$secret": {"ciphertext": "x"}}}, ["a"]),
    "inside of what is sealed": (
        {"properties": {"a": {"properties": {"$secret": SECRET}}}},
        {"a": {"$secret": "x"}},
        [],
    ),
    "a name that needs brackets": (
        {"properties": {"m": {"additionalProperties": SECRET}}},
        {"m": {"kubernetes.io/os": 1}, "[a.b]": 2},
        ["m[kubernetes.io/os]"],
    ),
    "the value of a section": (
        {"properties": {"a": {"properties": {"$value": SECRET}}}},
        {"a": {"$value": 1, "b": 2}},
        ["a"],
    ),
    "names of keywords are names": (
        {"properties": {"secret": {"type": "boolean"}, "not": SECRET}},
        {"secret": True, "not": 1},
        ["not"],
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_secret_places_are_found_wherever_a_subschema_may_apply(name: str) -> None:
    schema, value, expected = PLACES[name]

    assert keys(schema, value) == expected


@pytest.mark.parametrize("name", PLACES)
def test_a_schema_that_is_mounted_below_a_key_finds_the_same(name: str) -> None:
    schema, value, expected = PLACES[name]

    found = keys(schema, {"plugins": {"audio": value}, "a": 1}, "plugins.audio")

    prefix = "plugins.audio"
    assert found == [prefix + (key if key.startswith("[") else f".{key}") for key in expected]


def test_a_schema_below_a_key_that_is_absent_finds_nothing() -> None:
    assert keys({"secret": True}, {"a": 1}, "plugins.audio") == []


def test_pointers_lead_to_the_outermost_secret_places() -> None:
    walk = SchemaWalk({"properties": {"db": SECRET, "a/b": {"items": SECRET}}})

    assert sorted(walk.secret_pointers({"db": {"x": 1}, "a/b": [1]})) == ["/a~1b/0", "/db"]
    assert SchemaWalk(SECRET).secret_pointers(1) == [""]


REFUSED: dict[str, tuple[Json, str]] = {
    "secret below not": ({"not": {"properties": {"a": SECRET}}}, "/not/properties/a"),
    "secret below not, by a reference": (
        {"properties": {"a": {"not": {"$ref": "#/$defs/s"}}}, "$defs": {"s": SECRET}},
        "/$defs/s",
    ),
    "secret names": ({"propertyNames": SECRET}, "/propertyNames"),
    "secret is a text": ({"properties": {"a": {"secret": "yes"}}}, "/properties/a/secret"),
    "another document": (
        {"properties": {"a": {"$ref": "https://example.com/a"}}},
        "/properties/a/$ref",
    ),
    "a file": ({"$ref": "file:///etc/passwd"}, "/$ref"),
    "no such place": ({"allOf": [{"$ref": "#/$defs/none"}]}, "/allOf/0/$ref"),
    "no such anchor": ({"$ref": "#none"}, "/$ref"),
    "a reference that is a number": ({"$ref": 7}, "/$ref"),
    "look-around": ({"patternProperties": {"^(?!a)": {}}}, "/patternProperties/^(?!a)"),
    "another draft": ({"$schema": "http://json-schema.org/draft-04/schema#"}, "/$schema"),
    "a schema that is a text": ({"properties": {"a": "string"}}, "/properties/a"),
    "too deep": (json.loads('{"not":' * 33 + "{}" + "}" * 33), "/not" * 32),
    "too many": ({"$defs": {str(number): {} for number in range(5000)}}, ""),
    "too large": ({"description": "x" * 262_144}, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_is_refused_with_a_pointer(name: str) -> None:
    schema, pointer = REFUSED[name]

    with pytest.raises(BadSchema) as refused:
        SchemaWalk(schema)

    assert refused.value.pointer == pointer


def test_a_meta_schema_may_be_referred_to() -> None:
    assert keys({"properties": {"a": {"$ref": DRAFT_07}, "b": SECRET}}, {"a": 1, "b": 1}) == ["b"]


def test_a_schema_as_large_as_allowed_is_read() -> None:
    SchemaIndex({"$defs": {str(number): {} for number in range(4998)}})
    SchemaIndex(json.loads('{"not":' * 31 + "{}" + "}" * 31))


def test_looking_at_too_many_subschemas_ends() -> None:
    schema = {"patternProperties": {f"^{number}": SECRET for number in range(1000)}}
    walk = SchemaWalk(schema)

    with pytest.raises(TooCostly):
        walk.secret_keys({f"x{number}": 1 for number in range(1000)})


DEFAULTS: dict[str, tuple[Json, Json]] = {
    "properties": (
        {"properties": {"db": {"properties": {"port": {"default": 5432}, "host": {}}}}},
        {"db": {"port": 5432}},
    ),
    "a reference": (
        {"properties": {"db": {"$ref": "#/$defs/db"}}, "$defs": {"db": {"default": {"a": 1}}}},
        {"db": {"a": 1}},
    ),
    "an outer and an inner one": (
        {
            "properties": {
                "db": {
                    "default": {"a": 1},
                    "properties": {"a": {"default": 1}, "b": {"default": 2}},
                }
            }
        },
        {"db": {"a": 1, "b": 2}},
    ),
    "an empty outer one": (
        {"properties": {"db": {"default": {}, "properties": {"b": {"default": 2}}}}},
        {"db": {"b": 2}},
    ),
    "allOf": ({"allOf": [{"properties": {"a": {"default": [1]}}}]}, {"a": [1]}),
    "the whole": ({"default": {"a": {"b": 1}}}, {"a": {"b": 1}}),
    "not of a branch": ({"anyOf": [{"properties": {"a": {"default": 1}}}]}, {}),
    "not of items": ({"properties": {"l": {"items": {"default": 1}}}}, {}),
    "null": ({"properties": {"a": {"default": None}}}, {"a": None}),
    "null at a secret": ({"properties": {"a": {**SECRET, "default": None}}}, {"a": None}),
    "recursion": (
        {"properties": {"name": {"default": "x"}, "child": {"$ref": "#"}}},
        {"name": "x"},
    ),
    "none": (True, {}),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_a_document(name: str) -> None:
    schema, expected = DEFAULTS[name]

    assert schema_defaults(SchemaWalk(schema)) == expected


def test_defaults_below_a_key_lie_there() -> None:
    walk = SchemaWalk({"properties": {"volume": {"default": 7}}})

    assert schema_defaults(walk, "plugins.audio") == {"plugins": {"audio": {"volume": 7}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {**SECRET, "default": "x"}}},
        {"properties": {"a": {"anyOf": [SECRET, {"type": "null"}], "default": "x"}}},
        {"properties": {"l": {"items": SECRET, "default": ["x"]}}},
        {"default": {"a": "x"}, "properties": {"a": SECRET}},
        {"default": {"a": "x"}, "anyOf": [{"properties": {"a": SECRET}}]},
        {"properties": {"a": {"default": {"$secret": "masked"}}}},
    ],
)
def test_a_secret_has_no_default(schema: Json) -> None:
    with pytest.raises(SecretDefault):
        schema_defaults(SchemaWalk(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/$defs/b", "default": 1}}, "$defs": {"b": {"default": 2}}},
        {"properties": {"a": {"default": {"b": 1}, "properties": {"b": {"default": True}}}}},
        {"properties": {"a": {"default": 1, "properties": {"b": {"default": 2}}}}},
    ],
)
def test_different_defaults_at_one_place_conflict(schema: Json) -> None:
    with pytest.raises(DefaultConflict):
        schema_defaults(SchemaWalk(schema))


def test_a_default_at_a_name_that_reads_as_a_path_is_refused() -> None:
    with pytest.raises(BadSchema, match="no document"):
        schema_defaults(SchemaWalk({"properties": {"a.b": {"default": 1}}}))


@pytest.mark.slow
def test_defaults_of_exponentially_many_places_end() -> None:
    levels = {
        str(number): {"properties": {name: {"$ref": f"#/$defs/{number + 1}"} for name in "abcd"}}
        for number in range(20)
    }
    walk = SchemaWalk({"$ref": "#/$defs/0", "$defs": {**levels, "20": {"default": 1}}})

    with pytest.raises(TooCostly):
        schema_defaults(walk)


def test_the_defaults_of_several_schemas_name_the_schema_of_each() -> None:
    tree, sources = combined_defaults(
        [("audio", {"a": {"b": 1, "c": {}}}), ("video", {"a": {"c": {"d": 2}}, "e": 3})]
    )

    assert tree == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert sources == {"a.b": "audio", "a.c.d": "video", "e": "video"}


def test_the_defaults_of_several_schemas_may_conflict() -> None:
    with pytest.raises(DefaultConflict) as conflict:
        combined_defaults([("audio", {"a": {"b": 1}}), ("video", {"a": {"b": 2}})])

    assert conflict.value.key == "a.b"


names = st.sampled_from(["a", "b", "c.d/e", "x]y", "0"])
values = st.recursive(
    st.none() | st.integers(0, 3) | st.just("x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
trees = st.dictionaries(names, values, max_size=3)
markers = st.sampled_from([{}, {}, {"secret": True}, {"writeOnly": True}, {"type": "string"}])
references = st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"$ref": "#b"}])


def applicators(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    named = st.dictionaries(names, inner, max_size=3)
    listed = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": named,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", ".", "/"]), inner),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": listed,
            "contains": inner,
            "allOf": listed,
            "anyOf": listed,
            "oneOf": listed,
            "if": inner,
            "then": inner,
            "dependentSchemas": named,
            "unevaluatedItems": inner,
            "unevaluatedProperties": inner,
        },
    )


subschemas = st.recursive(markers | references, applicators, max_leaves=8)
schemas = st.builds(
    lambda root, one, other: {**root, "$defs": {"a": one, "b": {**other, "$anchor": "b"}}},
    subschemas,
    subschemas,
    subschemas,
)


def _is_secret_by_hand(schema: Json, root: Json, value: Json, path: list[Json], depth: int) -> bool:
    """The same question asked the slow way: of `properties`, `items`, `allOf` and the like."""
    if depth == 0 or not isinstance(schema, dict):
        return False
    in_place = [*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    in_place += [schema[keyword] for keyword in ("if", "then") if keyword in schema]
    in_place += schema.get("dependentSchemas", {}).values()
    target = {"#": root, "#/$defs/a": root["$defs"]["a"], "#b": root["$defs"]["b"]}
    if "$ref" in schema:
        in_place.append(target[schema["$ref"]])
    if any(_is_secret_by_hand(each, root, value, path, depth - 1) for each in in_place):
        return True
    if schema.get("secret") or schema.get("writeOnly"):
        return True
    if not path:
        return False
    name, *rest = path
    below = [schema["contains"]] if isinstance(name, int) and "contains" in schema else []
    if isinstance(name, int):
        prefix = schema.get("prefixItems", [])
        below += [prefix[name]] if name < len(prefix) else [schema.get("items", {})]
    elif name in schema.get("properties", {}):
        below.append(schema["properties"][name])
    return any(_is_secret_by_hand(each, root, value[name], rest, depth - 1) for each in below)


def _paths(value: Json, path: tuple[Json, ...] = ()) -> list[tuple[Json, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(found for name, each in inner for found in _paths(each, (*path, name)))]


@settings(max_examples=trials(50))
@given(schemas, trees)
def test_every_place_that_a_reading_by_hand_finds_is_found(schema: Json, tree: Json) -> None:
    pointers = {
        tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
        for pointer in SchemaWalk(schema).secret_pointers(tree)
    }

    for path in _paths(tree):
        if _is_secret_by_hand(schema, schema, tree, list(path), 7):
            spelled = tuple(map(str, path))
            assert any(spelled[:length] in pointers for length in range(len(spelled) + 1))


@settings(max_examples=trials(50))
@given(schemas, trees)
def test_secret_keys_lead_to_values_of_the_document_and_none_into_another(
    schema: Json, tree: Json
) -> None:
    found = SchemaWalk(schema).secret_keys(tree)

    for key in found:
        assert node_at(tree, key) is not None
        assert leaf_key(tree, key)[1] == key
    assert not [(key, other) for key in found for other in found if is_below(key, other)]


@settings(max_examples=trials(50))
@given(schemas, trees)
def test_mounting_a_schema_adds_its_key_to_each(schema: Json, tree: Json) -> None:
    mounted = SchemaWalk({"properties": {"at": schema["$defs"]["a"]}, "$defs": schema["$defs"]})
    below = SchemaWalk({**schema["$defs"]["a"], "$defs": schema["$defs"]})

    if "$ref" in json.dumps(schema):  # `#` would be another schema
        return
    assert mounted.secret_keys({"at": tree}) == below.secret_keys({"at": tree}, "at")


@settings(max_examples=trials(50))
@given(schemas, trees)
def test_defaults_hold_no_secret_and_lie_where_they_were_given(schema: Json, tree: Json) -> None:
    walk = SchemaWalk({**schema, "default": tree})

    try:
        found = schema_defaults(walk)
    except SecretDefault:
        assert walk.secret_keys(tree) or walk.is_secret_at("")
        return
    assert walk.secret_keys(found) == []
    assert dict(leaves(found)) == dict(leaves(tree))
