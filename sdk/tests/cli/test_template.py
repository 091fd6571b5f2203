"""`pilothouse template`, against the real service."""

import itertools
import json
from pathlib import Path

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.terminal import Terminal

_numbers = itertools.count()
BODY = """\
description: Ports of a service
parameters:
  type: object
  required: [port]
  properties:
    port: {type: integer, maximum: 9000}
    name: {type: string, default: web}
data:
  http:
    port: {$param: port}
    name: svc-${name}
"""


@pytest.fixture
def name(pilothouse: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A template of the test's own."""
    monkeypatch.chdir(tmp_path)
    Path("web.yaml").write_text(BODY)
    fresh = f"web-{next(_numbers)}"
    pilothouse.ok("template", "set", fresh, "web.yaml", "-m", "first")
    return fresh


def service_of(terminal: Terminal) -> str:
    return terminal.variables["PILOTHOUSE_SERVICE"]


def test_a_template_is_shown_as_it_is_set(pilothouse: Terminal, name: str) -> None:
    shown = pilothouse.ok("template", "show", name).json()
    Path("again.json").write_text(json.dumps(shown))

    again = pilothouse.ok("template", "set", name, "again.json").out
    changed = pilothouse.ok("template", "set", name, "-", stdin=BODY.replace("svc", "s")).out

    assert shown.keys() == {"description", "applies_to", "parameters", "at", "data"}
    assert again == f"{name} already said this: version 1\n"
    assert changed == f"{name} is set: version 2\n"
    rows = [row for row in pilothouse.ok("template", "list").table() if row[0] == name]
    assert [row[1:5] for row in rows] == [["2", "port,", "name", "*/*"]]


def test_history_diff_and_rollback(pilothouse: Terminal, name: str) -> None:
    Path("web.yaml").write_text(BODY.replace("svc", "service"))
    pilothouse.ok("template", "set", name, "web.yaml", "-m", "second", "--if-version", "1")

    assert [row[0] for row in pilothouse.ok("template", "history", name).table()] == ["2", "1"]
    diff = pilothouse.ok("template", "diff", name).out
    assert f"{name}: 1 -> 2" in diff
    assert "~  data.http.name  svc-${name}  service-${name}" in diff
    back = pilothouse.ok("template", "rollback", name, "1").out
    assert back == f"{name} is restored from version 1: version 3\n"
    stale = pilothouse("template", "set", name, "web.yaml", "--if-version", "1")
    assert stale.code == ExitCode.CONFLICT


def test_a_use_shows_what_it_writes(pilothouse: Terminal, name: str) -> None:
    shown = pilothouse.ok("template", "use", name, "-p", "port=80", "--dry-run")
    assert "+  http.port" in shown.out
    assert "nothing was written" in shown.err

    used = pilothouse.ok("template", "use", name, "-p", "port=80", "-p", "name=shop")

    layer = f"default/{service_of(pilothouse)}"
    assert used.out.startswith(f"{name}, version 1, is used: {layer}, version 1\n")
    assert pilothouse.ok("config", "get", "http.name").out == "svc-shop\n"
    pilothouse.ok("config", "set", "http.name", "mine")
    Path("all.yaml").write_text("port: 81\nname: shop\n")
    again = pilothouse.ok("template", "use", name, "--parameters", "all.yaml", "-p", "port=82")
    assert "changed by hand, and kept: http.name" in again.err
    same = pilothouse.ok("template", "use", name, "--parameters", "all.yaml", "-p", "port=82")
    assert same.out == f"{name} changes nothing: {layer}\n"
    assert (
        pilothouse.ok("template", "uses", name).table()
        == [[layer, "1", "port=82", "name=shop", "http.name"]]
        or pilothouse.ok("template", "uses", name).out.count("http.name") == 1
    )


def test_parameters_that_do_not_fit_are_a_failure(pilothouse: Terminal, name: str) -> None:
    done = pilothouse("template", "use", name, "-p", "port=high")

    assert done.code == ExitCode.FAILED
    assert "is not of type integer" in done.err
    assert pilothouse("template", "use", name, "-p", "port").code == ExitCode.USAGE


def test_an_upgrade_lists_every_layer_and_fails_if_one_is_refused(
    pilothouse: Terminal, name: str
) -> None:
    service = service_of(pilothouse)
    pilothouse.ok("template", "use", name, "-p", "port=80")
    pilothouse.ok("template", "use", name, "-p", "port=8500", "-e", "staging")
    pilothouse.ok("config", "set", "http.name", "mine")
    Path("web.yaml").write_text(BODY.replace("9000", "8000").replace("svc", "s"))
    pilothouse.ok("template", "set", name, "web.yaml")

    shown = pilothouse("template", "upgrade", name, "--dry-run")
    done = pilothouse("template", "upgrade", name, "-m", "smaller ports")
    only = pilothouse.ok("template", "upgrade", name, "-e", "default")

    assert "nothing was written" in shown.err
    assert shown.code == done.code == ExitCode.FAILED
    assert done.out.startswith(f"{name}: version 2\n")
    rows = {row[0]: row for row in done.table()[1:]}
    assert rows[f"default/{service}"][1:] == ["written", "1", "3", "http.name"]
    assert rows[f"staging/{service}"][1:3] == ["refused", "1"]
    assert "unchanged" in only.out
    assert "staging" not in only.out


def test_a_deleted_template_is_gone(pilothouse: Terminal, name: str) -> None:
    assert pilothouse.ok("template", "delete", name).out == f"{name} is deleted\n"
    assert pilothouse("template", "show", name).code == ExitCode.NOT_FOUND
    assert '"data"' in pilothouse.ok("template", "show", name, "--version", "1").out
