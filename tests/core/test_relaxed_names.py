"""Relaxed names: what is the same name, how layers meet, and how a key is found."""

from typing import Any

import pytest

from pilothouse_core.layers import merge
from pilothouse_core.relaxed_names import align_spellings, relaxed_finder, uniform_name


@pytest.mark.parametrize("name", ["first-name", "firstName", "first_name", "FIRST_NAME"])
def test_spellings_of_one_name(name: str) -> None:
    assert uniform_name(name) == "firstname"


@pytest.mark.parametrize("name", ["[a.b]", "/api/**", "kubernetes.io/os", "My Team"])
def test_a_key_of_a_map_is_the_same_as_itself_alone(name: str) -> None:
    assert uniform_name(name) != uniform_name(name.lower().replace("-", "_") + "x")
    assert uniform_name(name) != uniform_name(name.upper() if name != "/api/**" else "/API/**")


def test_a_higher_layer_speaks_of_the_same_name_in_its_spelling() -> None:
    low = {"my": {"firstName": "a", "pool_size": 1}, "only_low": 1, "List": [{"aB": 1}]}
    high = {"my": {"first-name": "b"}, "list": [{"a-b": 2}]}

    found = align_spellings([("low", low), ("high", high)])
    merged = merge(found.layers)

    assert merged.data == {
        "my": {"first-name": "b", "pool_size": 1},
        "only_low": 1,
        "list": [{"a-b": 2}],
    }
    assert merged.sources["my.first-name"] == "high"
    assert found.stored == {("low", "my.first-name"): "my.firstName", ("low", "list"): "List"}
    assert low["my"] == {"firstName": "a", "pool_size": 1}


def test_of_two_spellings_in_one_layer_the_first_counts() -> None:
    tree = {"a-b": {"x": 1}, "aB": {"x": 2, "y": 3}, "c-d": 1, "cD": 2}

    (_, found), *_ = align_spellings([("one", tree)]).layers

    assert found == {"a-b": {"x": 1, "y": 3}, "c-d": 1}


def test_a_value_and_a_section_of_one_name_replace_each_other_between_layers() -> None:
    low: Any = {"a-b": 1, "c-d": {"x": 1}}
    high: Any = {"aB": {"x": 2}, "cD": 3}

    assert merge(align_spellings([("low", low), ("high", high)]).layers).data == {
        "aB": {"x": 2},
        "cD": 3,
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("my.first-name", "my.first-name"),
        ("MY.FIRST_NAME", "my.first-name"),
        ("my.firstName", "my.first-name"),
        ("my.map[x.Y]", "my.map[x.Y]"),
        ("my.map[x.y]", None),
        ("MY", "my"),
        ("list[0].a-b", "list[0].a-b"),
        ("LIST[0].a-b", "list[0].a-b"),
        ("list[0].aB", None),  # of what lies in lists, names are as they are
        ("my.first-name.x", None),
        ("absent", None),
        ("", None),
    ],
)
def test_a_key_is_found_by_any_spelling(name: str, key: str | None) -> None:
    tree = {"my": {"first-name": 1, "map": {"[x.Y]": 2}}, "list": [{"a-b": 3}]}

    found = relaxed_finder(tree)(name)

    assert found is None if key is None else found in {key, key.replace("[0]", ".0")}
