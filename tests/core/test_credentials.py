"""Credentials among plain values: how many are found, how much else is, and at what cost."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.credentials import MAX_SCANNED, RULES, find_credential
from pilothouse_core.trees import leaves
from tests.core.credential_corpus import Line, lines

CORPUS = ("tuned.tsv", "hard.tsv", "held_out.tsv")
GUIDE = Path(__file__).parents[2] / "docs" / "configuration-guide.md"
PETCLINIC = Path(__file__).parents[1] / "data" / "petclinic"
SUSPICIOUS = ("password", "db.password", "jwt.secret", "api_key", "auth.token", "name", "")
TEXTS = st.text() | st.text(alphabet="ab1=:@/.-_'\"{}$<>%(),; \n")


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("seed", range(3))
def test_of_what_is_found_and_of_what_is_there_95_percent_are_the_same(
    name: str, seed: int
) -> None:
    precision, recall = precision_and_recall(list(lines(name, seed)))

    assert precision >= 0.95
    assert recall >= 0.95


def test_the_corpus_is_large_and_has_no_line_twice() -> None:
    corpus = [(line.key, line.value) for name in CORPUS for line in lines(name)]

    assert len(set(corpus)) == len(corpus) >= 500


@pytest.mark.parametrize("name", CORPUS)
def test_the_guide_tells_the_numbers_as_they_are(name: str) -> None:
    corpus = list(lines(name))
    precision, recall = precision_and_recall(corpus)

    row = f"| `{name}` | {len(corpus)} | {precision:.3f} | {recall:.3f} |"

    assert row in GUIDE.read_text(encoding="utf-8")


def test_of_a_real_configuration_only_its_password_is_found() -> None:
    documents = [
        document
        for file in PETCLINIC.glob("*.yml")
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8-sig"))
    ]

    found = [
        key for tree in documents for key, leaf in leaves(tree) if find_credential(key, str(leaf))
    ]

    assert len(documents) > 10
    assert found == ["spring.datasource.password"]


def precision_and_recall(corpus: list[Line]) -> tuple[float, float]:
    found = [line for line in corpus if find_credential(line.key, line.value) is not None]
    right = sum(line.is_credential for line in found)
    return right / len(found), right / sum(line.is_credential for line in corpus)


@given(st.sampled_from(SUSPICIOUS) | st.text(), TEXTS)
def test_any_text_is_judged(key: str, value: str) -> None:
    assert find_credential(key, value) in {None, *RULES}


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

    find_credential("db.password", whole)

    assert time.process_time() - started < 1
    assert find_credential("db.password", whole) == find_credential(
        "db.password", whole[:MAX_SCANNED]
    )
