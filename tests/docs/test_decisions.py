"""Each decision has a number of its own, the same in its name and in its title."""

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"


def test_decisions_are_numbered_without_gaps_or_doubles() -> None:
    pages = sorted(DECISIONS.glob("*.md"))

    numbers = [int(page.name[:4]) for page in pages]

    assert numbers == list(range(1, len(pages) + 1))


def test_titles_have_the_numbers_of_their_files() -> None:
    for page in DECISIONS.glob("*.md"):
        title = re.match(r"# (\d+)\. ", page.read_text(encoding="utf-8"))
        assert title is not None, page.name
        assert int(title[1]) == int(page.name[:4]), page.name
