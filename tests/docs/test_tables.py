"""Tables of the documentation that follow from the code name what the code has, nothing else."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from app.access.model import CLIENT_RIGHTS, RIGHTS_OF_ROLE, SERVICE_RIGHTS, Right
from app.features import build_features
from app.feed.scope import KINDS
from app.postgres.tables import metadata
from app.settings import Settings
from app.wiring import open_backends
from pilothouse_core.conditions.model import OPERATORS
from tests.docs.generate import ROOT

NAME = re.compile(r"`([^`]+)`")


def section(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    _, _, below = (ROOT / page).read_text().partition(f"\n{heading}\n")
    assert below, f"{page} has no {heading!r}"
    return re.split(r"^#", below, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, line in enumerate(lines) if set(line) <= set("|-: ")]
    heads = {number for rule in rules for number in (rule - 1, rule)}
    return [row for number, row in enumerate(cells) if number not in heads]


def first_names(text: str) -> list[str]:
    return [name for row in rows(text) for name in NAME.findall(row[0])]


def assert_same(page: str, named: Iterable[str], there: Iterable[str]) -> None:
    named, there = list(named), set(there)
    assert sorted(set(named)) == sorted(named), f"{page} names something twice"
    assert set(named) == there, (
        f"{page} lacks {sorted(there - set(named))}, and names {sorted(set(named) - there)}, "
        "which are not there"
    )


def test_the_table_of_operators_has_every_operator() -> None:
    page = "docs/feature-flags.md"

    assert_same(page, first_names(section(page, "### Conditions")), OPERATORS)


def test_the_table_of_rights_is_that_of_the_roles() -> None:
    page = "docs/access.md"
    columns = [RIGHTS_OF_ROLE[role] for role in ("viewer", "editor", "publisher", "admin")]
    columns += [SERVICE_RIGHTS, CLIENT_RIGHTS]
    table = {NAME.findall(row[0])[0]: row[1:] for row in rows(section(page, "## Who may do what"))}

    assert_same(page, table, Right)
    for right in Right:
        expected = ["yes" if right in rights else "" for rights in columns]
        assert table[right] == expected, f"{page}: {right}"


def test_the_table_of_tables_has_every_table() -> None:
    page = "docs/operations.md"

    assert_same(page, first_names(section(page, "## Database")), metadata.tables)


@pytest.fixture
async def names_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, set[str]]:
    """The background tasks and the files of a service that has everything."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    embedded = {"pilothouse_data_dir": str(tmp_path)}
    nobody = "127.0.0.1:1"
    servers = {
        "vault_addr": f"http://{nobody}",
        "vault_token": "nobody-checks-it",
        "kafka_bootstrap_servers": nobody,
        "service_registry_enabled": True,
    }
    tasks: set[str] = set()
    files: set[str] = set()
    for named in ({}, servers):
        settings = Settings.model_validate({**embedded, **named})
        async with open_backends(settings) as backends:
            for feature in reversed(build_features(settings, "0", backends)):
                tasks |= feature.tasks.keys()
                await feature.close()
            files |= set(os.listdir(tmp_path))  # noqa: PTH208 - a path would block
    return {"tasks": tasks, "files": files}


@pytest.mark.anyio
async def test_the_table_of_background_tasks_has_every_task(
    names_at_start: Mapping[str, set[str]],
) -> None:
    page = "docs/operations.md"

    assert_same(page, first_names(section(page, "## Background tasks")), names_at_start["tasks"])


@pytest.mark.anyio
async def test_the_table_of_files_has_every_file(names_at_start: Mapping[str, set[str]]) -> None:
    page = "docs/operations.md"
    files = {name for name in names_at_start["files"] if not name.endswith(("-wal", "-shm"))}

    assert_same(page, first_names(section(page, "## Embedded backends")), files)


def test_the_reference_names_every_kind_of_change() -> None:
    text = section("docs/reference/http.md", "## Changes")

    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []
    assert [kind for kind in KINDS if f"`{kind}.changed`" not in text] == []


def test_the_layout_names_every_module_of_the_service() -> None:
    page = "CONTRIBUTING.md"
    block = section(page, "## Layout").split("```")[1]
    inside, _, _ = block.partition("\ncore/")
    modules = {
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in (ROOT / "app").iterdir()
        if entry.name not in {"__init__.py", "__pycache__"}
    }

    assert_same(page, re.findall(r"^  (\S+)", inside, re.MULTILINE), modules)


def test_the_layout_names_every_folder_of_tests() -> None:
    page = "CONTRIBUTING.md"
    _, _, block = section(page, "## Layout").split("```")[1].partition("\ntests/")
    folders = {
        f"{entry.name}/"
        for entry in (ROOT / "tests").iterdir()
        if entry.is_dir() and not entry.name.startswith((".", "__"))
    }

    assert_same(page, re.findall(r"\b(\w+/)", block), folders)


def test_the_layout_names_every_folder_with_code() -> None:
    page = "CONTRIBUTING.md"
    block = section(page, "## Layout").split("```")[1]
    folders = {
        f"{entry.name}/"
        for entry in ROOT.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and any(entry.rglob("*.py"))
    }

    assert_same(page, re.findall(r"^(\S+/)", block, re.MULTILINE), folders)


def import_layers() -> list[str]:
    """Return the layers of the contract for imports of the service, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return next(c["layers"] for c in contracts["contracts"] if c.get("containers") == ["app"])


def test_the_imports_run_as_the_contract_says() -> None:
    block = section("CONTRIBUTING.md", "## Imports run one way").split("```")[1]
    line, _, _ = block.partition("inside a feature:")

    assert " ".join(line.split()) == " -> ".join(import_layers()).replace(" | ", ", ")
