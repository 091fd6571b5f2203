"""What configuration files may hold, and how it is read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.reload import BadConfig, MissingVariable
from pilothouse.reload.documents import read_document, write_document
from pilothouse.reload.expansion import expand_tree

NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"), max_size=8
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
TREES = st.dictionaries(NAMES, VALUES, max_size=4)


@given(TREES)
def test_what_is_written_is_read_again(tree: dict[str, Any]) -> None:
    assert read_document(write_document(tree, ".json"), ".json") == tree
    assert read_document(write_document(tree, ".yaml"), ".yaml") == tree


@given(TREES)
def test_yaml_is_read_as_pyyaml_reads_it(tree: dict[str, Any]) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)

    assert read_document(text.encode(), ".yaml") == yaml.safe_load(text)


def test_yaml_knows_aliases_and_merge_keys() -> None:
    text = b"base: &b {a: 1, b: 2}\nother: {<<: *b, b: 3}\nlist: [*b, &t x, *t]\nplain: {'<<': 1}\n"

    assert read_document(text, ".yml") == {
        "base": {"a": 1, "b": 2},
        "other": {"a": 1, "b": 3},
        "list": [{"a": 1, "b": 2}, "x", "x"],
        "plain": {"<<": 1},
    }


def test_yaml_types_hold_no_surprises() -> None:
    text = (
        b"date: 2024-01-01\ntime: 12:30\noctal: 010\nyes: yes\nno: !!str no\nf: !!float 1\n1: one\n"
    )

    assert read_document(text, ".yaml") == {
        "date": "2024-01-01",
        "time": "12:30",
        "octal": 8,
        "yes": True,
        "no": "no",
        "f": 1.0,
        "1": "one",
    }


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("", ".yaml", "is empty"),
        ("  \n", ".json", "is empty"),
        ("# nothing\n", ".yaml", "holds nothing"),
        ("- a\n", ".yaml", "holds a list"),
        ("text", ".yaml", "holds a text"),
        ("[1]", ".json", "holds a list"),
        ("a: 1\na: 2\n", ".yaml", "line 2, column 1: the key 'a' is given twice"),
        ('{"a": 1, "a": 2}', ".json", "'a' occurs twice"),
        ('{"a": NaN}', ".json", "NaN"),
        ("a: .nan\n", ".yaml", "line 1, column 4: infinity and NaN"),
        ("a: -.inf\n", ".yaml", "infinity and NaN"),
        ("a: 9.9e+999\n", ".yaml", "beyond every double"),
        ("a: [1\n", ".yaml", "not YAML"),
        ('{"a": [1', ".json", "not JSON"),
        ("a: 1\n---\nb: 2\n", ".yaml", "more than one document"),
        ("a: !!python/object:os.system x\n", ".yaml", "tag"),
        ("a: !!timestamp 2024-01-01\n", ".yaml", "tag"),
        ("!!int 1: x\n", ".yaml", "a tag other than !!str on a key"),
        ("? [a]\n: b\n", ".yaml", "a key that is not a scalar"),
        ("a: *b\n", ".yaml", "undefined alias"),
        ("a: &a [*a]\n", ".yaml", "recursive alias"),
        ("a: {<<: 1}\n", ".yaml", "merge key"),
        ("a: " + "[" * 80 + "]" * 80, ".yaml", "64 levels"),
        ("a: \x00", ".yaml", "not YAML"),
        ("a: 1", ".ini", ".ini"),
    ],
)
def test_what_two_readers_would_read_differently_is_refused(
    content: str, suffix: str, reason: str
) -> None:
    with pytest.raises(BadConfig) as refused:
        read_document(content.encode(), suffix)

    assert reason in str(refused.value)


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    with pytest.raises(BadConfig, match="1000000 values"):
        read_document("\n".join(lines).encode(), ".yaml")


def test_what_is_not_utf8_is_refused() -> None:
    for suffix in (".yaml", ".json"):
        with pytest.raises(BadConfig, match="not UTF-8"):
            read_document(b'{"a": "\xff"}', suffix)


def test_what_json_cannot_hold_is_not_written() -> None:
    with pytest.raises(BadConfig):
        write_document({"a": math.nan}, ".json")
    with pytest.raises(BadConfig):
        write_document({"a": Path()}, ".yaml")


def test_references_are_expanded() -> None:
    known = {"HOST": "db1", "PORT": "5432", "ON": "true", "LIST": "[1, 2]", "TRAP": "${HOST}"}
    tree = {
        "text": "${HOST}",
        "number": "${PORT}",
        "boolean": "${ON}",
        "list": ["${LIST}", "x"],
        "inside": "http://${HOST}:${PORT}/",
        "default": "${NONE:8080}",
        "empty": "${NONE:}",
        "colons": "${NONE:a:b}",
        "escaped": "$${HOST} costs $5",
        "trap": "${TRAP}",
        "nested": {"${HOST}": '${NONE:"10"}'},
    }

    assert expand_tree(tree, known) == {
        "text": "db1",
        "number": 5432,
        "boolean": True,
        "list": [[1, 2], "x"],
        "inside": "http://db1:5432/",
        "default": 8080,
        "empty": "",
        "colons": "a:b",
        "escaped": "${HOST} costs $5",
        "trap": "${HOST}",
        "nested": {"${HOST}": "10"},
    }


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(MissingVariable, match="A_VARIABLE, ANOTHER") as missing:
        expand_tree({"a": "${A_VARIABLE}", "b": ["x${ANOTHER}y", "${A_VARIABLE}"]}, {})

    assert missing.value.names == ("A_VARIABLE", "ANOTHER")


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${a-b}", "${A:{}", "a ${A"])
def test_what_begins_no_reference_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(BadConfig, match=r"^db\.host: "):
        expand_tree({"db": {"host": text}}, {"A": "x"})


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_variable_inside_a_text_is_taken_as_it_is(around: str, held: str) -> None:
    text = around.replace("$", "%")

    assert expand_tree({"a": f"<{text}${{X}}"}, {"X": held}) == {"a": f"<{text}{held}"}


@given(TREES)
def test_what_holds_no_reference_stays_as_it_is(tree: dict[str, Any]) -> None:
    if "${" not in json.dumps(tree):
        assert expand_tree(tree, {}) == tree
