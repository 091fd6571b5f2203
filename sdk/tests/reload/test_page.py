"""The examples of the pages on hot reload print what the pages show."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGES = Path(__file__).parents[3] / "docs/client"
NAMES = ("hot-reload.md", "hot-reload-awaited.md")
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SET_BY_PAGES = (
    "APP_DATABASE_HOST",
    "APP_DB_PASSWORD_FILE",
    "APP_DEBUG_MODE",
    "APP_FEATURE_FLAGS",
    "CONFIG_DIR",
    "DB_PASSWORD",
)
SHOWN = re.compile(r"^ *# -> (.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_prints_what_the_page_shows(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in SET_BY_PAGES:
        monkeypatch.setenv(variable, "")  # so that what the page sets is taken back
        monkeypatch.delenv(variable)
    page = (PAGES / name).read_text()
    names: dict[str, Any] = {"__name__": "page"}

    for example in EXAMPLE.findall(page):
        exec(example, names)
        printed = capsys.readouterr().out.splitlines()
        assert printed == SHOWN.findall(example), example

    assert EXAMPLE.search(page)


def test_every_link_on_the_page_leads_to_a_heading() -> None:
    page = (PAGES / "hot-reload.md").read_text()
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)
    }

    assert set(re.findall(r"\(#([a-z-]+)\)", page)) == headings
