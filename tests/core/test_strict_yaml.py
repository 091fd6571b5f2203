from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.numbers import INEXACT
from pilothouse_core.strict_yaml import (
    BadYaml,
    Document,
    Limits,
    YamlTooLarge,
    dumps,
    load_documents,
    loads,
    reader,
)

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


def refusal(text: str, **options: Any) -> str:
    with pytest.raises(BadYaml) as refused:
        loads(text, **options)
    return str(refused.value)


def test_documents_come_with_their_places() -> None:
    text = "---\n---\na: 1\n--- # nothing\n---\na.b: 2\n...\n---\n- 1\n"

    assert load_documents(text) == [
        Document(None, 1, 1),
        Document({"a": 1}, 2, 1),
        Document(None, 4, 1),
        Document({"a.b": 2}, 5, 1),
        Document([1], 8, 1),
    ]


@pytest.mark.parametrize(("text", "value"), [("", None), ("# nothing", None), ("text", "text")])
def test_one_document_may_hold_anything(text: str, value: object) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("y", "y"),
        ("010", 8),
        ("-0x1F", -31),
        ("0b11", 3),
        ("1_000", 1000),
        ("09", "09"),
        ("0x_", "0x_"),
        ("1.5e+3", 1500.0),
        ("-1.", -1.0),
        ("1e3", 1000.0),  # as Spring has it
        ("-1_0E-1", -1.0),
        ("1.5e3", 1500.0),
        (".5e3", 500.0),
        ("-.5e3", "-.5e3"),
        ("1e", "1e"),
        ("12:30", "12:30"),
        ("1:30:00.5", "1:30:00.5"),
        ("2001-01-01", "2001-01-01"),
        ("2001-01-01T10:00:00Z", "2001-01-01T10:00:00Z"),
        ("=", "="),
        ("'8080'", "8080"),
        ("! 8080", "8080"),
        ("!!str 8080", "8080"),
        ("!!int '8080'", 8080),
        ("!!float 1", 1.0),
        ("!!bool on", True),
        ("!!null ''", None),
        ("!!seq [!!map {}]", [{}]),
        ("9" * 4300, int("9" * 4300)),
    ],
)
def test_a_yaml_scalar_means(written: str, value: object) -> None:
    parsed = loads(f"a: {written}")["a"]

    assert (type(parsed), parsed) == (type(value), value)


def test_yaml_keys_are_their_source_text() -> None:
    text = "8080: 1\non: 2\n~: 3\n1.50: 4\n'x': 5\n2001-01-01: 6\n? long\n: 7\n!!str 12: 8"

    assert list(loads(text)) == [
        *("8080", "on", "~", "1.50", "x", "2001-01-01", "long", "12"),
    ]


def test_yaml_aliases_and_merge_keys_are_resolved() -> None:
    text = """
        base: &base {host: a, port: 1}
        other: &other {port: 2, user: u}
        name: &name key
        copy: *base
        *name : *name
        merged:
            port: 3
            <<: [*base, *other]
        quoted: {"<<": 1}
    """

    assert loads(text) == {
        "base": {"host": "a", "port": 1},
        "other": {"port": 2, "user": "u"},
        "name": "key",
        "copy": {"host": "a", "port": 1},
        "key": "key",
        "merged": {"host": "a", "port": 3, "user": "u"},
        "quoted": {"<<": 1},
    }


def test_aliases_share_nothing() -> None:
    data = loads("a: &a {b: [1]}\nc: *a\nd: {<<: *a}")

    for name, value in data.items():
        assert isinstance(value, dict)
        value["b"].append(name)
    assert data == {"a": {"b": [1, "a"]}, "c": {"b": [1, "c"]}, "d": {"b": [1, "d"]}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\n'a': 2", "line 2, column 1: the key 'a' is given twice in one mapping"),
        ("8080: 1\n'8080': 2", "line 2, column 1: the key '8080' is given twice in one mapping"),
        (
            "a: &a {}\nb: {<<: *a, <<: *a}",
            "line 2, column 13: the key '<<' is given twice in one mapping",
        ),
        ("? " * 100_000, "line 1, column 3: a key that is not a scalar"),
        ("a: 1\n? [b]\n: 2", "line 2, column 3: a key that is not a scalar"),
        ("a: &a []\n*a : 2", "line 2, column 1: a key that is not a scalar"),
        ("a: *b", "line 1, column 4: undefined alias"),
        ("a: &a 1\n---\nb: *a", "line 3, column 4: undefined alias"),
        ("a: &a [*a]", "line 1, column 8: recursive alias"),
        ("a: &a\n  <<: *a", "line 2, column 7: recursive alias"),
        ("<<: 1", "line 1, column 5: a merge key (<<) leads to something other than mappings"),
        (
            "<<: [{}, 1]",
            "line 1, column 11: a merge key (<<) leads to something other than mappings",
        ),
        ("a: 1\n---\ntext", "line 2, column 1: more than one document"),
        ("a:\n\t- b", "line 2, column 1: not YAML: found character that cannot start any token"),
        ("a: b\nc: \x07", "line 2, column 4: not YAML: control characters are not allowed"),
        ('a: "\\0"', "line 1, column 4: a NUL character in a scalar"),
        ("!!int 1: x", "line 1, column 1: a tag other than !!str on a key"),
        ("a: 1\nü: \x07", "line 2, column 4: not YAML: control characters are not allowed"),
        ("ü: [\n", "line 2, column 1: not YAML: did not find expected node content"),
        ("a: !!int x", "line 1, column 4: the value does not match its tag !!int"),
        ("a: !!bool 1", "line 1, column 4: the value does not match its tag !!bool"),
        ("a: 1\n%TAG ! a:\n---\nb: 1", "line 2, column 1: a %TAG directive"),
        ("%TAG ! tag:yaml.org,2002:\n---\na: !str 1", "line 1, column 1: a %TAG directive"),
        ("a: .nan", "line 1, column 4: infinity and NaN are not numbers of JSON"),
        ("a: -.INF", "line 1, column 4: infinity and NaN are not numbers of JSON"),
        ("a: !!float .inf", "line 1, column 4: infinity and NaN are not numbers of JSON"),
        ("a: 1.0e+400", "line 1, column 4: a number beyond every double"),
        ("a: !!float 1" + "0" * 400, "line 1, column 4: a number beyond every double"),
        ("a: " + "9" * 4301, "line 1, column 4: an integer of more than 4300 digits"),
        ("a: 0x" + "f" * 4000, "line 1, column 4: an integer of more than 4300 digits"),
    ],
)
def test_yaml_is_refused_with_its_place(text: str, reason: str) -> None:
    assert refusal(text) == reason


@pytest.mark.parametrize(
    "tagged",
    [
        *("!!binary aGk=", "!!timestamp 2001-01-01", "!!set {a}", "!!omap []", "!!pairs []"),
        *("!custom 1", "!custom {}", "!custom []", "!!python/object/apply:os.system [ls]"),
        *(
            "!!python/name:os.system",
            "!!merge x",
            "!!value x",
            "!!map 1",
            "!!str []",
            "!!seq {}",
            "!<str> 1",
        ),
    ],
)
def test_yaml_tags_that_json_has_no_word_for_are_refused(tagged: str) -> None:
    assert "a tag other than" in refusal(f"a: {tagged}")


@pytest.mark.parametrize("key", ["!custom a", "!!binary YQ=="])
def test_tags_of_yaml_keys_are_refused_likewise(key: str) -> None:
    assert "a tag other than" in refusal(f"{key}: 1")


@pytest.mark.parametrize("escape", [r"\ud800", r"\uD83D\uDE00"])
def test_surrogates_in_yaml_escapes_are_refused(escape: str) -> None:
    assert "line 1, column 7: not YAML" in refusal(f'a: "{escape}"')


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 64 + "]" * 64,
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100)),
    ],
)
def test_deep_yaml_is_refused(text: str) -> None:
    assert "nested more than 64 levels deep" in refusal(text)


def test_64_levels_of_yaml_are_accepted() -> None:
    assert "a" in loads("a: " + "[" * 63 + "]" * 63)
    assert "b" in loads("a: &a " + "[" * 62 + "]" * 62 + "\nb: [*a]")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 50)),
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}, x{i}: *a{i - 1}}}\n" for i in range(1, 60)),
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
        "a: [" + "x," * 100_000 + "]",
        "a: &a " + "x" * 100_000 + "\nb: [" + "*a," * 100 + "]",
    ],
    ids=["aliases", "merge keys", "lists of merge keys", "plain items", "long text"],
)
def test_yaml_beyond_all_measure_is_refused(text: str) -> None:
    with pytest.raises(YamlTooLarge, match="more than"):
        loads(text)


def test_a_bomb_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0

    def deep_copy(value: object) -> object:
        nonlocal built
        built += 1
        return value

    monkeypatch.setattr("pilothouse_core.strict_yaml.composer._deep_copy", deep_copy)
    with pytest.raises(YamlTooLarge):
        loads(BOMB)

    assert built < 100


def test_yaml_is_rendered_for_people() -> None:
    shared = ["x"]
    data = {"b": {"port": "8080", "on": "on"}, "a": shared, "c": shared, "pem": "A\nB\n", "é": "é"}

    assert dumps(data) == (
        "b:\n  port: '8080'\n  'on': 'on'\na:\n- x\nc:\n- x\npem: |\n  A\n  B\né: é\n"
    )


@pytest.mark.parametrize("text", ["y", "N", "09", "0o17", "1e3", "+.5", "2001-1-1", "12:30", "0x_"])
def test_text_that_others_take_for_a_value_is_quoted(text: str) -> None:
    assert dumps({"a": text}) == f"a: '{text}'\n"


@pytest.mark.parametrize("text", ["10.0.0.1", "v1.2", "1.2.3", "abc", "db-1:5432", "http://h:80/"])
def test_plain_text_stays_plain(text: str) -> None:
    assert dumps({"a": text}) == f"a: {text}\n"


@pytest.mark.parametrize(
    "text", ["a: 0.1234567890123456789", "a: 1e-400", "a: 1234567890123456.78"]
)
def test_decimals_may_have_to_be_exact(text: str) -> None:
    assert refusal(text, exact=True) == f"line 1, column 4: {INEXACT}"
    assert isinstance(loads(text)["a"], float)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(nodes=4), "line 2, column 4: more than 4 values and keys"),
        (Limits(characters=3), "line 2, column 4: more than 3 characters of text"),
        (Limits(anchors=1), "line 2, column 4: more than 1 anchors"),
        (Limits(documents=0), "line 1, column 1: more than 0 documents"),
    ],
)
def test_limits_are_those_of_the_caller(limits: Limits, reason: str) -> None:
    text = "a: &a 1\nb: &b 22"

    assert refusal(text, limits=limits) == reason
    assert loads(text, limits=Limits(nodes=5, characters=5, anchors=2, documents=1)) == {
        "a": 1,
        "b": 22,
    }


def test_an_anchored_key_is_a_value_of_its_type() -> None:
    assert loads("&a 8080: x\nb: *a\nc: &c 12\n*c : d") == {
        "8080": "x",
        "b": 8080,
        "c": 12,
        "12": "d",
    }


def test_a_message_shows_no_value() -> None:
    for text in ("a: !!int hunter2", "a: [hunter2", "hunter2\n---\nb", "a: !!bool 'hunter2'"):
        assert "hunter2" not in refusal(text)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
    | st.sampled_from(
        ["1e3", "0o17", "y", "<<", "~", "12:30", "2001-01-01", "a\nb\n", "\x85", "é: #"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
def test_what_is_written_is_read_again(data: dict[str, Any]) -> None:
    assert loads(dumps(data), exact=True) == data


def test_reading_needs_no_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &a [1, 'ü', {b: 1e3}]\nc: {<<: {d: 1}, e: *a}\n--- \n- x\n"
    expected = load_documents(text)

    monkeypatch.setattr(reader, "LOADER", yaml.SafeLoader)

    assert load_documents(text) == expected
    assert refusal("a: 1\nü: \x07").startswith("line 2, column 4: not YAML")
    assert refusal("ü: [\n").startswith("line 2, column 1: not YAML")
    assert "nested more than 64 levels" in refusal("[" * 1000)
