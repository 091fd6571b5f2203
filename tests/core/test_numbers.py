"""Which decimals a double holds without changing them."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.numbers import is_exact
from tests.trials import trials

quick = settings(max_examples=trials(200))


@pytest.mark.parametrize(
    "text",
    [
        "0.1",
        "1.10",
        "1e3",
        "1E+3",
        "-0.0",
        "0e-999999999999",
        "0.1234567890123456",
        "5e-324",
        "1e23",
        "100000000000000000000000.0",
        "1.7976931348623157e308",
        "123456789012345",
    ],
)
def test_a_number_that_is_answered_as_it_was_sent_is_exact(text: str) -> None:
    assert is_exact(text)


@pytest.mark.parametrize(
    "text",
    [
        "1e-400",
        "-1e-400",
        "0.1234567890123456789",
        "1234567890.123456789",
        "9007199254740993.0",
        "0.10000000000000001",
        "4.9e-324",
        "1e-999999999999",
        "9007199254740993",
    ],
)
def test_a_number_that_would_be_answered_as_another_is_not(text: str) -> None:
    assert not is_exact(text)


@quick
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_programs_write_for_a_double_is_exact(number: float) -> None:
    assert is_exact(repr(number))


@quick
@given(
    st.from_regex(
        r"-?(?:0|[1-9][0-9]{0,20})(?:\.[0-9]{1,25})?(?:[eE][-+]?[0-9]{1,3})?", fullmatch=True
    )
)
def test_what_is_exact_has_the_same_digits_afterwards(text: str) -> None:
    if is_exact(text):
        assert Decimal(repr(float(text))) == Decimal(text)
