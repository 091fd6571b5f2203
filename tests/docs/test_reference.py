"""The reference pages that follow from the code say what the code says."""

import re

import pytest

from tests.docs.generate import FOLDER, PAGES, meaning, named_errors
from tests.docs.meanings import MEANINGS

TEXTS = [name for name in PAGES if name.endswith(".md")]


@pytest.mark.parametrize("name", TEXTS)
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_code_of_an_error_has_one_meaning() -> None:
    codes = [error.code for error in named_errors()]

    assert len(codes) == len(set(codes))
    assert [error.code for error in named_errors() if not meaning(error)] == []
    assert MEANINGS.keys() <= set(codes)


@pytest.mark.parametrize("name", TEXTS)
def test_no_cell_of_a_table_is_left_out(name: str) -> None:
    for line in PAGES[name]().splitlines():
        if line.startswith("|"):
            last = re.split(r"(?<!\\)\|", line)[-2]
            assert last.strip(), line
