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


def test_a_flag_is_off_until_it_is_enabled(flags: Terminal) -> None:
    created = flags.ok("flags", "create", "by-name").out
    flags.ok("flags", "create", "enabled", "--enabled")
    before = flags.ok("flags", "evaluate", "-u", "ann").table()
    flags.ok("flags", "set", "by-name", "--enabled")

    assert created.endswith(", version 1, not enabled\n")
    assert [row[:2] for row in before] == [["by-name", "false"], ["enabled", "true"]]
    assert flags.ok("flags", "evaluate", "by-name", "-u", "ann").table()[0][1] == "true"


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


def test_a_flag_is_archived_restored_and_rolled_back(flags: Terminal) -> None:
    flags.ok("flags", "create", "old", "--rollout", "20")
    flags.ok("flags", "set", "old", "--rollout", "80")

    archived = flags.ok("flags", "archive", "old", "-m", "over").out
    listed = [flags.ok("flags", "list", *more).table() for more in ([], ["--archived"])]
    gone = flags("flags", "evaluate", "old", "-u", "ann")
    flags.ok("flags", "restore", "old")
    rolled = flags.ok("flags", "rollback", "old", "1").out

    assert "old is archived" in archived
    assert [[row[0] for row in rows] for rows in listed] == [[], ["old"]]
    assert gone.code == 3
    assert "old is restored from version 1" in rolled
    assert flags.ok("flags", "get", "old", "--json").json()["rollout_percentage"] == 20


def test_a_flag_is_turned_off_with_a_reason(flags: Terminal) -> None:
    flags.ok("flags", "create", "old", "--rollout", "100")

    killed = flags.ok("flags", "kill", "old", "--reason", "errors").out
    without = flags("flags", "kill", "old")

    assert "old is off" in killed
    assert "not enabled" in killed
    assert flags.ok("flags", "evaluate", "old", "-u", "ann", "--json").json()["enabled"] is False
    assert without.code == 2


def test_stale_flags_are_listed_with_owner_age_and_reason(flags: Terminal) -> None:
    flags.ok("flags", "create", "old", "--enabled", "--owner", "web")
    flags.ok("flags", "create", "split", "--rollout", "20")

    listed = flags.ok("flags", "stale", "--days", "0")
    named = flags.ok("flags", "stale", "--days", "0", "--owner", "web", "--all", "--json").json()

    where = flags.variables["PILOTHOUSE_ENVIRONMENT"]
    assert listed.table()[0][:4] == ["old", where, "web", "0"]
    assert "serves one value (on) for 0 d" in listed.out
    assert [row[0] for row in listed.table()] == ["old", "split"]
    assert (where, "old") in {(flag["environment"], flag["name"]) for flag in named["items"]}
    assert flags.ok("flags", "stale").table() == []


def test_a_dry_run_shows_what_a_command_would_write(flags: Terminal) -> None:
    flags.ok("flags", "create", "old", "--rollout", "20", "--owner", "web")
    before = flags.ok("flags", "get", "old", "--json").json()

    changed = flags.ok("flags", "set", "old", "--owner", "payments", "--dry-run")
    same = flags.ok("flags", "set", "old", "--owner", "web", "--dry-run")
    shown = [
        flags.ok("flags", *words, "old", "--dry-run", "--json").json()
        for words in (["delete"], ["archive"])
    ]
    refused = flags("flags", "create", "old", "--dry-run")
    stale = flags("flags", "rollback", "old", "1", "--if-version", "7", "--dry-run")

    assert "old would be changed" in changed.out
    assert ["~", "owner", "web", "payments"] in [line.split() for line in changed.out.splitlines()]
    assert "nothing was written" in changed.err
    assert "old would stay as it is" in same.out
    assert [one["definition"] is None for one in shown] == [True, False]
    assert (refused.code, stale.code) == (5, 5)
    assert flags.ok("flags", "get", "old", "--json").json() == before


def test_a_dry_run_shows_how_many_buckets_move(flags: Terminal) -> None:
    flags.ok("flags", "create", "ramp", "--rollout", "20")

    grown = flags.ok("flags", "set", "ramp", "--rollout", "30", "--dry-run").out
    killed = flags.ok("flags", "kill", "ramp", "--reason", "errors", "--dry-run").out

    assert "10000 of 100000 buckets move (off -> on: 10000)" in grown
    assert "rule rollout: 10000 of 100000 buckets move" in grown
    assert "20000 of 100000 buckets move (on -> off: 20000)" in killed


def test_a_copy_tells_what_is_missing(flags: Terminal, tmp_path: Path) -> None:
    flags.ok("flags", "create", "base", "--enabled")
    (tmp_path / "top.yaml").write_text('prerequisites: [{flag: base, variants: ["on"]}]\n')
    flags.ok("flags", "create", "top", "--enabled", "--file", str(tmp_path / "top.yaml"))
    there = f"{flags.variables['PILOTHOUSE_ENVIRONMENT']}-b"

    dry = flags.ok("flags", "copy", "top", there, "--dry-run")
    refused = flags("flags", "copy", "top", there)
    flags.ok("flags", "copy", "base", there)
    copied = flags.ok("flags", "copy", "top", there)

    assert "missing there: flag base" in dry.err
    assert refused.code == 1
    assert "there is no flag 'base'" in refused.err
    assert "top is created" in copied.out


def test_all_flags_go_to_a_file_and_come_back(flags: Terminal, tmp_path: Path) -> None:
    flags.ok("flags", "create", "kept", "--rollout", "30", "--target", "ann")
    flags.ok("flags", "create", "old")
    flags.ok("flags", "archive", "old")
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    here = flags.variables["PILOTHOUSE_ENVIRONMENT"]

    flags.ok("flags", "export", "--format", "pilothouse", "-o", str(first))
    words = ["flags", "import", str(first), "--format", "pilothouse"]
    there = ["-e", f"{here}-b"]
    rows = flags.ok(*words, *there).table()
    flags.ok("flags", "export", "--format", "pilothouse", "-o", str(second), *there)

    assert [row[1:3] for row in rows] == [["kept", "created"], ["old", "archived"]]
    assert second.read_text() == first.read_text().replace(here, f"{here}-b")


def test_flags_come_from_several_files_and_from_yaml(flags: Terminal, tmp_path: Path) -> None:
    evaluators, panel, edge = (tmp_path / name for name in ("e.yaml", "panel.yaml", "edge.json"))
    evaluators.write_text("$evaluators: {staff: {ends_with: [{var: email}, '@example.org']}}\n")
    flag = "state: ENABLED, variants: {'on': true, 'off': false}, defaultVariant: 'off'"
    logic = "targeting: {if: [{$ref: staff}, 'on']}"
    panel.write_text(
        f"flags: {{panel-1: {{{flag}, {logic}}}}}\n---\nflags: {{panel-2: {{{flag}}}}}\n"
    )
    feature = {"name": "panel-3", "enabled": True, "strategies": [{"name": "default"}]}
    edge.write_text(json.dumps([["production", {"version": 2, "features": [feature]}]]))
    words = ("flags", "import", "--format")

    made = flags.ok(*words, "flagd", str(panel), str(evaluators), "--json").json()
    kept = flags.ok(*words, "unleash", str(edge), "--json").json()

    assert {item["name"] for item in made["items"]} == {"panel-1", "panel-2", "staff"}
    assert [item["name"] for item in kept["items"]] == ["panel-3"]
    assert flags(*words, "flagd", str(panel)).code == 1
    assert flags(*words, "unleash", str(edge), str(edge)).code == 2


def test_users_are_named_in_words_and_in_files(flags: Terminal, tmp_path: Path) -> None:
    flags.ok("flags", "create", "beta")
    (tmp_path / "users.txt").write_text("ann\nbob\n\n101\n")
    words = ["flags", "targets"]

    file = ["--file", str(tmp_path / "users.txt")]
    dry = flags.ok(*words, "append", "beta", *file, "--dry-run")
    added = flags.ok(*words, "append", "beta", *file)
    removed = flags.ok(*words, "remove", "beta", "ann", "ghost")
    flags.ok(*words, "replace", "beta", "--file", "-", stdin="eve\nzoe\n")
    stale = flags(*words, "append", "beta", "kim", "--if-version", "1")
    unclear = [flags(*words, "replace", "beta"), flags(*words, "remove", "beta", "x", *file)]
    nobody = flags.ok(*words, "replace", "beta", "--nobody").out

    assert "nothing was written" in dry.err
    assert "the flag is not enabled" in added.err
    assert "beta: 3 added, 0 removed, 3 in all" in added.out
    assert "0 added, 1 removed, 2 in all" in removed.out
    assert (stale.code, [done.code for done in unclear]) == (5, [2, 2])
    assert "0 added, 2 removed, 0 in all" in nobody
