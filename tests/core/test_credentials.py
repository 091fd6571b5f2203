"""Credentials among plain values: how many are found, how much else is, and at what cost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.credentials import MAX_SCANNED, RULES, find
from tests.core.credential_corpus import Line, lines

CORPUS = ("tuned.tsv",)
SUSPICIOUS = ("password", "db.password", "jwt.secret", "api_key", "auth.token", "name", "")
TEXTS = st.text() | st.text(alphabet="ab1=:@/.-_'\"{}$<>%(),; \n")


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("seed", range(3))
def test_of_what_is_found_and_of_what_is_there_95_percent_are_the_same(
    name: str, seed: int
) -> None:
    precision, recall = measured(list(lines(name, seed)))

    assert precision >= 0.95
    assert recall >= 0.95


def measured(corpus: list[Line]) -> tuple[float, float]:
    found = [line for line in corpus if find(line.key, line.value) is not None]
    right = sum(line.is_credential for line in found)
    return right / len(found), right / sum(line.is_credential for line in corpus)


@given(st.sampled_from(SUSPICIOUS) | st.text(), TEXTS)
def test_any_text_is_judged(key: str, value: str) -> None:
    assert find(key, value) in {None, *RULES}


@pytest.mark.parametrize(
    "part",
    [
        "A",
        "eyJ",
        "${a:",
        "password=,",
        'password": "',
        "a://b:",
        "a://b:c@",
        " --pass x",
        "-----BEGIN PRIVATE KEY-----",
        "key\n",
        "\ud800",
    ],
)
def test_a_mebibyte_takes_no_longer_than_what_is_scanned_of_it(part: str) -> None:
    whole = part * (1024 * 1024 // len(part))
    started = time.process_time()

    find("db.password", whole)

    assert time.process_time() - started < 0.25
    assert find("db.password", whole) == find("db.password", whole[:MAX_SCANNED])
