"""pilothouse login, token and audit, and the profiles they make."""

import json
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from sdk.tests.cli.conftest import ADMIN
from sdk.tests.cli.terminal import Terminal
from tests.servers.service import ServiceProcess


def config_file(terminal: Terminal) -> Path:
    return terminal.home / "pilothouse" / "config.ini"


def test_a_login_is_kept_for_its_owner_and_used_from_then_on(
    nowhere: Terminal, service: ServiceProcess
) -> None:
    done = nowhere.ok("login", "--url", service.url, "--token", "-", "-s", "shop", stdin=ADMIN)
    nowhere.ok("config", "set", "a", "1")

    assert ADMIN not in done.out + done.err
    assert stat.S_IMODE(config_file(nowhere).stat().st_mode) == 0o600
    assert nowhere.ok("config", "get", "a", "--json").json()["service_name"] == "shop"


def test_profiles_stand_side_by_side(nowhere: Terminal, service: ServiceProcess) -> None:
    staging = ("--profile", "staging")
    nowhere.ok(
        "login", *staging, "--url", service.url, "--token", "-", "-e", "staging", stdin=ADMIN
    )
    nowhere.ok("login", "--url", service.url, "--token", "-", stdin=ADMIN)
    kept = nowhere.ok("login", *staging, "--token", "-", "--json", stdin=ADMIN).json()

    first = nowhere.ok("config", "effective", "--json").json()
    other = nowhere.ok(*staging, "config", "effective", "--json").json()

    assert kept == {"profile": "staging", "url": service.url, "file": str(config_file(nowhere))}
    assert (first["environment"], other["environment"]) == ("default", "staging")
    unknown = nowhere("config", "list", "--profile", "nope")
    assert (unknown.code, "nope" in unknown.err) == (2, True)


def test_a_token_that_is_refused_is_not_kept(nowhere: Terminal, service: ServiceProcess) -> None:
    refused = nowhere("login", "--url", service.url, "--token", "-", stdin="guessed-it")
    nobody = nowhere("login", "--url", service.url)
    empty = nowhere("login", "--url", service.url, "--token", "-", stdin="\n")

    assert (refused.code, nobody.code, empty.code) == (4, 2, 2)
    assert "guessed-it" not in refused.out + refused.err
    assert not config_file(nowhere).exists()


def test_a_token_is_sent_to_nobody_but_its_own_service(
    nowhere: Terminal, service: ServiceProcess
) -> None:
    nowhere.ok("login", "--url", service.url, "--token", "-", stdin=ADMIN)

    elsewhere = service.url.replace("127.0.0.1", "localhost")

    assert nowhere("config", "list", "--url", elsewhere).code == 4
    assert nowhere("config", "list", "--url", elsewhere, "--token", ADMIN).code == 0
    assert nowhere("config", "list").code == 0


def test_what_is_typed_counts_over_the_environment_and_that_over_the_profile(
    nowhere: Terminal, service: ServiceProcess
) -> None:
    nowhere.ok("login", "--url", service.url, "--token", "-", "-e", "kept", stdin=ADMIN)

    def environment(*words: str) -> str:
        answer = nowhere.ok(*words, "--json").json()
        return str(answer["environment"])

    assert environment("config", "effective") == "kept"
    nowhere.variables["PILOTHOUSE_ENVIRONMENT"] = "named"
    assert environment("config", "effective") == "named"
    assert environment("-e", "first", "config", "effective") == "first"
    assert environment("-e", "first", "config", "-e", "second", "effective") == "second"
    assert environment("-e", "first", "config", "effective", "-e", "last") == "last"


def test_a_file_that_holds_no_profiles_is_told_without_what_it_says(nowhere: Terminal) -> None:
    config_file(nowhere).parent.mkdir(parents=True)
    config_file(nowhere).write_text("token = plh_secret\n")

    done = nowhere("config", "list")

    assert done.code == 2
    assert str(config_file(nowhere)) in done.err
    assert "plh_secret" not in done.err


@pytest.mark.parametrize("token", ["a b", "ä", "a\nb"])
def test_a_token_that_can_be_none_is_a_mistake(nowhere: Terminal, token: str) -> None:
    done = nowhere("config", "list", "--token", token)

    assert done.code == 2
    assert token not in done.err


def test_a_token_is_made_shown_once_and_revoked(pilothouse: Terminal) -> None:
    name = f"ci-{uuid4().hex}"
    done = pilothouse.ok(
        *("token", "create", name, "--class", "operator", "--role", "viewer"),
        *("--environments", "staging", "--services", "sh*", "--expires-at", "2099-01-01T00:00:00Z"),
    )
    token = done.out.strip()
    listed = pilothouse.ok("token", "list", "--json")
    (known,) = [item for item in listed.json()["items"] if item["name"] == name]
    allowed = pilothouse("config", "list", "-e", "staging", "-s", "shop", "--token", token)
    denied = pilothouse("config", "set", "a", "1", "-e", "staging", "-s", "shop", "--token", token)
    revoked = pilothouse.ok("token", "revoke", known["id"], "--json").json()

    assert token.startswith("plh_operator_")
    assert known["services"] == ["sh*"]
    assert token not in listed.out
    assert (allowed.code, denied.code) == (0, 4)
    assert revoked["state"] == "revoked"
    assert [name, "operator", "revoked"] in [
        row[1:4] for row in pilothouse.ok("token", "list").table()
    ]


@pytest.mark.parametrize("time", ["tomorrow", "2099-01-01T00:00:00", "2099-01-01"])
def test_a_token_needs_a_time_with_its_zone(pilothouse: Terminal, time: str) -> None:
    done = pilothouse("token", "create", "x", "--class", "admin", "--expires-at", time)

    assert done.code == 2


def test_who_is_not_there_has_no_token_to_revoke(pilothouse: Terminal) -> None:
    assert pilothouse("token", "revoke", "0123456789abcdef").code == 3
    assert pilothouse("token", "revoke", "..").code == 2


def test_the_audit_tells_who_revealed_what(pilothouse: Terminal, tmp_path: Path) -> None:
    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    pilothouse.ok("config", "set", "password", "-", "--secret", stdin="hunter2")
    pilothouse.ok("config", "get", "password", "--reveal")

    rows = pilothouse.ok("audit", "--service", name, "--json").json()["items"]
    table = pilothouse.ok("audit", "--name", name, "--kind", "config").table()
    pilothouse.ok("audit", "--name", name, "--export", tmp_path / "audit.jsonl")
    lines = pilothouse.ok("audit", "--name", name, "--export", "-").lines()

    actions = [row["action"] for row in rows]
    assert actions[0] == "created"
    assert len(actions) >= 2
    assert "hunter2" not in json.dumps(rows)
    assert len(table) == len(rows)
    assert lines == rows
    exported = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in exported] == rows
