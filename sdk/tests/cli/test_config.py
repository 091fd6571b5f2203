"""pilothouse config, against the real service."""

import json
from pathlib import Path

import pytest

from pilothouse.cli.exit_codes import ExitCode
from sdk.tests.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("typed", "value", "printed"),
    [
        ("db1", "db1", "db1"),
        ("8080", 8080, "8080"),
        ("1.5", 1.5, "1.5"),
        ("true", True, "true"),
        ("null", None, "null"),
        ('"8080"', "8080", "8080"),
        ('["a", 1]', ["a", 1], '["a", 1]'),
        ("NaN", "NaN", "NaN"),
        ("two words", "two words", "two words"),
        ("", "", ""),
        ("{open", "{open", "{open"),
    ],
)
def test_a_value_is_json_else_text(
    pilothouse: Terminal, typed: str, value: object, printed: str
) -> None:
    pilothouse.ok("config", "set", "some.key", typed)

    assert pilothouse.ok("config", "get", "some.key").out == f"{printed}\n"
    assert pilothouse.ok("config", "get", "some.key", "--json").json()["value"] == value


@pytest.mark.parametrize("typed", ["1e-400", "1e400", "[0.1234567890123456789]", '{"a":1,"a":2}'])
def test_json_that_would_be_stored_as_something_else_is_refused(
    pilothouse: Terminal, typed: str
) -> None:
    refused = pilothouse("config", "set", "some.key", typed)

    assert refused.code == ExitCode.USAGE
    assert "cannot be sent" in refused.err
    pilothouse.ok("config", "set", "some.key", typed, "--text")
    assert pilothouse.ok("config", "get", "some.key", "--json").json()["value"] == typed


def test_text_may_be_meant_where_json_stands(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "port", "8080", "--text")

    assert pilothouse.ok("config", "get", "port", "--json").json()["value"] == "8080"


def test_a_negative_number_comes_after_two_dashes(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "--", "offset", "-5")

    assert pilothouse.ok("config", "get", "offset").out == "-5\n"


def test_a_secret_is_read_from_standard_input_and_shown_to_nobody_who_does_not_ask(
    pilothouse: Terminal,
) -> None:
    made = pilothouse.ok("config", "set", "db.password", "-", "--secret", stdin="hunter2\n")
    got = pilothouse.ok("config", "get", "db.password")
    quiet = [
        pilothouse.ok("config", *words, *form)
        for words in (["list"], ["effective"], ["history", "db.password"], ["history"], ["export"])
        for form in ([], ["--json"])
    ]

    assert got.out == "(secret)\n"
    assert "--reveal" in got.err
    assert pilothouse.ok("config", "get", "db.password", "--reveal").out == "hunter2\n"
    assert pilothouse.ok("config", "effective", "--reveal", "--json").json()["data"] == {
        "db": {"password": "hunter2"}
    }
    assert not [done for done in (made, got, *quiet) if "hunter2" in done.out + done.err]


def test_a_secret_stays_one_when_it_is_set_again(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "token", "-", "--secret", stdin="first")
    pilothouse.ok("config", "set", "token", "-", stdin="second")

    assert "$secret" in pilothouse.ok("config", "get", "token", "--json").json()["value"]
    assert pilothouse.ok("config", "get", "token", "--reveal").out == "second\n"


def test_a_secret_on_the_command_line_is_warned_of(pilothouse: Terminal) -> None:
    done = pilothouse.ok("config", "set", "token", "hunter2", "--secret")

    assert "history" in done.err
    assert "hunter2" not in done.out + done.err


def test_a_value_is_not_asked_for_where_nobody_is(pilothouse: Terminal) -> None:
    done = pilothouse("config", "set", "token", "--secret")

    assert (done.code, done.out) == (2, "")
    assert "VALUE is missing" in done.err


def test_what_is_unset_shows_the_layer_below(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "log.level", "info")
    pilothouse.ok("config", "set", "log.level", "debug", "--environment", "production")
    pilothouse.ok("config", "set", "log.format", "json", "-e", "production")

    before = pilothouse.ok("config", "list", "log", "-e", "production").table()
    removed = pilothouse.ok("config", "unset", "log.level", "log.format", "-e", "production")
    again = pilothouse.ok("config", "unset", "log.level", "-e", "production", "--json")

    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    assert [[row[0], row[1], row[-1]] for row in before] == [
        ["log.format", f"production/{name}", "json"],
        ["log.level", f"production/{name}", "debug"],
    ]
    assert f"production/{name}, version 3" in removed.out
    assert again.json()["changed"] is False
    assert pilothouse.ok("config", "get", "log.level", "-e", "production").out == "info\n"
    assert pilothouse.ok("config", "list", "-e", "production", "--layer", "--json").json() == {
        "items": [],
        "next": None,
    }


def test_the_layer_of_a_user_is_addressed_too(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "theme", "light")
    pilothouse.ok("config", "set", "theme", "dark", "--user", "ada")

    assert pilothouse.ok("config", "get", "theme", "-u", "ada").out == "dark\n"
    assert pilothouse.ok("config", "get", "theme").out == "light\n"
    assert pilothouse("config", "rollback", "--to", "1", "-u", "ada").code == 2


def test_the_merged_configuration_is_a_table_or_a_file(
    pilothouse: Terminal, tmp_path: Path
) -> None:
    pilothouse.ok("config", "set", "db", '{"host": "db1", "ports": [1, 2]}')

    rows = pilothouse.ok("config", "effective", "-e", "staging").table()
    text = pilothouse.ok("config", "effective", "--format", "dotenv").out
    pilothouse.ok("config", "effective", "--format", "json", "-o", tmp_path / "out.json")

    name = pilothouse.variables["PILOTHOUSE_SERVICE"]
    assert rows[0] == ["db.host", f"default/{name}", "db1"]
    assert text.splitlines()[0] == "DB_HOST=db1"
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "db": {"host": "db1", "ports": [1, 2]}
    }


def test_defaults_of_schemas_are_shown_on_request_with_their_schema(
    pilothouse: Terminal, tmp_path: Path
) -> None:
    service = pilothouse.variables["PILOTHOUSE_SERVICE"]
    file = tmp_path / "schema.json"
    properties = {"min": {"default": 4}, "max": {"default": 10}}
    file.write_text(json.dumps({"properties": {"pool": {"properties": properties}}}))
    pilothouse.ok("schema", "set", service, file)
    pilothouse.ok("config", "set", "pool.max", "20")

    assert pilothouse("config", "get", "pool.min").code == ExitCode.NOT_FOUND
    assert pilothouse.ok("config", "get", "pool.min", "--defaults").out == "4\n"
    assert pilothouse.ok("config", "get", "pool.min", "--defaults", "--json").json()["source"] == {
        "schema": service,
        "version": 1,
    }
    assert pilothouse.ok("config", "effective").table() == [
        ["pool.max", f"default/{service}", "20"]
    ]
    assert pilothouse.ok("config", "effective", "--defaults").table() == [
        ["pool.min", f"schema:{service}", "4"],
        ["pool.max", f"default/{service}", "20"],
    ]
    printed = pilothouse.ok("config", "effective", "--defaults", "--format", "yaml").out
    assert printed == "pool:\n  min: 4\n  max: 20\n"
    refused = pilothouse("config", "get", "pool.min", "--defaults", "--layer")
    assert "concern all layers" in refused.err


def test_versions_are_listed_compared_and_brought_back(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "db.host", "db1", "--comment", "first")
    pilothouse.ok("config", "set", "db.host", "db2")
    pilothouse.ok("config", "set", "db.port", "5432")

    history = pilothouse.ok("config", "history").table()
    of_key = pilothouse.ok("config", "history", "db.host").table()
    diff = pilothouse.ok("config", "diff", "1", "3").out.splitlines()

    assert [row[0] for row in history] == ["3", "2", "1"]
    assert [row[-1] for row in of_key] == ["db2", "db1"]
    assert [line.split() for line in diff[2:]] == [
        ["+", "db.port", "5432"],
        ["~", "db.host", "db1", "db2"],
    ]
    pilothouse.ok("config", "rollback", "db.host", "--to", "1")
    assert pilothouse.ok("config", "get", "db.host").out == "db1\n"
    pilothouse.ok("config", "rollback", "--to", "2", "-m", "no port")
    assert pilothouse.ok("config", "export", "--format", "properties").out == "db.host=db2\n"
    assert len(pilothouse.ok("config", "history", "-n", "2", "--json").json()["items"]) == 2


def test_a_write_over_another_version_is_a_conflict(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "a", "1", "--if-version", "0")

    refused = pilothouse("config", "set", "a", "2", "--if-version", "0", "--json")

    assert refused.code == 5
    assert refused.problem()["code"] == "stale_version"


def test_a_folder_is_imported_file_by_file(pilothouse: Terminal, tmp_path: Path) -> None:
    del pilothouse.variables["PILOTHOUSE_SERVICE"]
    pilothouse.variables["PILOTHOUSE_ENVIRONMENT"] = "folder"
    (tmp_path / "application.yml").write_text("folder.shared: 1\n")
    (tmp_path / "folder-cart.properties").write_text("folder.cart=yes\n")
    (tmp_path / "folder-bad.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "notes.txt").write_text("nothing")

    dry = pilothouse("config", "import", tmp_path, "--dry-run", "--json")
    done = pilothouse("config", "import", tmp_path)

    assert [item["service_name"] for item in dry.json()["documents"]] == ["_shared", "folder-cart"]
    assert dry.json()["dry_run"] is True
    assert dry.problem()["file"].endswith("folder-bad.yaml")
    assert done.code == 1
    assert "folder-bad.yaml" in done.err
    assert [row[:2] for row in done.table()] == [
        ["folder/_shared", "created"],
        ["folder/folder-cart", "created"],
    ]
    assert pilothouse.ok("config", "get", "folder.cart", "-s", "folder-cart").out == "yes\n"


def test_a_file_is_imported_from_standard_input_and_exported(
    pilothouse: Terminal, tmp_path: Path
) -> None:
    text = "db:\n  host: db1\n  pool:\n    size: 5\n"
    pilothouse.ok("config", "import", "-", stdin=text)

    pilothouse.ok("config", "export", "--output", tmp_path / "out.yaml")

    assert (tmp_path / "out.yaml").read_text() == text
    assert pilothouse.ok("config", "export", "--json").json() == {
        "db": {"host": "db1", "pool": {"size": 5}}
    }


@pytest.mark.parametrize("words", [["nothing-here.yaml"], ["file.txt"]])
def test_a_file_that_cannot_be_imported_is_told(
    pilothouse: Terminal, tmp_path: Path, words: list[str]
) -> None:
    done = pilothouse("config", "import", *(tmp_path / word for word in words))

    assert done.code in {1, 2}
    assert words[0] in done.err


def test_a_value_cannot_steer_a_terminal(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "evil", "-", stdin="\x1b[2Jgone [bold]x[/bold]")

    assert "\x1b" not in pilothouse.ok("config", "list").out
    assert "[bold]x[/bold]" in pilothouse.ok("config", "list").out


def test_a_layer_is_copied_to_another_environment(pilothouse: Terminal) -> None:
    pilothouse.ok("config", "set", "db.password", "-", "--secret", stdin="hunter2")
    pilothouse.ok("config", "set", "db.port", "5432")

    planned = pilothouse.ok("config", "copy", "staging", "--key", "db", "--dry-run")
    made = pilothouse.ok("config", "copy", "staging", "--key", "db")

    assert "nothing was written" in planned.err
    assert "created" in made.out
    assert "hunter2" not in planned.out + made.out
    there = pilothouse.ok(
        "config", "effective", "--environment", "staging", "--reveal", "--json"
    ).json()
    assert there["data"]["db"] == {"password": "hunter2", "port": 5432}
    other = pilothouse.ok("config", "copy", "staging/another-service", "--json").json()
    assert other["to"]["service_name"] == "another-service"


def test_an_export_says_types_and_leaves_secrets_out(pilothouse: Terminal, tmp_path: Path) -> None:
    pilothouse.ok("config", "set", "db.password", "-", "--secret", stdin="hunter2")
    pilothouse.ok("config", "set", "db.port", "5432")
    file = tmp_path / "copy.properties"
    words = ["config", "export", "--format", "properties", "--types", "--secrets"]

    assert "password" not in pilothouse.ok(*words, "left-out").out
    pilothouse.ok(*words, "revealed", "--output", file)
    pilothouse.ok("config", "import", file, "--types", "--service", "moved-by-a-file")

    moved = pilothouse.ok(
        "config", "effective", "--service", "moved-by-a-file", "--reveal", "--json"
    ).json()
    assert moved["data"]["db"] == {"password": "hunter2", "port": 5432}
