"""`pilothouse schema`: what is sent to the service, and what is printed of its answers."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from pilothouse.config_state import ConfigState
from pilothouse.configuration import Configuration
from pilothouse.judging.definitions import read_definition, schema_findings
from sdk.tests.cli.schema_models import Limits
from sdk.tests.cli.terminal import Done, Terminal
from sdk.tests.scripted import ReceivedRequest, Reply, ScriptedServer, of_json, problem

BARE: dict[str, Any] = {"type": "object", "required": ["db"]}
STORED: dict[str, Any] = {
    "name": "billing",
    "version": 3,
    "mode": "enforce",
    "applies_to": [{"environments": ["prod*"], "services": ["billing"], "at": "plugins.audio"}],
    "plain_secret": "seal",
    "description": "",
    "schema": BARE,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-02T00:00:00Z",
    "updated_by": "ann",
    "comment": "",
}
PROBLEM: dict[str, Any] = {
    "environment": "production",
    "service_name": "billing",
    "key": "db",
    "schema": "billing",
    "schema_version": 3,
    "schema_pointer": "/required",
    "keyword": "required",
    "rule": None,
    "expected": "db",
    "detail": "'db' of production/billing does not meet `required` db of the schema 'billing'",
}
JUDGED: dict[str, Any] = {
    "pairs": 6,
    "violating": 1,
    "problems": [PROBLEM],
    "plain_secrets": [{"environment": "test", "service_name": "billing", "key": "db.password"}],
}
WRITTEN = {**STORED, "changed": True, "dry_run": False, "judged": JUDGED}
VERSION = {
    "version": 3,
    "revision": 9,
    "action": "updated",
    "actor": "ann",
    "comment": "why",
    "at": "2026-01-02T00:00:00Z",
    "definition": {},
}
ANSWERS: dict[str, Any] = {
    "/api/v1/schemas": {"items": [STORED], "next": None},
    "/api/v1/schemas/billing": STORED,
    "/api/v1/schemas/billing/history": {"items": [VERSION], "next": None},
    "/api/v1/schemas/billing/diff": {
        "name": "billing",
        "old_version": 2,
        "new_version": 3,
        "added": {"schema.required": ["db"]},
        "removed": {},
        "changed": {"mode": {"old": "warn", "new": "enforce"}},
    },
    "/api/v1/schemas/billing/rollback": WRITTEN,
    "/api/v1/schemas/export": {"format": "pilothouse-schemas-1", "schemas": {"billing": {}}},
    "/api/v1/schemas/import": {
        "dry_run": False,
        "schemas": [{"name": "billing", "status": "created", "version": 1, "error": None}],
    },
    "/api/v1/schemas/for": {
        "environment": "production",
        "service_name": "billing",
        "items": [{"name": "billing", "version": 3, "mode": "warn", "at": "", "schema": BARE}],
        "revision": 9,
    },
    "/api/v1/violations": {"items": [PROBLEM], "next": None, "hidden": 2, "revision": 9},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.json").write_text(json.dumps(BARE))
    (tmp_path / "body.yaml").write_text(
        "mode: warn\nschema: {type: object}\napplies_to: [{services: ['*']}]\n"
    )
    (tmp_path / "all.json").write_text(json.dumps(ANSWERS["/api/v1/schemas/export"]))
    return tmp_path


def answer(request: ReceivedRequest) -> Reply:
    if request.method == "DELETE":
        return Reply(204)
    return of_json(WRITTEN if request.method == "PUT" else ANSWERS[request.path])


def asked_with(terminal: Terminal, *words: str) -> tuple[Done, ReceivedRequest]:
    """Run a command against a service that gives these answers; return what was asked last."""
    with ScriptedServer() as server:
        server.answers |= dict.fromkeys(ANSWERS, answer)
        done = terminal("schema", *words, "--url", server.url)
        return done, server.requests[-1]


PRINTED = {
    "list": (("list",), "billing  3        enforce  prod*/billing at plugins.audio"),
    "show": (("show", "billing"), '"mode": "enforce"'),
    "history": (("history", "billing"), "3        2026-01-02 00:00:00  updated  ann    why"),
    "diff": (("diff", "billing"), "~  mode             warn  enforce"),
    "rollback": (("rollback", "billing", "2"), "billing is restored from version 2: enforce"),
    "set": (("set", "billing", "bare.json"), "6 configurations judged, 1 violating"),
    "set, its problems": (
        ("set", "billing", "bare.json"),
        "production/billing  db   billing  required  db",
    ),
    "delete": (("delete", "billing"), "billing is deleted"),
    "export": (("export",), '"format": "pilothouse-schemas-1"'),
    "import": (("import", "all.json"), "billing  created  1"),
    "for": (("for",), "billing  3        warn"),
    "violations": (("violations",), "production/billing  db   billing  required  db"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_answers_are_printed_for_people(nowhere: Terminal, folder: Path, name: str) -> None:
    words, expected = PRINTED[name]

    done, _ = asked_with(nowhere, *words)

    assert done.code == 0, done.err
    assert expected in done.out


@pytest.mark.parametrize("name", PRINTED)
def test_json_is_the_answer_itself(nowhere: Terminal, folder: Path, name: str) -> None:
    words, _ = PRINTED[name]

    done, request = asked_with(nowhere, *words, "--json")

    deleted = {"name": "billing", "deleted": True}
    stored = WRITTEN if request.method == "PUT" else ANSWERS.get(request.path)
    assert done.json() == (deleted if request.method == "DELETE" else stored)
    assert done.err == ""


BODIES: dict[str, tuple[tuple[str, ...], Any]] = {
    "a bare schema": ((), {"schema": BARE, "mode": "enforce"}),
    "patterns": (
        ("-e", "prod*", "--service", "bill*", "--mode", "warn", "--plain-secret", "refuse"),
        {
            "schema": BARE,
            "mode": "warn",
            "applies_to": [{"environments": ["prod*"], "services": ["bill*"], "at": ""}],
            "plain_secret": "refuse",
        },
    ),
    "several": (
        ("--environments", "a", "--environments", "b", "--at", "plugins.audio", "-m", "why"),
        {
            "schema": BARE,
            "mode": "enforce",
            "comment": "why",
            "applies_to": [
                {"environments": ["a", "b"], "services": ["billing"], "at": "plugins.audio"}
            ],
        },
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bare_schema_is_wrapped(nowhere: Terminal, folder: Path, name: str) -> None:
    words, body = BODIES[name]

    _, request = asked_with(nowhere, "set", "billing", "bare.json", *words)

    assert (request.method, request.path) == ("PUT", "/api/v1/schemas/billing")
    assert json.loads(request.body) == body


def test_a_body_is_sent_as_it_is(nowhere: Terminal, folder: Path) -> None:
    _, request = asked_with(
        nowhere, "set", "billing", "body.yaml", "--if-version", "2", "--dry-run"
    )
    refused = nowhere("schema", "set", "billing", "body.yaml", "--mode", "enforce")

    assert json.loads(request.body) == {
        "mode": "warn",
        "schema": {"type": "object"},
        "applies_to": [{"services": ["*"]}],
    }
    assert (request.headers["if-match"], request.query) == ('"2"', {"dry_run": "true"})
    assert refused.code == 2
    assert "--mode cannot change it" in refused.err


def test_what_is_shown_can_be_set(nowhere: Terminal, folder: Path) -> None:
    asked_with(nowhere, "show", "billing", "--output", "shown.json")
    _, request = asked_with(nowhere, "set", "billing", "shown.json")

    sent = json.loads(request.body)
    assert sent["applies_to"] == STORED["applies_to"]
    assert sent.keys() <= {"mode", "applies_to", "plain_secret", "description", "schema"}


def test_the_layer_and_the_filters_are_asked_for(nowhere: Terminal, folder: Path) -> None:
    _, applied = asked_with(nowhere, "for", "-e", "production", "-s", "billing")
    _, listed = asked_with(nowhere, "violations", "-e", "production", "--schema", "billing")
    _, everything = asked_with(nowhere, "violations")

    assert applied.query == {"environment": "production", "service_name": "billing"}
    assert listed.query == {"environment": "production", "schema": "billing", "limit": "1000"}
    assert everything.query == {"limit": "1000"}


def test_a_schema_that_is_not_met_is_refused_with_the_reasons(
    nowhere: Terminal, folder: Path
) -> None:
    with ScriptedServer() as server:
        server.answers["/api/v1/schemas/billing"] = lambda _: problem(422, "schema_not_met")
        done = nowhere("schema", "set", "billing", "bare.json", "--url", server.url)

    assert done.code == 1
    assert "the detail of schema_not_met" in done.err


def test_an_import_that_fails_in_part_says_so(nowhere: Terminal, folder: Path) -> None:
    failed = {"code": "bad_schema", "detail": "the schema cannot be used"}
    rows = [{"name": "billing", "status": "failed", "version": 0, "error": failed}]
    with ScriptedServer() as server:
        server.answers["/api/v1/schemas/import"] = lambda _: of_json(
            {"dry_run": False, "schemas": rows}
        )
        done = nowhere("schema", "import", "all.json", "--url", server.url)

    assert done.code == 1
    assert "the schema cannot be used" in done.out


def test_the_schema_of_a_model_is_printed(nowhere: Terminal) -> None:
    done = nowhere.ok("schema", "from-pydantic", "sdk.tests.cli.schema_models:Limits")

    database = done.json()["$defs"]["Database"]["properties"]
    assert done.json() == Limits.model_json_schema()
    assert database["password"]["anyOf"][0]["writeOnly"] is True


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("no.such.module:Model", "cannot be imported"),
        ("sdk.tests.cli.schema_models:Nothing", "cannot be imported"),
        ("sdk.tests.cli.schema_models:STRICT", "is not a Pydantic model"),
        ("sdk.tests.cli.schema_models", "is not of the form package.module:Model"),
    ],
)
def test_what_is_no_model_is_a_mistake_of_use(nowhere: Terminal, place: str, words: str) -> None:
    done = nowhere("schema", "from-pydantic", place)

    assert done.code == 2
    assert words in done.err


SCHEMA = read_definition(Limits.model_json_schema(), name="limits")
WRONG: tuple[Any, ...] = (None, True, 0, -1, 70000, 0.25, "", "A", [], ["x"] * 3, {}, {"x": 1})
GOOD: dict[str, tuple[Any, ...]] = {
    "host": ("db1", "a.b", "x" * 20),
    "port": (None, 1, 65535),
    "password": (None, "abc"),
    "min": (1, 2),
    "max": (99, 100),
    "level": ("debug", "info"),
    "ratio": (0, 0.5, 1),
    "tags": ([], ["a", "b"]),
    "weights": ({}, {"a": 1, "b": 2}),
}


def draw_members(random: Random, **sections: Any) -> dict[str, Any]:
    """Draw an object of which a member is missing, wrong or unknown now and then."""
    drawn = {}
    for name, inner in sections.items():
        luck = random.random()
        if luck < 0.95:
            drawn[name] = random.choice(GOOD[name]) if inner is None else inner
        elif luck < 0.98:
            drawn[name] = random.choice(WRONG)
    return {**drawn, "unknown": 1} if random.random() < 0.02 else drawn


def draw_configuration(random: Random) -> dict[str, Any]:
    pool = draw_members(random, min=None, max=None)
    database = draw_members(random, host=None, port=None, password=None, pool=pool)
    return draw_members(random, database=database, level=None, ratio=None, tags=None, weights=None)


def is_model(tree: dict[str, Any]) -> bool:
    config = Configuration()
    config.swap(ConfigState(tree, "service"))
    try:
        config.as_model(Limits)
    except ValidationError:
        return False
    return True


def test_the_schema_and_the_model_agree_on_200_configurations() -> None:
    random = Random(20)
    corpus = [draw_configuration(random) for _ in range(200)]

    by_model = [is_model(tree) for tree in corpus]
    by_schema = [not list(schema_findings(SCHEMA, tree)) for tree in corpus]

    assert 50 < sum(by_model) < 150
    assert by_schema == by_model
