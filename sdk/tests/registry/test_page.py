"""The examples of docs/client/registry.md print what the page shows."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.servers.service import ServiceProcess

PAGE = (Path(__file__).parents[3] / "docs/client/registry.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"^ *# -> (.*)$", re.MULTILINE)


def test_every_example_prints_what_the_page_shows(
    service: ServiceProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "page"}

    for example in EXAMPLES:
        exec(example.replace("http://127.0.0.1:8082", service.url), names)
        assert capsys.readouterr().out.splitlines() == SHOWN.findall(example), example

    for opened in ("http", "session"):
        names[opened].close()
    assert EXAMPLES


def test_every_link_on_the_page_leads_to_a_heading() -> None:
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }

    assert set(re.findall(r"\(#([a-z-]+)\)", PAGE)) == headings
