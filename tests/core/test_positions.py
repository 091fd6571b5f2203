"""The line and the column of every value in a text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.json_positions import json_positions
from pilothouse_core.strict_yaml import document_positions, dumps

YAML = """\
# a comment
a:
  b: [1, {c: 2}]
  "d.e": &x
    f: |
      text
  g: *x
  h: {<<: *x}
---
---
- 1
"""


def test_members_of_yaml_are_where_their_names_are() -> None:
    first, empty, items = document_positions(YAML)

    assert first == {
        ("a",): (2, 1),
        ("a", "b"): (3, 3),
        ("a", "b", 0): (3, 7),
        ("a", "b", 1): (3, 10),
        ("a", "b", 1, "c"): (3, 11),
        ("a", "d.e"): (4, 3),
        ("a", "d.e", "f"): (5, 5),
        ("a", "g"): (7, 3),
        ("a", "h"): (8, 3),
        ("a", "h", "<<"): (8, 7),
    }
    assert empty == {}
    assert items == {(0,): (11, 3)}


@pytest.mark.parametrize("text", ["", "# nothing", "text", "&a b: 1\n*a : 2"])
def test_every_text_has_positions(text: str) -> None:
    assert isinstance(document_positions(text), list)


def test_members_of_json_are_where_their_names_are() -> None:
    text = '{"a": {"b": [1,\n  {"c\\u0041": "}"}], "ü": []},\n "d": "x"}'

    assert json_positions(text) == {
        ("a",): (1, 2),
        ("a", "b"): (1, 8),
        ("a", "b", 0): (1, 14),
        ("a", "b", 1): (2, 3),
        ("a", "b", 1, "cA"): (2, 4),
        ("a", "ü"): (2, 22),
        ("d",): (3, 2),
    }


def paths(value: Any, outer: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    members: Any = ()
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else enumerate(value)
    found: set[tuple[str | int, ...]] = set()
    for name, inner in members:
        found |= {(*outer, name)} | paths(inner, (*outer, name))
    return found


names = st.text(st.sampled_from('ab.[]"\\,:{}ü'), min_size=1, max_size=4)
values = st.recursive(
    st.sampled_from([None, True, 1, 0.5, "", "x", 'q"\\,:[]{}', "two\nlines"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(names, values, max_size=3), st.sampled_from([None, 1]))
def test_every_place_of_json_is_found_where_it_is(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)

    found = json_positions(text)

    assert found.keys() == paths(value)
    lines = text.split("\n")
    for path, (line, column) in found.items():
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        name = path[-1]
        if isinstance(name, str):
            assert rest.startswith(json.dumps(name) + ":")


@given(st.dictionaries(names, values, max_size=3))
def test_every_place_of_yaml_is_found(value: Any) -> None:
    [found] = document_positions(dumps(value))

    assert found.keys() == paths(value)
