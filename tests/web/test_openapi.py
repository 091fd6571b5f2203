"""The grammar that OpenAPI tells is the one that is judged by."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.openapi import INSTANCE_ID, KEY, NAME, USER
from pilothouse_core.keys import MAX_MEMBER_LENGTH, is_key
from pilothouse_core.names import is_instance_id, is_name, is_user

GRAMMARS = pytest.mark.parametrize(
    ("told", "judged"),
    [(NAME, is_name), (USER, is_user), (INSTANCE_ID, is_instance_id)],
)
# Little else than what the grammars treat differently, so that most texts are a near miss.
TEXTS = st.text("aZ0_.-@+: \n", max_size=8) | st.text(max_size=4)


def allows(schema: dict[str, Any], text: str) -> bool:
    return len(text) <= schema["maxLength"] and bool(re.search(schema["pattern"] + r"\Z", text))


@GRAMMARS
@given(text=TEXTS)
def test_a_text_is_told_to_be_a_name_if_it_is_one(
    told: dict[str, Any], judged: Any, text: str
) -> None:
    assert allows(told, text) == judged(text)


@GRAMMARS
@pytest.mark.parametrize("length", [62, 63, 64, 65, 127, 128, 129, 255, 256, 257])
def test_the_lengths_agree(told: dict[str, Any], judged: Any, length: int) -> None:
    for text in ("a" * length, ".".join("a" * length)[:length], "a." * (length // 2) + "a"):
        assert allows(told, text) == judged(text)


@GRAMMARS
def test_a_text_that_nearly_fits_is_judged_at_once(told: dict[str, Any], judged: Any) -> None:
    text = "a" + "-." * 5_000 + "-" * 5_000 + "!"

    assert not allows({**told, "maxLength": len(text)}, text)


@given(text=TEXTS | st.text("a[].\\/ \x00", max_size=8))
def test_a_text_is_told_to_be_a_key_if_it_is_one(text: str) -> None:
    assert (len(text) >= KEY["minLength"] and allows(KEY, text)) == is_key(text)


@pytest.mark.parametrize("length", [1, MAX_MEMBER_LENGTH])
def test_a_key_of_any_length_up_to_that_of_a_member_is_told_to_be_one(length: int) -> None:
    assert allows(KEY, "/" * length)
    assert is_key("/" * length)
