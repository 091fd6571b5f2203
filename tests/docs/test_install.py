"""The documentation installs the client from the repository, with extras that exist."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.servers.service import ROOT

PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "sdk/README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "decisions" not in page.parts
]
INSTALL = re.compile(r"pip install (?!-)(.*?)(?: {2,}#.*)?$", re.MULTILINE)
OURS = re.compile(r"^\./core '?\./sdk(?:\[([a-z,]+)\])?'?$")
PROJECT = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]
EXTRAS = frozenset(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_installs_the_client_from_the_repository(page: Path) -> None:
    for line in INSTALL.findall(page.read_text()):
        if "sdk" in line or "pilothouse" in line:
            found = OURS.match(line.strip("`"))
            assert found, f"{line!r} installs nothing that there is"
            assert set((found[1] or "").split(",")) - {""} <= EXTRAS


@pytest.mark.parametrize("page", ["README.md", "sdk/README.md"])
def test_the_readmes_name_every_extra(page: str) -> None:
    text = (ROOT / page).read_text()

    assert [extra for extra in sorted(EXTRAS) if f"`{extra}`" not in text] == []


def test_both_packages_are_installed_from_the_folders_that_are_named() -> None:
    for folder, name in (("core", "pilothouse-core"), ("sdk", "pilothouse-client")):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert project["name"] == name
