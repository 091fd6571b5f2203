"""Configuration files in and out, over HTTP and by `pilothouse config import`."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.client import MASK, Layer, Service, body_of, fresh_name, fresh_secret
from tests.servers.service import ROOT

PETCLINIC = Path(__file__).parents[1] / "data" / "petclinic"
PROFILE = "spring.config.activate.on-profile"


def test_a_file_goes_into_the_layer_it_is_sent_to(layer: Layer) -> None:
    answer = layer.load("database:\n  host: db1\n  ports: [1, 2]\non: yes\n", comment="moved in")

    report = body_of(answer)
    assert report["dry_run"] is False
    (document,) = report["documents"]
    assert document == {
        **layer.names,
        "user": None,
        "status": "created",
        "version": 1,
        "changes": {
            "added": {"database.host": "db1", "database.ports": [1, 2], "on": True},
            "removed": {},
            "changed": {},
        },
        "error": None,
        "warnings": [],
    }
    assert int(answer.headers["X-Revision"]) > 0
    found = body_of(layer.document())
    assert found["config_data"] == {"database": {"host": "db1", "ports": [1, 2]}, "on": True}
    assert found["comment"] == "moved in"


def test_each_section_of_a_file_goes_to_the_environments_it_names(layer: Layer) -> None:
    one, two = fresh_name("e"), fresh_name("e")
    text = f"""
a: plain
---
{PROFILE}: {one}
a: one
---
spring: {{config: {{activate: {{on-profile: "{one}, {two}"}}}}, name: x}}
b: both
---
spring.config.activate: {{on-profile: default}}
c: base
"""

    report = body_of(layer.load(text))

    layers = [layer.at(environment=name) for name in (layer.environment, one, two)]
    assert [body_of(each.document())["config_data"] for each in layers] == [
        {"a": "plain"},
        {"a": "one", "spring": {"name": "x"}, "b": "both"},
        {"spring": {"name": "x"}, "b": "both"},
    ]
    assert layer.at(environment="default").document().status == 404
    assert "section 4" in str(report["notes"])
    assert {each["environment"]: each["version"] for each in report["documents"]} == {
        each.environment: 1 for each in layers
    }


def test_dotted_and_nested_spellings_in_one_file_merge(layer: Layer) -> None:
    text = "a.b: 1\na:\n  c.d: 2\na.c:\n  e: 3\n---\na: {b: 4}\n"

    body_of(layer.load(text))

    assert body_of(layer.document())["config_data"] == {"a": {"b": 4, "c": {"d": 2, "e": 3}}}


FORMATS = {
    "yaml": ("a: {b: 1}\nday: 2024-01-31\ntime: 12:30\nc: '1'\n", 1),
    "json": ('{"a": {"b": 1}, "day": "2024-01-31", "time": "12:30", "c": "1"}', 1),
    "properties": ("a.b=1\nday=2024-01-31\ntime: 12:30\nc 1\n", "1"),
    "dotenv": ("a.b=1\nexport day='2024-01-31'\ntime=\"12:30\"\nc=1\n", "1"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_understood_and_dates_stay_text(layer: Layer, form: str) -> None:
    text, one = FORMATS[form]

    body_of(layer.load(text, format=form))

    assert body_of(layer.document())["config_data"] == {
        "a": {"b": one},
        "day": "2024-01-31",
        "time": "12:30",
        "c": "1",
    }


def test_a_file_in_utf8_with_a_mark_is_read(layer: Layer) -> None:
    body_of(layer.load("\ufeffa: ü\n".encode()))

    assert body_of(layer.get("a"))["value"] == "ü"


def test_a_file_of_a_thousand_keys_is_one_version(layer: Layer) -> None:
    keys = {f"section{number % 10}.key{number}": number for number in range(1000)}

    report = body_of(layer.load(json.dumps(keys), format="json"))

    assert report["documents"][0]["version"] == 1
    assert len(report["documents"][0]["changes"]["added"]) == 1000
    assert len(layer.changes()) == 1
    assert body_of(layer.get("section9.key999"))["value"] == 999


def test_a_file_leaves_alone_what_it_does_not_name(layer: Layer) -> None:
    layer.create_document({"a": {"b": 1, "c": 2}, "d": 3})

    report = body_of(layer.load("a.b: 10\n"))

    assert report["documents"][0]["changes"]["changed"] == {"a.b": {"old": 1, "new": 10}}
    assert body_of(layer.document())["config_data"] == {"a": {"b": 10, "c": 2}, "d": 3}


def test_a_user_can_have_a_file_too(layer: Layer) -> None:
    mine = layer.at(user="ann")

    report = body_of(mine.load("a: 1\n"))

    assert report["documents"][0]["user"] == "ann"
    assert body_of(mine.get("a", resolve=False))["value"] == 1


def test_a_dry_run_shows_what_an_import_would_do_and_does_nothing(layer: Layer) -> None:
    other = layer.at(environment=fresh_name("e"))
    layer.create_document({"a": 1, "same": [1]})
    text = f"a: 2\nsame: [1]\nnew: true\n---\n{PROFILE}: {other.environment}\nb: 1\n"

    planned = body_of(layer.load(text, dry_run=True))

    assert [each["status"] for each in planned["documents"]] == ["updated", "created"]
    assert planned["documents"][0]["changes"] == {
        "added": {"new": True},
        "removed": {},
        "changed": {"a": {"old": 1, "new": 2}},
    }
    assert body_of(layer.document())["version"] == 1
    assert other.document().status == 404
    done = body_of(layer.load(text))
    assert done == {**planned, "dry_run": False}


def test_a_dry_run_that_fills_an_empty_object_does_nothing(layer: Layer) -> None:
    layer.create_document({"a": {}})

    body_of(layer.load("a.b: 1\n", dry_run=True))

    assert body_of(layer.document())["config_data"] == {"a": {}}
    assert body_of(layer.load("a.b: 1\n"))["documents"][0]["changes"]["added"] == {"a.b": 1}


def test_a_section_for_two_environments_is_written_apart_in_each(layer: Layer) -> None:
    one, two = (layer.at(environment=fresh_name("e")) for _ in range(2))
    both = f"{PROFILE}: [{one.environment}, {two.environment}]\na: {{}}\n"

    body_of(layer.load(f"{both}---\n{PROFILE}: {one.environment}\na.b: 1\n"))

    assert body_of(one.document())["config_data"] == {"a": {"b": 1}}
    assert body_of(two.document())["config_data"] == {"a": {}}


def test_a_file_imported_again_writes_nothing(layer: Layer) -> None:
    other = layer.at(environment=fresh_name("e"))
    text = f"a: {{b: 1}}\n---\n{PROFILE}: {other.environment}\nc: [1, 2.5, null]\n"
    layer.load(text)

    again = body_of(layer.load(text))

    assert [(each["status"], each["version"]) for each in again["documents"]] == [
        ("unchanged", 1),
        ("unchanged", 1),
    ]
    assert len(layer.changes()) == len(other.changes()) == 1


BAD_FILES = {
    "not YAML": ("yaml", "a: 1\n---\nb: [", 422, "bad_file"),
    "a scalar": ("yaml", "a: 1\n---\njust text\n", 422, "bad_file"),
    "a member twice": ("yaml", "a: 1\na: 2\n", 422, "bad_file"),
    "a tag": ("yaml", "a: !!python/object:os.system x\n", 422, "bad_file"),
    "no key": ("yaml", 'a: 1\n"b\\tc": 2\n', 422, "bad_key"),
    "a reserved member": ("yaml", "a: 1\nb: [{$value: c}]\n", 422, "bad_member"),
    "no name": ("yaml", f"a: 1\n---\n{PROFILE}: '../x'\nb: 1\n", 422, "bad_name"),
    "a value of its own that is an object": ("yaml", "a: {$value: {b: 1}}\n", 422, "bad_member"),
    "aliases without end": (
        "yaml",
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
        413,
        "file_too_complex",
    ),
    "a list": ("json", "[1]", 422, "bad_file"),
    "NaN": ("json", '{"a": NaN}', 422, "bad_file"),
    "a name twice": ("properties", "a=1\na=2\n", 422, "bad_file"),
    "an open quote": ("dotenv", "a=1\nb='2\n", 422, "bad_file"),
}


@pytest.mark.parametrize(
    ("form", "text", "status", "code"), BAD_FILES.values(), ids=list(BAD_FILES)
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_bad_file_writes_nothing(
    layer: Layer, form: str, text: str, status: int, code: str, *, dry_run: bool
) -> None:
    problem = body_of(layer.load(text, format=form, dry_run=dry_run), status)

    assert problem["code"] == code
    assert layer.changes() == []


def test_a_file_that_is_not_utf8_is_refused(layer: Layer) -> None:
    assert body_of(layer.load(b"a: \xff\n"), 400)["code"] == "bad_text"


def test_a_file_that_cannot_be_merged_into_one_layer_is_written_to_none(layer: Layer) -> None:
    other = layer.at(environment=fresh_name("e"))
    other.create("a.b", 1)
    mask = "a: {$secret: masked}"

    problem = body_of(layer.load(f"a: 1\n---\n{PROFILE}: {other.environment}\n{mask}\n"), 422)

    assert problem["code"] == "nothing_masked"
    assert layer.document().status == 404


def test_a_file_none_of_which_can_be_kept_fails(layer: Layer) -> None:
    problem = body_of(layer.load(f"a: {'x' * 800_000}\n"), 413)

    assert problem["code"] == "document_too_large"
    assert layer.changes() == []


def test_a_file_part_of_which_cannot_be_kept_is_reported_part_by_part(layer: Layer) -> None:
    other = layer.at(environment=fresh_name("e"))
    text = f"a: {'x' * 800_000}\n---\n{PROFILE}: {other.environment}\nb: 1\n"

    large, small = body_of(layer.load(text))["documents"]

    assert (large["status"], large["error"]["code"]) == ("failed", "document_too_large")
    assert (small["status"], small["version"]) == ("created", 1)
    assert layer.document().status == 404
    assert body_of(other.document())["config_data"] == {"b": 1}


DATA: dict[str, Any] = {
    "text": "a: b # c",
    "lines": "one\n  two\n\nthree ",
    "words": ["yes", "no", "null", "~", "1e3", "0x1F", "2024-01-31", "12:30", "", " "],
    "numbers": [0, -1, 1.5, 2**63, 1e-7],
    "nothing": None,
    "empty": {"list": [], "object": {}},
    "deep": {"er": {"still": [{"a": [1, {"b": None}]}]}},
    "ünïcode ✓".replace("ü", "u").replace("ï", "i").replace(" ✓", ""): "ünïcode ✓ \U0001f6a2",
}


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_exported_can_be_imported(layer: Layer, form: str) -> None:
    layer.create_document(DATA)
    twin = layer.of.layer()

    exported = layer.export(form)
    body_of(twin.load(exported.body, format=form))

    assert exported.status == 200
    assert exported.headers["Content-Type"].startswith(f"application/{form}")
    assert exported.headers["ETag"] == '"1"'
    assert body_of(twin.document())["config_data"] == DATA


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_an_exported_secret_is_masked_and_kept_when_it_comes_back(layer: Layer, form: str) -> None:
    layer.patch(set={"a": "secret", "b": 1}, encrypt=["a"])

    exported = layer.export(form)
    again = body_of(layer.load(exported.body, format=form))

    assert b"secret" not in exported.body.replace(b"$secret", b"")
    assert again["documents"][0]["status"] == "unchanged"
    assert body_of(layer.get("a", reveal=True))["value"] == "secret"
    elsewhere = layer.of.layer()
    assert body_of(elsewhere.load(exported.body, format=form), 422)["code"] == "nothing_masked"


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("properties", {"a.b=1", "c.d[0]=x", "c.d[1]=y"}),
        ("dotenv", {"A_B=1"}),
    ],
)
def test_lines_leave_secrets_out_and_say_so(layer: Layer, form: str, lines: set[str]) -> None:
    secret = fresh_secret()
    layer.patch(set={"a.b": 1, "c.d": ["x", "y"], "e": secret}, encrypt=["e"])

    exported = layer.export(form)

    text = exported.body.decode()
    assert lines <= set(text.splitlines())
    assert "# e is a secret and left out" in text.splitlines()
    assert secret not in text


FORMS = ("yaml", "json", "properties", "dotenv")
ANYTHING: dict[str, Any] = {
    "port": 8080,
    "on": True,
    "none": None,
    "empty": [],
    "nothing": {},
    "list": [{"a.b": 1, "a": {"b": 2}}, "x", [], None],
    "text": "8080",
    "section": {"pa$$": "C:\\new\\table", "deep": {"er": 0.1}},
    "lines": "one\u2028two\nthree",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_moves_by_a_file_with_its_types_and_secrets(layer: Layer, form: str) -> None:
    secret = fresh_secret()
    secrets = {
        "token": {"$secret": {"value": secret}},
        "s": {"t": {"$secret": {"value": [1]}}},
        "users": [{"name": "ann", "password": {"$secret": {"value": 7}}}],
    }
    body_of(layer.create_document({**ANYTHING, **secrets}), 201)

    exported = layer.export(form, secrets="revealed", types=True)
    elsewhere = layer.of.layer()
    body_of(elsewhere.load(exported.body, format=form, types=True))

    assert exported.headers["Cache-Control"] == "no-store"
    assert "ETag" not in exported.headers
    assert body_of(elsewhere.document())["config_data"] == body_of(layer.document())["config_data"]
    revealed = body_of(elsewhere.effective(reveal=True))["data"]
    users = [{"name": "ann", "password": 7}]
    assert revealed == {**ANYTHING, "token": secret, "s": {"t": [1]}, "users": users}
    again = body_of(layer.load(layer.export(form, types=True).body, format=form, types=True))
    assert [document["status"] for document in again["documents"]] == ["unchanged"]


@pytest.mark.parametrize("form", FORMS)
def test_a_revealed_export_is_audited(layer: Layer, form: str) -> None:
    layer.patch(set={"a": fresh_secret(), "b": 1}, encrypt=["a"])

    exported = layer.export(form, secrets="revealed")

    (row,) = layer.of.backend.audit(exported.headers["X-Request-Id"])
    assert (row["action"], row["facts"]["keys"]) == ("revealed", ["a"])
    plain = layer.of.layer()
    body_of(plain.create("a", 1), 201)
    answer = plain.export(form, secrets="revealed")
    assert plain.of.backend.audit(answer.headers["X-Request-Id"]) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_export_leaves_secrets_out(layer: Layer, form: str) -> None:
    layer.patch(
        set={"a.b": fresh_secret(), "c": {"d": fresh_secret(), "e": 1}}, encrypt=["a", "c.d"]
    )

    exported = layer.export(form, secrets="left-out")

    assert b"secret" not in exported.body
    elsewhere = layer.of.layer()
    body_of(elsewhere.load(exported.body, format=form, types=True))
    assert len(body_of(elsewhere.keys())["items"]) == 1


def test_a_value_that_readers_of_dotenv_disagree_about_is_named(layer: Layer) -> None:
    layer.create_document({"a": {"b": "${HOME}"}, "c": 1})

    for answer in (layer.export("dotenv"), layer.effective(headers={"Accept": "text/x-dotenv"})):
        problem = body_of(answer, 409)
        assert (problem["code"], problem["keys"]) == ("not_expressible", ["a.b"])


def test_only_what_exists_is_exported(layer: Layer) -> None:
    assert body_of(layer.export(), 404)["code"] == "document_not_found"
    layer.create("a", 1)
    assert layer.export("xml").status == 422
    assert layer.export(secrets="plain").status == 422
    nobody = layer.of.layer()
    assert body_of(nobody.export(secrets="revealed"), 404)["code"] == "document_not_found"


def test_an_export_is_of_one_layer_and_not_merged(layer: Layer) -> None:
    layer.at(environment="default").create("a", 1)
    layer.create("b", {"$secret": {"value": 1}})

    assert yaml.safe_load(layer.export().body) == {"b": MASK}


def run_import(url: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run the documented command against a running service."""
    program = Path(sys.executable).with_name("pilothouse")
    return subprocess.run(
        (program, "config", "import", *words, "--url", url),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300,  # a command of ours starts slowly on a busy machine
        check=False,
    )


def rows(done: "subprocess.CompletedProcess[str]") -> list[list[str]]:
    """Layer, status, version, added, changed and file of each document in the printed table."""
    return [line.split() for line in done.stdout.splitlines()[1:]]


@dataclass(frozen=True)
class Moved:
    """A service into which the folder has been imported."""

    service: Service
    planned: "subprocess.CompletedProcess[str]"
    changes_after_plan: int
    done: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def imported_folder(fresh: Service) -> Moved:
    before = fresh.metric('pilothouse_config_writes_total{outcome="written"}')
    planned = run_import(fresh.process.url, PETCLINIC, "--dry-run")
    after = fresh.metric('pilothouse_config_writes_total{outcome="written"}')
    return Moved(fresh, planned, int(after - before), run_import(fresh.process.url, PETCLINIC))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every leaf by its dotted name, however it is spelled."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def section(name: str, environment: str) -> dict[str, Any]:
    """Read what a file says for one environment; a plain part is for `default`."""
    text = (PETCLINIC / f"{name}.yml").read_text("utf-8-sig")
    parts = [flat(part) for part in yaml.safe_load_all(text) if part]
    # A section for `default` is for programs without a profile, and for no environment.
    wanted = None if environment == "default" else environment
    mine = [part for part in parts if part.get(PROFILE) == wanted]
    return {key: value for part in mine for key, value in part.items() if key != PROFILE}


def expected_data(name: str, environment: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in ("default", environment):
        found |= section("application", each)
    for each in ("default", environment):
        found |= section(name, each)
    return found


NAMES = sorted(file.stem for file in PETCLINIC.glob("*.yml") if file.stem != "application")


@pytest.mark.parametrize("environment", ["default", "docker", "mysql"])
@pytest.mark.parametrize("name", NAMES)
def test_an_imported_service_sees_what_its_files_say(
    imported_folder: Moved, name: str, environment: str
) -> None:
    layer = Layer(imported_folder.service, environment, name)

    found = flat(body_of(layer.effective())["data"])

    assert found == expected_data(name, environment)


def test_the_command_tells_what_became_of_each_file(imported_folder: Moved) -> None:
    assert imported_folder.done.returncode == 0
    assert "README.md: not imported: its extension is not one of " in imported_folder.done.stderr
    assert {row[-1] for row in rows(imported_folder.done)} == {
        file.name for file in PETCLINIC.glob("*.yml")
    }
    assert ["docker/_shared", "created", "1", "1", "0", "application.yml"] in rows(
        imported_folder.done
    )
    assert [[row[0], *row[-4:]] for row in rows(imported_folder.planned)] == [
        [row[0], *row[-4:]] for row in rows(imported_folder.done)
    ]


def test_the_commands_dry_run_wrote_nothing(imported_folder: Moved) -> None:
    assert imported_folder.planned.returncode == 0
    assert imported_folder.changes_after_plan == 0


def test_the_command_repeated_changes_nothing(imported_folder: Moved) -> None:
    again = run_import(imported_folder.service.process.url, PETCLINIC)

    assert again.returncode == 0
    assert {row[1] for row in rows(again)} == {"unchanged"}


def test_no_profile_is_left_in_what_was_imported(imported_folder: Moved) -> None:
    text = imported_folder.service.get("/api/v1/effective", service_name=NAMES[0]).body

    assert b"on-profile" not in text


def test_a_folder_with_a_bad_file_imports_the_others_and_says_so(
    service: Service, tmp_path: Path
) -> None:
    good, bad = fresh_name(), fresh_name()
    (tmp_path / f"{good}.json").write_text('{"a": 1}')
    (tmp_path / f"{bad}.yml").write_text("a: [")
    (tmp_path / "notes.txt").write_text("not a configuration")

    done = run_import(service.process.url, tmp_path)

    assert done.returncode == 1
    assert rows(done) == [[f"default/{good}", "created", "1", "1", "0", f"{good}.json"]]
    assert f"{bad}.yml: line" in done.stderr
    assert "notes.txt: not imported: its extension is not one of" in done.stderr
    assert body_of(service.get(f"/api/configs/{good}"))["config_data"] == {"a": 1}


def test_a_folder_of_spring_is_imported_as_spring_reads_it(
    service: Service, tmp_path: Path
) -> None:
    orders, profile, other = fresh_name(), fresh_name("e"), fresh_name()
    files = {
        f"{orders}.yml": "a: 1\nb: 1\n",
        f"{orders}.properties": "a=2\n",
        f"{orders}-{profile}.yml": "b: 3\n",
        f"{other}-{profile}.PROPERTIES": "city=Köln\n",
        f"{other}-unknown.json": '{"x": 1}',
        f"{orders}-default.yml": "b: 4\n",
        ".env.example": "NO=1\n",
        "logo.svg": "<svg/>",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("iso-8859-1"))
    (tmp_path / "sub").mkdir()

    lines = run_import(service.process.url, tmp_path).stderr.splitlines()

    assert body_of(service.get("/api/v1/effective", service_name=orders))["data"].items() >= {
        ("a", "2"),
        ("b", 1),
    }
    there: dict[str, Any] = {"service_name": orders, "environment": profile}
    assert body_of(service.get("/api/v1/config/b", **there))["value"] == 3
    there["service_name"] = other
    assert body_of(service.get("/api/v1/config/city", **there))["value"] == "Köln"
    assert body_of(service.get(f"/api/configs/{other}-unknown"))["config_data"] == {"x": 1}
    told_of = {Path(line.partition(":")[0]).name for line in lines if "not imported" in line}
    assert told_of == {f"{orders}-default.yml", ".env.example", "logo.svg", "sub"}
    assert f"{other}-unknown.json: taken for the service {other}-unknown" in "\n".join(lines)
    assert f"taken for the known environment {profile} of {other}" in "\n".join(lines)


def test_a_file_called_env_alone_is_for_all_services(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")

    done = run_import(service.process.url, tmp_path, "--dry-run")

    assert [[row[0], row[-1]] for row in rows(done)] == [["default/_shared", ".env"]]


def test_sections_that_no_environment_stands_for_are_told(layer: Layer) -> None:
    base = layer.at(environment="default")
    env = layer.environment
    text = f"""\
a: 1
---
spring.config.activate.on-profile: '!api-docs'
b: 2
---
spring.config.activate.on-profile: default
a: 3
---
spring.config.activate.on-profile: '{env} & !other'
c: 4
"""
    answer = body_of(base.load(text))

    assert [item["environment"] for item in answer["documents"]] == ["default", env]
    assert [note.partition(":")[0] for note in answer["notes"]] == ["section 2", "section 3"]
    assert body_of(layer.effective())["data"] == {"a": 1, "c": 4}


def test_a_plain_section_wins_over_those_for_profiles_before_it(layer: Layer) -> None:
    base = layer.at(environment="default")
    head = f"---\nspring.config.activate.on-profile: {layer.environment}\n"

    body_of(base.load(f"a: 1\nb: 1\n{head}a: 2\nb: 2\n---\na: 3\n"))

    assert body_of(layer.effective())["data"] == {"a": 3, "b": 2}
    assert body_of(base.effective())["data"] == {"a": 3, "b": 1}


def test_properties_may_be_written_as_java_does(layer: Layer) -> None:
    text = "greeting=café\n".encode("iso-8859-1")

    assert body_of(layer.load(text, format="properties"))["documents"][0]["changes"]["added"] == {
        "greeting": "café"
    }
    assert (
        body_of(layer.load(text, format="properties", charset="utf-8"), 400)["code"] == "bad_text"
    )
    assert body_of(layer.load("a: café".encode("iso-8859-1"), charset="iso-8859-1"))["documents"][
        0
    ]["changes"]["added"] == {"a": "café"}
    assert layer.load(text, format="properties", charset="ebcdic").status == 422


@pytest.mark.parametrize("name", ["missing", "empty", "notes.txt"])
def test_a_folder_there_is_nothing_to_import_from_is_named(
    service_embedded: Service, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("a: 1")

    done = run_import(service_embedded.process.url, tmp_path / name)

    assert done.returncode != 0
    assert str(tmp_path / name) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("a: 1")

    done = run_import("http://127.0.0.1:9", tmp_path)

    assert done.returncode == 6
    assert "http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
