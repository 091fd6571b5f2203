"""The examples of the client's pages on flags, tests and settings print what the pages show."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.servers.service import ServiceProcess

PAGES = Path(__file__).parents[2] / "docs/client"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"^ *# -> (.*)$", re.MULTILINE)
GERMANY = {
    "id": "germany",
    "when": {"attribute": "country", "op": "eq", "values": ["DE"]},
    "serve": {"variant": "on"},
}


@pytest.fixture(scope="module")
def prepared(service: ServiceProcess) -> ServiceProcess:
    """What the pages take for granted, in production."""
    switch = {"name": "new-checkout", "type": "boolean", "variants": {"on": True, "off": False}}
    colour = {"name": "button-colour", "type": "string", "variants": {"calm": "#0055ff"}}
    for members in (
        {**switch, "default_variant": "off", "off_variant": "off", "rules": [GERMANY]},
        {**colour, "default_variant": "calm", "off_variant": None},
    ):
        body = {**members, "enabled": True, "environment": "production"}
        path = f"/api/v1/feature-flags/{members['name']}?environment=production"
        service.request("DELETE", path)
        assert service.request("POST", "/api/v1/feature-flags", body).status == 201
    written = service.request(
        "PATCH",
        "/api/v1/config?environment=production&service_name=orders",
        {"set": {"database.host": "db1"}},
    )
    assert written.status == 200
    return service


@pytest.mark.parametrize("page", ["flags.md", "testing.md", "settings.md"])
def test_every_example_prints_what_the_page_shows(
    page: str, prepared: ServiceProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    examples = EXAMPLE.findall((PAGES / page).read_text())

    for example in examples:
        exec(example.replace("http://127.0.0.1:8082", prepared.url), names)
        assert capsys.readouterr().out.splitlines() == SHOWN.findall(example), example

    assert examples


@pytest.mark.parametrize("page", ["flags.md", "testing.md", "settings.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (PAGES / page).read_text()
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)
    }

    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (PAGES / link).exists(), link
    assert set(re.findall(r"\(#([a-z-]+)\)", text)) <= headings
