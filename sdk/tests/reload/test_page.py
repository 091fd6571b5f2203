"""The examples of docs/client/hot-reload.md print what the page shows."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs/client/hot-reload.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"^ *# -> (.*)$", re.MULTILINE)


def test_every_example_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("CONFIG_DIR", "APP_DB_PASSWORD_FILE"):
        monkeypatch.setenv(variable, "")  # so that what the page sets is taken back
        monkeypatch.delenv(variable)
    page = PAGE.read_text()
    names: dict[str, Any] = {"__name__": "page"}

    for example in EXAMPLE.findall(page):
        exec(example, names)
        printed = capsys.readouterr().out.splitlines()
        assert printed == SHOWN.findall(example), example

    assert EXAMPLE.search(page)


def test_every_link_on_the_page_leads_to_a_heading() -> None:
    page = PAGE.read_text()
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)
    }

    assert set(re.findall(r"\(#([a-z-]+)\)", page)) == headings
