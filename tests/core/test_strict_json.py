import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.strict_json import BadJson, loads
from tests.trials import trials

quick = settings(max_examples=trials(100))

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


def nested_array(levels: int) -> str:
    return "[" * levels + "]" * levels


@quick
@given(value=values, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 2]))
def test_what_json_writes_is_read_as_json_reads_it(
    *, value: object, ensure_ascii: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    assert loads(text) == value == json.loads(text)
    assert loads(text.encode()) == value


@quick
@given(st.text(st.sampled_from('[]{}:,"\\u0d8cDfe1-+.truNa \n\0'), max_size=30))
def test_whatever_is_accepted_means_what_json_says(text: str) -> None:
    try:
        value = loads(text)
    except BadJson:
        return
    assert value == json.loads(text)


@quick
@given(st.text(st.sampled_from('[]{}:,"1a '), max_size=12))
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        with pytest.raises(BadJson):
            loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value at line 1, column 1"),
        ('{"a": 1,\n "b" 2}', "Expecting ':' delimiter at line 2, column 6"),
        ('["abc', "Unterminated string at line 1, column 2"),
        ('["a\x07c"]', "Invalid control character at line 1, column 4"),
        ("1 2", "Extra data at line 1, column 3"),
        ('{"a": 1,\n "a": 2}', "the member 'a' occurs twice in one object at line 2, column 2"),
        (
            '{"a": {"x": 1}, "x": [{"a": 1, "\\u0061": 2}]}',
            "the member 'a' occurs twice in one object at line 1, column 32",
        ),
        ("[1, NaN]", "NaN is not JSON at line 1, column 5"),
        ("[-Infinity]", "-Infinity is not JSON at line 1, column 2"),
        ("1e400", "a number beyond every double at line 1, column 1"),
        ("[-1e400]", "a number beyond every double at line 1, column 2"),
        ("1" * 4301, "an integer of more than 4300 digits at line 1, column 1"),
        ("-" + "1" * 4301, "an integer of more than 4300 digits at line 1, column 1"),
        ('["\\u0000"]', "a NUL character in a string at line 1, column 2"),
        ('{"\\u0000": 1}', "a NUL character in a string at line 1, column 2"),
        ('"\\ud800"', "half of a surrogate pair in a string at line 1, column 1"),
        ('"\\ude00\\ud83d"', "half of a surrogate pair in a string at line 1, column 1"),
        ('"\ud800"', "half of a surrogate pair at line 1, column 2"),
        (nested_array(65), "nested more than 64 levels deep at line 1, column 65"),
        ("[" * 100_000, "nested more than 64 levels deep at line 1, column 65"),
        ('{"a":' * 100_000, "nested more than 64 levels deep at line 1, column 321"),
        (b'["\xff"]', "not UTF-8 at byte 2"),
        (b'"\xed\xa0\x80"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "the JSON text begins with a byte order mark"),
    ],
)
def test_a_flaw_is_named_with_its_position(text: str | bytes, reason: str) -> None:
    with pytest.raises(BadJson) as refusal:
        loads(text)

    assert refusal.value.reason == str(refusal.value) == reason


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1e-400", ()),
        ("[1e400]", (0,)),
        ('{"a": 1, "b": [2, [], {"c.d": [true, 0.1234567890123456789]}]}', ("b", 2, "c.d", 1)),
        ('{"a": {"b": [1, 2]}, "c": 9007199254740993.0}', ("c",)),
        ('{"a,b": "1,2", "c": [",", 1e-400]}', ("c", 1)),
    ],
)
def test_a_number_that_would_be_changed_is_refused_and_its_place_is_named(
    text: str, place: tuple[str | int, ...]
) -> None:
    with pytest.raises(BadJson) as refusal:
        loads(text, exact=True)

    assert refusal.value.place == place


def test_a_number_may_be_rounded_where_nothing_is_kept() -> None:
    assert loads("[1e-400, 0.1234567890123456789]") == [0.0, 0.12345678901234568]


@quick
@given(values)
def test_what_programs_write_is_exact(value: object) -> None:
    assert loads(json.dumps(value), exact=True) == value


def test_a_long_name_is_shortened_in_the_message() -> None:
    name = "n" * 10_000

    with pytest.raises(BadJson) as refusal:
        loads(json.dumps({name: 1})[:-1] + f', "{name}": 2}}')

    assert len(refusal.value.reason) < 200


def test_no_value_is_in_a_message() -> None:
    with pytest.raises(BadJson) as refusal:
        loads('{"password": "hunter2", "password": "hunter2", "n": NaN}')

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-0", 0),
        (" 1e3\r\n", 1000.0),
        ("9" * 4300, int("9" * 4300)),
        ("-" + "9" * 4300, -int("9" * 4300)),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud800 \\\\u0000"', "\\ud800 \\u0000"),
        ('{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
        (b'"\xc3\xa9"', "é"),
    ],
)
def test_the_unusual_is_not_refused(text: str | bytes, value: object) -> None:
    assert loads(text) == value


def test_minus_zero_with_a_fraction_keeps_its_sign() -> None:
    assert math.copysign(1, float(str(loads("-0.0")))) == -1


def test_the_depth_is_the_callers_to_choose() -> None:
    assert loads(nested_array(64)) == json.loads(nested_array(64))
    assert loads("[1, {}]", max_depth=2) == [1, {}]
    assert loads("1", max_depth=0) == 1
    with pytest.raises(BadJson):
        loads("[[], {}]", max_depth=1)


def test_a_depth_beyond_the_interpreters_own_is_refused_cleanly() -> None:
    with pytest.raises(BadJson, match="beyond what can be read"):
        loads("[" * 50_000 + '] "\\x" ]', max_depth=100_000)
