"""The grammar that OpenAPI tells is the one that is judged by."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.openapi import KEY, NAME, USER
from pilothouse_core.names import is_key, is_name, is_user

GRAMMARS = pytest.mark.parametrize(
    ("told", "judged"), [(NAME, is_name), (USER, is_user), (KEY, is_key)]
)
# Little else than what the grammars treat differently, so that most texts are a near miss.
TEXTS = st.text("aZ0_.-@+ \n", max_size=8) | st.text(max_size=4)


def allows(told: dict[str, Any], text: str) -> bool:
    return len(text) <= told["maxLength"] and bool(re.search(told["pattern"] + r"\Z", text))


@GRAMMARS
@given(text=TEXTS)
def test_a_text_is_told_to_be_a_name_if_it_is_one(
    told: dict[str, Any], judged: Any, text: str
) -> None:
    assert allows(told, text) == judged(text)


@GRAMMARS
@pytest.mark.parametrize("length", [62, 63, 64, 65, 255, 256, 257])
def test_the_lengths_agree(told: dict[str, Any], judged: Any, length: int) -> None:
    for text in ("a" * length, ".".join("a" * length)[:length], "a." * (length // 2) + "a"):
        assert allows(told, text) == judged(text)


@GRAMMARS
def test_a_text_that_nearly_fits_is_judged_at_once(told: dict[str, Any], judged: Any) -> None:
    text = "a" + "-." * 5_000 + "-" * 5_000 + "!"

    assert not allows({**told, "maxLength": len(text)}, text)
