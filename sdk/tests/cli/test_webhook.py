"""`pilothouse webhook`, against the real service."""

import itertools
import json

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.terminal import Terminal

_numbers = itertools.count()
BODY = {"url": "http://127.0.0.1:9/hook", "kinds": ["config"], "environments": ["cli-*"]}


@pytest.fixture
def name(pilothouse: Terminal) -> str:
    """A webhook of the test's own, to whose receiver nothing can be sent."""
    fresh = f"hook-{next(_numbers)}"
    pilothouse.ok("webhook", "put", fresh, "-", "-m", "first", stdin=json.dumps(BODY))
    return fresh


def test_a_secret_is_shown_once(pilothouse: Terminal) -> None:
    fresh = f"hook-{next(_numbers)}"

    first = pilothouse.ok("webhook", "put", fresh, "-", stdin=json.dumps(BODY)).out
    again = pilothouse.ok("webhook", "put", fresh, "-", stdin=json.dumps(BODY)).out

    assert "whsec_" in first
    assert again == f"{fresh} already said this: version 1\n"
    assert "secret" not in json.loads(pilothouse.ok("webhook", "get", fresh).out)
    rows = [row for row in pilothouse.ok("webhook", "list").table() if row[0] == fresh]
    assert [row[1:4] for row in rows] == [["yes", "config", "cli-*/*"]]


def test_a_test_that_fails_is_listed(pilothouse: Terminal, name: str) -> None:
    failed = pilothouse("webhook", "test", name)

    assert failed.code == ExitCode.FAILED
    assert "cannot be reached" in failed.out
    (row,) = pilothouse.ok("webhook", "deliveries", name).table()
    assert "failed" in row
    assert pilothouse.ok("webhook", "dead-letters", name).table() == []
    assert pilothouse.ok("webhook", "resend", name).out == "0 are sent once more\n"
    assert pilothouse("webhook", "resend", name, "none").code == ExitCode.NOT_FOUND


def test_a_webhook_is_deleted(pilothouse: Terminal, name: str) -> None:
    assert pilothouse("webhook", "delete", name, "--if-version", "7").code != ExitCode.OK

    pilothouse.ok("webhook", "delete", name)

    assert pilothouse("webhook", "get", name).code == ExitCode.NOT_FOUND
