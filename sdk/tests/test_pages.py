"""The examples of the pages on flags, tests, settings and schemas print what the pages show."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import follow
from tests.servers.service import ServiceProcess

PAGES = Path(__file__).parents[2] / "docs/client"
NAMES = ("flags.md", "testing.md", "settings.md", "schemas.md")


@pytest.mark.parametrize("page", NAMES)
def test_every_example_prints_what_the_page_shows(page: str, service: ServiceProcess) -> None:
    follow(f"docs/client/{page}", service.url)


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (PAGES / page).read_text()
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)
    }

    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (PAGES / link).exists(), link
    assert set(re.findall(r"\(#([a-z-]+)\)", text)) <= headings
