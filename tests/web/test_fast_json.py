"""The quick reading of JSON is the strict one, in less time."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web import fast_json as quick_json
from pilothouse_core import strict_json
from tests.core.drawn import contexts
from tests.trials import trials

quick = settings(max_examples=trials(100))


def check_both_agree(body: bytes) -> None:
    """Check that both read the same, to the type, or refuse with the same words."""
    assert read_by(quick_json.loads, body) == read_by(strict_json.loads, body)


def read_by(loads: Callable[[bytes], object], body: bytes) -> str:
    try:
        return repr(loads(body))
    except strict_json.BadJson as refusal:
        return f"refused: {refusal.reason}"


@quick
@given(context=contexts, ascii_only=st.booleans())
def test_a_request_is_read_alike(*, context: object, ascii_only: bool) -> None:
    text = json.dumps({"context": context, "user_id": "u"}, ensure_ascii=ascii_only)

    check_both_agree(text.encode("utf-8", "surrogatepass"))


@quick
@given(st.text(st.sampled_from('{}[]:,"ab01-.eE \\tn\n\x00é'), max_size=24))
def test_whatever_is_sent_is_judged_alike(text: str) -> None:
    check_both_agree(b'{"a":' + text.encode() + b',"b":{"c":"d"}}')
    check_both_agree(text.encode())


@quick
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_numbers_are_read_to_the_last_digit(number: float, integer: int) -> None:
    check_both_agree(
        b'{"a":%b,"b":[%d],"c":%b}' % (repr(number).encode(), integer, b"%.30e" % number)
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"c":{"a":1,"a":2}}',
        '{"c":{"a":{"b":1,"b":2}}}',
        '{"c":[{"b":1,"b":2}]}',
        '{"c":{"a":1},"c":2,"d":":"}',
        '{"c":{"a:b":1},"d":{"e":1,"e":1}}',
        '{"c":"\\ud800"}',
        '{"c":"\\u0000"}',
        '{"c":"\x00"}',
        '{"c":NaN}',
        '{"c":-Infinity}',
        '{"c":1e400}',
        '{"c":-0}',
        '{"c":-0.0}',
        '{"c":' + "7" * 4300 + "}",
        '{"c":' + "7" * 4301 + "}",
        '{"c":' + "[" * 63 + "]" * 63 + "}",
        '{"c":' + "[" * 64 + "]" * 64 + "}",
        '{"c":' + "[" * 5000 + "]" * 5000 + "}",
        '{"c":1}}',
        '{"c":1,}',
        "\ufeff{}",
        "",
    ],
)
def test_what_parsers_differ_about_is_judged_alike(text: str) -> None:
    check_both_agree(text.encode())
