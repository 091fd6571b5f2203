"""pilothouse flags, against the real service."""

import itertools
import json
from pathlib import Path

import pytest

from sdk.tests.cli.terminal import Terminal

_numbers = itertools.count()
FULL = """\
type: string
variants: {a: A, b: B}
default_variant: a
off_variant: a
rules:
  - id: german
    when:
      all:
        - {attribute: country, op: in, values: [DE]}
        - {not: {attribute: beta, op: eq, values: [true]}}
    serve: {variant: b}
"""
FLAGD = {
    "flags": {
        "welcome": {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": "on",
        }
    }
}


@pytest.fixture
def flags(pilothouse: Terminal) -> Terminal:
    """A terminal with an environment of its own."""
    pilothouse.variables["PILOTHOUSE_ENVIRONMENT"] = f"flags-{next(_numbers)}"
    return pilothouse


def test_a_simple_flag_is_created_changed_and_evaluated(flags: Terminal) -> None:
    flags.ok("flags", "create", "checkout", "--rollout", "0", "--target", "ann", "--tag", "shop")
    flags.ok("flags", "create", "other")

    ann = flags.ok("flags", "evaluate", "checkout", "--user", "ann").table()
    bob = flags.ok("flags", "evaluate", "-u", "bob").table()
    flags.ok("flags", "set", "checkout", "--rollout", "100", "-m", "for all")

    assert ann == [["checkout", "true", "on", "TARGETING_MATCH", "targeted-users"]]
    assert [row[:2] for row in bob] == [["checkout", "false"], ["other", "false"]]
    assert flags.ok("flags", "evaluate", "checkout", "-u", "bob").table()[0][1] == "true"
    assert [row[0] for row in flags.ok("flags", "list", "--tag", "shop").table()] == ["checkout"]
    assert flags.ok("flags", "get", "checkout", "--json").json()["rollout_percentage"] == 100


def test_a_flag_is_deleted_over_the_version_that_was_meant(flags: Terminal) -> None:
    flags.ok("flags", "create", "checkout")
    flags.ok("flags", "set", "checkout", "--rollout", "5")

    stale = flags("flags", "delete", "checkout", "--if-version", "1")
    done = flags.ok("flags", "delete", "checkout", "--if-version", "2", "-m", "all have it")
    again = flags("flags", "delete", "checkout")

    assert (stale.code, again.code) == (5, 3)
    assert done.out == f"checkout is deleted: {flags.variables['PILOTHOUSE_ENVIRONMENT']}\n"
    assert flags("flags", "get", "checkout").code == 3
    assert "all have it" in flags.ok("changes", "tail", "--name", "checkout").out


def test_a_flag_is_disabled_only_over_the_version_that_was_meant(flags: Terminal) -> None:
    flags.ok("flags", "create", "checkout", "--rollout", "100")

    stale = flags("flags", "set", "checkout", "--disabled", "--if-version", "7")
    flags.ok("flags", "set", "checkout", "--disabled", "--if-version", "1")

    assert stale.code == 5
    assert flags.ok("flags", "list", "--disabled").table()[0][0] == "checkout"
    assert flags.ok("flags", "list", "--enabled").table() == []


def test_a_full_flag_comes_from_a_file_and_explains_itself(flags: Terminal, tmp_path: Path) -> None:
    (tmp_path / "flag.yaml").write_text(FULL)
    (tmp_path / "context.json").write_text('{"country": "DE", "beta": true}')
    flags.ok("flags", "create", "letter", "--file", tmp_path / "flag.yaml")

    german = flags.ok("flags", "explain", "letter", "-c", "country=DE", "-c", "beta=false").out
    beta = flags.ok(
        "flags", "explain", "letter", "--context-file", tmp_path / "context.json", "--json"
    ).json()

    assert german.splitlines()[0] == "letter = B (TARGETING_MATCH, rule german)"
    assert '+ country in ["DE"]' in german
    assert "- beta eq [true]" in german
    assert beta["value"] == "A"
    assert beta["explanation"]["rules"][0]["matched"] is False


def test_a_missing_flag_is_not_found_and_nothing_to_set_is_a_mistake(flags: Terminal) -> None:
    assert flags("flags", "get", "nope").code == 3
    assert flags("flags", "evaluate", "nope").code == 3
    assert flags("flags", "set", "nope").code == 2
    assert flags("flags", "create", "x", "--file", "/no/such/file").code == 1
    assert flags("flags", "evaluate", "nope", "-c", "country").code == 2


def test_a_refused_flag_names_the_place(flags: Terminal, tmp_path: Path) -> None:
    (tmp_path / "flag.json").write_text('{"type": "string", "variants": {"a": 1}}')

    done = flags("flags", "create", "bad", "--file", tmp_path / "flag.json")

    assert done.code == 1
    assert "/variants/a" in done.err


def test_flags_come_from_another_system_and_go_there(flags: Terminal, tmp_path: Path) -> None:
    (tmp_path / "flagd.json").write_text(json.dumps(FLAGD))
    arguments = ("flags", "import", tmp_path / "flagd.json", "--format", "flagd")

    dry = flags.ok(*arguments, "--dry-run", "--json").json()
    done = flags.ok(*arguments)
    flags.ok("flags", "export", "-o", tmp_path / "out.json")

    assert dry["dry_run"] is True
    assert done.table() == [["flag", "welcome", "created", "1"]]
    assert json.loads((tmp_path / "out.json").read_text())["flags"].keys() == {"welcome"}
