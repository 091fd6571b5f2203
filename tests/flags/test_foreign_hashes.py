"""The hashes of other systems: frozen by what their own packages computed, and still the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.bucketing import HASHES
from tests.flags.judges import (
    flagd_1_bucket,
    flagd_bucket,
    flagd_value_bucket,
    unleash_bucket,
    unleash_variant_bucket,
)
from tests.trials import trials

VECTORS = Path(__file__).parents[1] / "core" / "vectors"
FOREIGN = ("flagd-1", "flagd-2", "flagd-2-value", "unleash-1", "unleash-variants-1")

some = settings(max_examples=trials(40))
# They are given JSON or C texts: no zero character, and no halves of surrogate pairs.
texts = st.text(st.characters(exclude_characters='\0"\\', exclude_categories=["Cs"]), max_size=40)
totals = st.integers(1, 1000)


def vectors(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return cases


@pytest.mark.parametrize("name", FOREIGN)
def test_a_hash_places_everybody_where_its_vectors_say(name: str) -> None:
    cases = vectors(name)

    assert len(cases) >= 40
    for case in cases:
        bucket = HASHES[name].bind(case["salt"], case["total"])
        assert bucket(case["subject"]) == case["bucket"], case


@pytest.mark.parametrize("name", FOREIGN)
def test_the_vectors_know_empty_and_foreign_texts(name: str) -> None:
    said = [case[member] for case in vectors(name) for member in ("salt", "subject")]

    assert "" in said
    assert any(not str(text).isascii() for text in said)


@some
@given(texts, texts.filter(bool), totals)
def test_flagd_placed_a_subject_in_the_same_bucket_before_its_hash_was_cbor(
    salt: str, subject: str, total: int
) -> None:
    bucket = HASHES["flagd-1"].bind(salt, total)(subject)

    assert bucket == flagd_1_bucket(salt + subject, total)


@some
@given(texts, texts.filter(bool), totals)
def test_flagd_places_a_targeting_key_in_the_same_bucket(
    salt: str, subject: str, total: int
) -> None:
    assert HASHES["flagd-2"].bind(salt, total)(subject) == flagd_bucket(salt, subject, total)


@some
@given(texts, texts | st.integers(-(2**64), 2**64 - 1), totals)
def test_flagd_places_a_value_in_the_same_bucket(salt: str, subject: str | int, total: int) -> None:
    value = f"{salt}{subject}" if salt else subject

    bucket = HASHES["flagd-2-value"].bind(salt, total)(subject)

    assert bucket == flagd_value_bucket(value, total)


@some
@given(texts, texts)
def test_unleash_places_a_user_in_the_same_bucket(salt: str, subject: str) -> None:
    assert HASHES["unleash-1"].bind(salt, 100)(subject) == unleash_bucket(salt, subject)


@some
@given(texts, texts, totals)
def test_unleash_places_a_user_at_the_same_variant(salt: str, subject: str, total: int) -> None:
    bucket = HASHES["unleash-variants-1"].bind(salt, total)(subject)

    assert bucket == unleash_variant_bucket(salt, subject, total)
