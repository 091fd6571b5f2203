"""Patterns of names, as people and as SQL have them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.name_patterns import like_pattern, matches
from tests.trials import trials

TEXTS = st.text("ab_%\\*.", max_size=6)


def as_expression(pattern: str) -> str:
    """Return a regular expression by which `*` matches any characters."""
    return ".*".join(map(re.escape, pattern.split("*")))


@given(TEXTS, TEXTS)
@settings(max_examples=trials(500))
def test_a_star_matches_any_characters_and_all_else_itself(pattern: str, name: str) -> None:
    assert matches(pattern, name) == bool(re.fullmatch(as_expression(pattern), name))


@pytest.mark.parametrize(
    ("pattern", "operand"),
    [
        ("staging", "staging"),
        ("stag*", "stag%"),
        ("_shared", "\\_shared"),
        ("100%", "100\\%"),
        ("a\\b*", "a\\\\b%"),
    ],
)
def test_a_pattern_is_escaped_for_sql(pattern: str, operand: str) -> None:
    assert like_pattern(pattern) == operand
