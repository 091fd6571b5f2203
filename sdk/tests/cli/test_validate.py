"""`pilothouse validate`: what it finds in files, where, and in which forms it says so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sdk.tests.cli.terminal import Done, Terminal
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, of_json, problem

PLANTED = "planted-value-7f3a"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["db"],
    "properties": {
        "db": {
            "type": "object",
            "required": ["host"],
            "properties": {
                "pool": {
                    "type": "object",
                    "properties": {
                        "min": {"type": "integer", "default": 1},
                        "max": {"type": "integer", "maximum": 50},
                    },
                },
                "password": {"type": "string", "minLength": 3, "secret": True},
            },
        },
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
    "x-rules": [
        {
            "id": "pool-order",
            "rule": "config.db.pool.min <= config.db.pool.max",
            "message": "min above max",
        }
    ],
}
GOOD = {"db": {"host": "db1", "pool": {"max": 10}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def validate_text(
    terminal: Terminal, folder: Path, text: str, *words: str, name: str = "a.yaml"
) -> Done:
    (folder / name).write_text(text)
    return terminal("validate", name, "--schema", "schema.json", *words)


def errors(done: Done) -> list[tuple[str, str, int | None, int | None]]:
    return [
        (each["key"], each["keyword"], each["line"], each["column"])
        for each in done.json()["errors"]
    ]


def test_a_file_that_meets_its_schema_is_valid(nowhere: Terminal, folder: Path) -> None:
    done = validate_text(nowhere, folder, json.dumps(GOOD), name="a.json")

    assert (done.code, done.out, done.err) == (0, "", "0 errors, 0 warnings in 1 files\n")


YAML = f"""\
db:
  pool: {{min: 5,
    max: 70}}
tags:
- a
- {PLANTED}
"""
JSON = f"""\
{{"db": {{
  "pool": {{"min": 5,
    "max": 70}}
 }},
"tags": ["a",
  "{PLANTED}"]
}}
"""
EXPECTED = [
    ("db.host", "required", 1, 1),
    ("db.pool.max", "maximum", 3, 5),
    ("tags[1]", "enum", 6, 3),
]


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.json", JSON)])
def test_what_is_wrong_has_its_place_and_no_value(
    nowhere: Terminal, folder: Path, name: str, text: str
) -> None:
    done = validate_text(nowhere, folder, text, "--json", name=name)

    problems = sorted(errors(done))
    assert done.code == 8
    assert [each[:2] for each in problems] == [each[:2] for each in EXPECTED]
    assert problems[1:] == EXPECTED[1:]
    assert PLANTED not in done.out + done.err
    assert next(each for each in done.json()["errors"] if each["keyword"] == "maximum") == {
        "file": name,
        "line": 3,
        "column": 5,
        "environment": None,
        "key": "db.pool.max",
        "pointer": "/db/pool/max",
        "keyword": "maximum",
        "schema": "schema",
        "schema_version": 0,
        "schema_pointer": "/properties/db/properties/pool/properties/max/maximum",
        "expected": 50,
        "rule": None,
        "detail": "db.pool.max is above 50 (schema schema)",
    }


def test_people_get_a_line_for_each_error(nowhere: Terminal, folder: Path) -> None:
    done = validate_text(nowhere, folder, YAML)

    assert (
        "a.yaml:3:5: error: db.pool.max is above 50 (schema schema)"
        " at /properties/db/properties/pool/properties/max/maximum\n"
    ) in done.out
    assert done.err == "3 errors, 0 warnings in 1 files\n"


def test_rules_see_defaults(nowhere: Terminal, folder: Path) -> None:
    done = validate_text(nowhere, folder, "db: {host: x, pool: {max: 0}}", "--json")

    [error] = done.json()["errors"]
    assert (error["rule"], error["schema_pointer"]) == ("pool-order", "/x-rules/0")
    assert error["detail"] == (
        "the configuration breaks the rule pool-order: min above max (schema schema)"
    )


def test_without_the_extra_rules_are_said_to_be_not_judged(
    nowhere: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)

    (folder / "b.yaml").write_text("db: {host: x, pool: {max: 0}}")
    done = validate_text(nowhere, folder, "db: {host: x, pool: {max: 0}}", "b.yaml")

    assert done.code == 0
    assert done.err.count("warning: rules between fields are not judged") == 1


def test_plain_values_at_secret_places_are_warned_of_or_refused(
    nowhere: Terminal, folder: Path
) -> None:
    text = f"db: {{host: x, password: {PLANTED}, pool: {{max: 9}}}}"
    warned = validate_text(nowhere, folder, text, "--json")
    body = {"schema": SCHEMA, "plain_secret": "refuse"}
    (folder / "schema.json").write_text(json.dumps(body))
    refused = validate_text(nowhere, folder, text, "--json")

    assert warned.code == 0
    assert [(each["key"], each["keyword"]) for each in warned.json()["warnings"]] == [
        ("db.password", "secret")
    ]
    assert refused.code == 8
    assert errors(refused) == [("db.password", "secret", 1, 15)]
    assert PLANTED not in warned.out + refused.out


def test_a_sealed_secret_is_present(nowhere: Terminal, folder: Path) -> None:
    done = validate_text(
        nowhere, folder, "db: {host: x, password: {$secret: masked}, pool: {max: 9}}"
    )

    assert (done.code, done.out) == (0, "")


def test_a_schema_that_warns_lets_pass(nowhere: Terminal, folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({"schema": SCHEMA, "mode": "warn"}))
    done = validate_text(nowhere, folder, YAML)

    assert done.code == 0
    assert done.err == "0 errors, 3 warnings in 1 files\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SCHEMA["properties"]["db"], ("--at", "plugins.audio")),
        ({"schema": SCHEMA["properties"]["db"], "at": "plugins.audio"}, ()),
        (
            {"schema": SCHEMA["properties"]["db"], "applies_to": [{"at": "plugins.audio"}]},
            (),
        ),
    ],
)
def test_a_schema_below_a_key(
    nowhere: Terminal, folder: Path, body: Any, words: tuple[str, ...]
) -> None:
    (folder / "schema.json").write_text(json.dumps(body))

    done = validate_text(nowhere, folder, "plugins.audio.pool.max: 99\n", "--json", *words)

    assert errors(done) == [
        ("plugins.audio.host", "required", 1, 1),
        ("plugins.audio.pool.max", "maximum", 1, 1),
    ]


def test_properties_and_dotenv_are_read_as_they_are_imported(
    nowhere: Terminal, folder: Path
) -> None:
    lines = "# type: number\ndb.pool.max=70\ndb.host=x\ndb.pool.min=text\n"
    properties = validate_text(nowhere, folder, lines, "--json", "--types", name="a.properties")
    dotenv = validate_text(nowhere, folder, "DB_HOST=x\n", "--json", name="a.env")

    assert errors(properties) == [
        ("db.pool.max", "maximum", None, None),
        ("db.pool.min", "type", None, None),
        ("", "x-rules", None, None),
    ]
    assert ("db", "required", None, None) in errors(dotenv)


def test_sections_for_environments_are_judged_as_each_is_read(
    nowhere: Terminal, folder: Path
) -> None:
    text = (
        "db: {host: x, pool: {max: 9}}\n---\nspring.config.activate.on-profile: prod\n"
        "db.pool.max: 99\n"
    )
    every = validate_text(nowhere, folder, text, "--json")
    other = validate_text(nowhere, folder, text, "-e", "test")

    [error] = every.json()["errors"]
    assert (error["environment"], error["line"], error["column"]) == ("prod", 4, 1)
    assert other.code == 0


def test_sarif_names_rule_place_and_level(nowhere: Terminal, folder: Path) -> None:
    done = validate_text(nowhere, folder, YAML, "--format", "sarif", "--output", "out.sarif")

    log = json.loads((folder / "out.sarif").read_text())
    [run] = log["runs"]
    result = next(each for each in run["results"] if each["ruleId"] == "maximum")
    assert done.code == 8
    assert log["version"] == "2.1.0"
    assert result["level"] == "error"
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a.yaml"},
        "region": {"startLine": 3, "startColumn": 5},
    }
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} >= {"maximum", "required"}
    assert PLANTED not in json.dumps(log)


def test_junit_has_a_case_for_each_file_and_schema(nowhere: Terminal, folder: Path) -> None:
    (folder / "good.yaml").write_text(json.dumps(GOOD))
    (folder / "loose.yaml").write_text("{}")
    done = validate_text(
        nowhere, folder, YAML, "good.yaml", "--schema", "loose.yaml", "--format", "junit"
    )

    root = ET.fromstring(done.out)
    cases = {
        (case.get("classname"), case.get("name")): case.find("failure") is not None
        for case in root.iter("testcase")
    }
    assert cases == {
        ("a.yaml", "schema"): True,
        ("a.yaml", "loose"): False,
        ("good.yaml", "schema"): False,
        ("good.yaml", "loose"): False,
    }
    assert (root.get("tests"), root.get("failures")) == ("4", "1")
    assert PLANTED not in done.out


def test_a_file_that_cannot_be_read_is_an_error_with_its_place(
    nowhere: Terminal, folder: Path
) -> None:
    done = validate_text(nowhere, folder, "a: 1\na: 2\n", "--json")

    assert done.code == 8
    assert errors(done) == [("", "file", 2, 1)]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "word"}, "the schema cannot be used: at '/type'"),
        ({"pattern": "(?=x)"}, "the schema cannot be used: at '/pattern'"),
        ({"x-rules": [{"id": "a", "rule": "1 +"}]}, "the rule 'a' cannot be used: at /x-rules/0"),
        ({"schema": {}, "mode": "strict"}, "mode is warn or enforce"),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_mistake_of_use(
    nowhere: Terminal, folder: Path, schema: Any, words: str
) -> None:
    (folder / "schema.json").write_text(json.dumps(schema))

    done = validate_text(nowhere, folder, "a: 1")

    assert done.code == 2
    assert words in done.err


@pytest.mark.parametrize("words", [("--at", "a"), ("--schema", "schema.json", "--at", "a\nb")])
def test_options_that_do_not_fit_are_refused(
    nowhere: Terminal, folder: Path, words: tuple[str, ...]
) -> None:
    (folder / "a.yaml").write_text("a: 1")

    assert nowhere("validate", "a.yaml", *words).code == 2


def test_a_value_that_is_too_large_for_a_schema_is_said_to_be_not_judged(
    nowhere: Terminal, folder: Path
) -> None:
    branch = {"properties": {"a": {"$ref": "#"}, "b": False}}
    (folder / "schema.json").write_text(json.dumps({"anyOf": [branch, branch]}))

    done = validate_text(nowhere, folder, "{a: " * 30 + "1" + "}" * 30)

    assert done.code == 8
    assert (
        "error: the configuration is not judged: the schema would be applied too often" in done.out
    )


@pytest.mark.parametrize(
    ("module", "code", "words"),
    [
        ("jsonschema_rs", 1, "schemas need `pip install 'pilothouse-client[schema]'`"),
        ("yaml", 1, "YAML needs `pip install 'pilothouse-client[yaml]'`"),
    ],
)
def test_without_an_extra_the_command_names_it(
    folder: Path, module: str, code: int, words: str
) -> None:
    (folder / "a.json").write_text("{}")
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from pilothouse.cli.runner import run\n"
        "sys.exit(run(['validate', 'a.json', '--schema', 'schema.json']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_without_a_schema_the_service_is_asked(nowhere: Terminal, folder: Path) -> None:
    (folder / "orders.yaml").write_text("db.pool.max: 70\n")
    answer = {
        "valid": False,
        "errors": [
            {
                "environment": "production",
                "service_name": "orders",
                "key": "db.pool.max",
                "keyword": "maximum",
                "schema": "billing",
                "schema_version": 3,
                "schema_pointer": "/properties/db",
                "pointer": "/changes/0",
                "expected": 50,
            }
        ],
        "warnings": [],
        "affected": 12,
        "violating": 3,
    }
    with ScriptedServer() as server:
        server.answers["/api/v1/validate"] = lambda _: of_json(answer)
        done = nowhere("validate", "orders.yaml", "-e", "production", "--url", server.url, "--json")
        [request] = server.requests

    assert done.code == 8
    assert json.loads(request.body) == {
        "changes": [
            {
                "environment": "production",
                "service_name": "orders",
                "set": {"db": {"pool": {"max": 70}}},
                "unset": [],
            }
        ]
    }
    assert errors(done) == [("db.pool.max", "maximum", 1, 1)]
    assert (done.json()["affected"], done.json()["violating"]) == (12, 3)


def test_what_the_caller_may_not_read_counts_as_well(nowhere: Terminal, folder: Path) -> None:
    (folder / "orders.yaml").write_text("a: 1\n")
    answer = {"valid": False, "errors": [], "warnings": [], "affected": 2, "violating": 1}
    with ScriptedServer() as server:
        server.answers["/api/v1/validate"] = lambda _: of_json(answer)
        done = nowhere("validate", "orders.yaml", "--url", server.url)

    assert done.code == 8
    assert "warning: configurations that you may not read would violate a schema" in done.err


def test_a_service_that_refuses_is_a_failure_as_elsewhere(nowhere: Terminal, folder: Path) -> None:
    (folder / "orders.yaml").write_text("a: 1\n")

    def refuse(_: ReceivedRequest) -> Reply:
        return problem(403, "denied")

    with ScriptedServer() as server:
        server.answers["/api/v1/validate"] = refuse
        done = nowhere("validate", "orders.yaml", "--url", server.url)

    assert done.code == 4
