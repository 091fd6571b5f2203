"""`pilothouse promote` compares two environments, and promotes what has changed."""

from typing import Any

import pytest

from sdk.tests.cli.terminal import Terminal


@pytest.fixture
def route(pilothouse: Terminal) -> Any:
    """Return the words that name two environments, in which a service has values."""
    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    source, target = f"{name}-from", f"{name}-to"
    pilothouse.ok("config", "set", "db.pool", "20", "-e", source)
    pilothouse.ok("config", "set", "db.host", "a", "-e", source)
    pilothouse.ok("config", "set", "db.host", "b", "-e", target)
    return ["--from", source, "--to", target]


def test_what_has_changed_is_promoted_and_conflicts_only_by_key(
    pilothouse: Terminal, route: Any
) -> None:
    shown = pilothouse.ok("promote", *route, "--dry-run")
    done = pilothouse.ok("promote", *route, "--yes", "-m", "tested")
    again = pilothouse.ok("promote", *route, "--yes")
    conflict = pilothouse.ok("promote", *route, "--yes", "--key", "db.host")

    assert ["*", "config", pilothouse.variables["PILOTHOUSE_SERVICE"], "db.pool", "new", "20"] in (
        [line.split() for line in shown.out.splitlines()]
    )
    assert "nothing was written" in shown.err
    assert "written, version 2" in done.out
    assert "there is nothing to promote" in again.err
    assert "written, version 3" in conflict.out
    assert pilothouse.ok("config", "get", "db.host", "-e", route[3]).out.strip() == "a"


def test_a_value_takes_the_place_of_the_one_in_the_source(pilothouse: Terminal, route: Any) -> None:
    pilothouse.ok("promote", *route, "--yes", "--value", "db.pool=40")

    assert pilothouse.ok("config", "get", "db.pool", "-e", route[3]).out.strip() == "40"


def test_it_asks_only_at_a_terminal(pilothouse: Terminal, route: Any) -> None:
    refused = pilothouse("promote", *route)

    assert refused.code == 2
    assert "--yes" in refused.err
