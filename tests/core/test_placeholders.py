"""Placeholders: what takes their place, in which type, and what may not."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.placeholders import (
    MAX_CHAIN,
    MAX_PLACEHOLDERS,
    PlaceholderCycle,
    PlaceholdersExceedLimit,
    PlaceholderUse,
    RevealedSecret,
    resolve_placeholders,
)
from tests.trials import trials

SECRET = {"$secret": "vault:v1:abc"}
MASKED = {"$secret": "masked"}


def value(text: Any, **others: Any) -> Any:
    return resolve_placeholders({"text": text, **others}).value["text"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${port}", 8080),
        ("${on}", True),
        ("${nothing}", None),
        ("${list}", [1, "host"]),
        ("${empty}", {}),
        ("http://${host}:${port}/", "http://db:8080/"),
        ("${on}${nothing}!", "true!"),
        ("${ host }", "db"),
        ("${absent:8081}", 8081),
        ("${absent:1.10}", "1.10"),
        ("${absent:}", ""),
        ("${absent:a:b}", "a:b"),
        ("${absent:-1}", -1),
        ("${absent:${port}}", 8080),
        ("${absent:${gone:x}y}", "xy"),
        ("${host:other}", "db"),
        ("${pool.${size}}", 5),
        ("${pool[a/b]}", "bracketed"),
        ("${list[1]}", "host"),
        ("${own}", "itself"),
        ("${chain}", "http://db:8080"),
    ],
)
def test_what_takes_the_place_of_a_placeholder(text: str, expected: Any) -> None:
    found = value(
        text,
        host="db",
        port=8080,
        on=True,
        nothing=None,
        list=[1, "host"],
        empty={},
        size="max",
        pool={"max": 5, "a/b": "bracketed"},
        own={"$value": "itself", "below": 1},
        chain="http://${host}:${port}",
    )

    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${absent}", "${absent}"),
        ("a ${absent} b", "a ${absent} b"),
        ("${section}", "${section}"),
        ("a ${list}", "a ${list}"),
        ("${", "${"),
        ("${open ${host}", "${open ${host}"),
        ("${}", "${}"),
        ("$${host}", "${host}"),
        ("$$${host}", "$${host}"),
        ("$host {host}", "$host {host}"),
    ],
)
def test_what_stays_as_it_is_written(text: str, expected: str) -> None:
    assert value(text, section={"a": 1}, list=[1], host="db") == expected


def test_lists_and_their_objects_are_resolved() -> None:
    assert value(["${a}", {"b": "x${a}", "c": ["${a}"]}], a=1) == [1, {"b": "x1", "c": [1]}]


def test_each_placeholder_is_told_with_the_key_of_its_value() -> None:
    found = resolve_placeholders({"a": {"b": "${c}-${d:x}-${e}"}, "c": "${f}", "f": 1})

    assert found.uses == {
        "a.b": [
            PlaceholderUse("c", "value", "c"),
            PlaceholderUse("d", "default"),
            PlaceholderUse("e", "unresolved"),
        ],
        "c": [PlaceholderUse("f", "value", "f")],
    }


def test_one_key_is_resolved_without_the_others() -> None:
    data = {"a": {"b": "${c}", "d": "${a.d}"}, "c": 1, "x": "${x}"}

    assert resolve_placeholders(data, key="a.b").value == 1
    assert resolve_placeholders(data, key="c").uses == {}
    with pytest.raises(PlaceholderCycle):
        resolve_placeholders(data, key="a")


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ({"a": "${a}"}, ["a", "a"]),
        ({"a": "x${b}", "b": "${c}", "c": "y${a}"}, ["a", "b", "c", "a"]),
        ({"a": "${a:default}"}, ["a", "a"]),
        ({"a": "${none:${b}}", "b": "${a}"}, ["a", "b", "a"]),
        ({"a": "${x.${b}}", "b": "${a}"}, ["a", "b", "a"]),
        ({"a": ["${a[0]}"]}, ["a[0]", "a[0]"]),
        ({"a": ["${a.0}"]}, ["a[0]", "a[0]"]),
    ],
)
def test_a_cycle_is_named(data: Any, keys: list[str]) -> None:
    with pytest.raises(PlaceholderCycle) as refused:
        resolve_placeholders(data)

    assert refused.value.keys == keys


def test_a_secret_is_never_part_of_a_text_or_a_name() -> None:
    found = resolve_placeholders(
        {
            "whole": "${secret}",
            "text": "user:${secret}@${host}",
            "through": "${text}!",
            "default": "${absent:x${secret}}",
            "name": "${x.${secret}}",
            "list": ["${secret}", "a${secret}"],
            "secret": SECRET,
            "host": "db",
        }
    )

    assert found.value == {
        "whole": SECRET,
        "text": MASKED,
        "through": MASKED,
        "default": MASKED,
        "name": "${x.${secret}}",
        "list": [SECRET, MASKED],
        "secret": SECRET,
        "host": "db",
    }
    assert found.secrets == {"secret"}


def test_an_opened_secret_is_taken_as_it_is() -> None:
    found = resolve_placeholders(
        {
            "text": "user:${secret}@${number}",
            "name": "${x.${secret}}",
            "whole": "${secret}",
            "secret": RevealedSecret("p${host}$${"),
            "number": RevealedSecret(5),
            "host": "db",
            "x": {"p${host}$${": "told"},
        }
    ).value

    assert (found["text"], found["whole"]) == ("user:p${host}$${@5", "p${host}$${")
    assert (found["secret"], found["number"]) == ("p${host}$${", 5)
    assert found["name"] == "${x.${secret}}"


def test_only_the_secrets_in_a_value_are_told() -> None:
    data = {"a": "${b}x${c}${d}", "b": SECRET, "c": SECRET, "d": "${e}", "e": SECRET, "f": SECRET}

    assert resolve_placeholders(data, key="a").secrets == {"b", "c", "e"}
    assert resolve_placeholders(data, key="d").secrets == {"e"}


def _doubling_texts(count: int, last: Any) -> dict[str, Any]:
    texts: dict[str, Any] = {f"k{n}": f"${{k{n + 1}}}${{k{n + 1}}}" for n in range(count)}
    return {**texts, f"k{count}": last}


def _lists(count: int) -> dict[str, Any]:
    lists: dict[str, Any] = {f"k{n}": [f"${{k{n + 1}}}"] * 2 for n in range(count)}
    return {**lists, f"k{count}": "x"}


@pytest.mark.parametrize(
    "data",
    [
        _doubling_texts(40, "x"),
        _lists(40),
        {f"k{n}": f"${{k{n + 1}}}" for n in range(MAX_CHAIN + 1)} | {f"k{MAX_CHAIN + 1}": 1},
        {"a": "${" * 20 + "b" + "}" * 20},
        {f"k{n}": "${x:" * 15 + f"${{k{n + 1}}}" + "}" * 15 for n in range(40)},
        {"a": "${b}" * (MAX_PLACEHOLDERS + 1)},
        {"a": "${b:}" * (200_000)},
        {"a": ["${b}" * 100] * (MAX_PLACEHOLDERS // 100 + 1)},
    ],
    ids=["doubled", "lists", "chain", "nested", "nested chain", "many", "long", "list"],
)
def test_little_that_would_become_much_is_refused(data: Any) -> None:
    with pytest.raises(PlaceholdersExceedLimit):
        resolve_placeholders(data)


@pytest.mark.parametrize("text", ["${" * 300_000, "${a" * 200_000, "{" * 700_000, "${a:" * 190_000])
def test_long_texts_without_an_end_are_texts(text: str) -> None:
    assert value(text) == text


def test_a_chain_as_long_as_allowed_is_resolved() -> None:
    chain: dict[str, Any] = {f"k{n}": f"${{k{n + 1}}}" for n in range(MAX_CHAIN - 1)}

    assert resolve_placeholders({**chain, f"k{MAX_CHAIN - 1}": "end"}).value["k0"] == "end"


NAMES = ["a", "b", "c", "d", "e"]
PIECES = st.one_of(
    st.text("xyz ", max_size=3), st.sampled_from([f"${{{name}}}" for name in [*NAMES, "absent"]])
)
# A value refers to names behind its own only: no cycles.
DOCUMENTS = st.tuples(*[st.lists(PIECES, max_size=4) for _ in NAMES]).map(
    lambda drawn: {
        name: "".join(piece for piece in pieces if piece[:1] != "$" or piece[2:-1] > name)
        for name, pieces in zip(NAMES, drawn, strict=True)
    }
)


@settings(max_examples=trials(200))
@given(DOCUMENTS)
def test_texts_are_what_plain_substitution_makes_of_them(data: dict[str, str]) -> None:
    expected = dict(data)
    for name in reversed(NAMES):
        expected[name] = re.sub(
            r"\$\{(\w+)\}", lambda found: expected.get(found[1], found[0]), expected[name]
        )

    assert resolve_placeholders(data).value == expected
    for name in NAMES:
        assert resolve_placeholders(data, key=name).value == expected[name]
