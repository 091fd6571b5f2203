"""`pilothouse apply` where policies demand proposals, against a real service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.conftest import ADMIN
from sdk.tests.cli.terminal import Terminal
from sdk.tests.cli.test_folders import FLAG, SEGMENT, write_files
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

EVERYTHING = "config, users, flags, segments, schemas, templates, policies"
POLICY = "environments: [production]\nkinds: [config, flag, segment]\napprovals: 1\n"
FILES = {
    "config/default/orders.yaml": "db: {max: 1}\n",
    "config/production/orders.yaml": "db: {max: 1}\n",
    "config/production/gone.yaml": "db: {max: 1}\n",
    "config/production/orders/users/me.yaml": "a: 1\n",
    "segments/production/germans.yaml": SEGMENT,
    "flags/production/new.yaml": FLAG.format(segment="germans"),
    "policies/production.yaml": POLICY,
}
CHANGED = {
    **FILES,
    "config/default/orders.yaml": "db: {max: 2}\n",
    "config/production/orders.yaml": "db: {min: 1}\n",
    "config/production/new.yaml": "a: {b: 1}\n",
    "config/production/orders/users/me.yaml": "a: 2\n",
    "segments/production/germans.yaml": SEGMENT.replace("de", "at"),
}
del CHANGED["config/production/gone.yaml"], CHANGED["flags/production/new.yaml"]


@pytest.fixture
def own_service() -> Iterator[ServiceProcess]:
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as process:
        yield process


@pytest.fixture
def terminal(
    own_service: ServiceProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    monkeypatch.chdir(tmp_path)
    variables = {"PILOTHOUSE_URL": own_service.url, "PILOTHOUSE_TOKEN": ADMIN}
    return Terminal(tmp_path / "home", variables)


def make_token(terminal: Terminal, name: str) -> str:
    return terminal.ok("token", "create", name, "--class", "admin").out.strip()


def test_what_a_policy_refuses_is_proposed_once_and_true_when_applied(
    terminal: Terminal, own_service: ServiceProcess
) -> None:
    write_files("f", FILES, EVERYTHING)
    terminal.ok("apply", "f", "--yes", "--prune")
    author, reviewer = make_token(terminal, "author"), make_token(terminal, "reviewer")
    terminal.variables["PILOTHOUSE_TOKEN"] = author
    write_files("g", CHANGED, EVERYTHING)

    done = terminal.ok("apply", "g", "--yes", "--prune", "-m", "a smaller pool")
    again = terminal.ok("apply", "g", "--yes", "--prune", "-m", "a smaller pool", "--json").json()

    assert "1 of 7 changes written" in done.out
    assert "6 changes of production proposed" in done.out
    assert {each["status"] for each in again["changes"]} == {"proposed"}
    [proposal] = again["proposals"]
    assert f"proposal {proposal['id']}: " in done.out

    path = f"/api/v1/proposals/{proposal['id']}"

    def ask(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {reviewer}"}
        answer = own_service.request(method, path, body, headers=headers)
        assert answer.status < 300, answer
        return answer.json()

    ask("POST", f"{path}/reviews", {"round": 1, "verdict": "approve"})
    ask("POST", f"{path}/apply", {})
    wait_until(lambda: ask("GET", path)["state"] == "applied", "the proposal is applied")
    assert terminal.ok("apply", "g", "--yes", "--prune").out == "nothing to change\n"
    terminal.ok("export-all", "h")
    assert terminal.ok("apply", "h", "--yes", "--prune").out == "nothing to change\n"
    assert Path("h/policies/production.yaml").exists()


def test_who_may_only_propose_proposes(terminal: Terminal) -> None:
    write_files("f", FILES, EVERYTHING)
    terminal.ok("apply", "f", "--yes", "--prune")
    words = ("token", "create", "ci", "--class", "operator")
    places = ("--environments", "*", "--services", "*")
    editor = terminal.ok(*words, "--role", "editor", *places).out.strip()
    viewer = terminal.ok(*words, "--role", "viewer", *places).out.strip()
    write_files("g", CHANGED, EVERYTHING)

    terminal.variables["PILOTHOUSE_TOKEN"] = viewer
    planned = terminal.ok("apply", "g", "--dry-run", "--prune")
    refused = terminal("apply", "g", "--yes", "--prune")
    terminal.variables["PILOTHOUSE_TOKEN"] = editor
    done = terminal.ok("apply", "g", "--yes", "--prune")

    assert planned.out.count("not judged, as you may not write it") == 7
    assert refused.code == ExitCode.DENIED
    assert "proposal" not in refused.out
    assert "6 changes of production proposed" in done.out
    assert "1 change of default proposed" in done.out


def test_a_policy_that_asks_for_itself_is_not_removed_by_apply(terminal: Terminal) -> None:
    strict = POLICY.replace("segment]", "segment, policy]").replace("[production]", "['*']")
    write_files("f", {"policies/production.yaml": strict}, EVERYTHING)
    terminal.ok("apply", "f", "--yes", "--prune")
    write_files("g", {}, EVERYTHING)

    terminal("apply", "g", "--yes", "--prune")
    terminal.ok("export-all", "h")

    assert Path("h/policies/production.yaml").exists()
