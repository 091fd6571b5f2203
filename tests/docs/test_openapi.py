"""The committed OpenAPI document is the one the service answers, and describes itself well."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.docs.generate import FOLDER, named_errors, openapi

METHODS = ("get", "post", "put", "patch", "delete")


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads((FOLDER / "openapi.json").read_text(encoding="utf-8"))


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        assert methods.keys() <= set(METHODS)
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def references(part: Any) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)


def test_the_committed_document_is_what_the_service_answers() -> None:
    committed = (FOLDER / "openapi.json").read_text(encoding="utf-8")
    answered = openapi()

    assert json.loads(answered) == json.loads(committed), "run `make docs`"
    assert answered == committed, "run `make docs`"


def test_every_reference_leads_somewhere(document: Any) -> None:
    for reference in references(document):
        start, *steps = reference.split("/")
        assert start == "#"
        part = document
        for step in steps:
            part = part[step]


def test_every_answer_in_json_has_a_schema(document: Any) -> None:
    answers = [
        (name, status, content["application/json"])
        for name, operation in operations(document)
        for status, answer in operation["responses"].items()
        if "application/json" in (content := answer.get("content", {}))
    ]

    assert [each[:2] for each in answers if not each[2].get("schema")] == []


def test_every_schema_is_named_as_its_class(document: Any) -> None:
    """Of two classes of one name, the names would have the modules in them."""
    assert [name for name in document["components"]["schemas"] if "__" in name] == []


def test_every_schema_is_referred_to(document: Any) -> None:
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    assert named == set(references(document))


def test_every_operation_has_a_summary_a_tag_and_an_id_of_its_own(document: Any) -> None:
    found = dict(operations(document))

    assert all(operation["summary"] and operation["tags"] for operation in found.values())
    assert len({operation["operationId"] for operation in found.values()}) == len(found)


def test_every_refusal_is_described_as_a_problem(document: Any) -> None:
    for name, operation in operations(document):
        for status in ("4XX", "5XX"):
            assert operation["responses"][status]["content"].keys() == {
                "application/problem+json"
            }, name


def test_every_answer_has_a_request_id(document: Any) -> None:
    for name, operation in operations(document):
        for response in operation["responses"].values():
            assert response["headers"]["X-Request-Id"]["required"], name


def test_every_member_and_parameter_is_described(document: Any) -> None:
    schemas = document["components"]["schemas"].items()
    members = {
        f"{schema}.{name}": member
        for schema, definition in schemas
        for name, member in definition.get("properties", {}).items()
    }
    parameters = {
        f"{name}: {parameter['name']}": {**parameter["schema"], **parameter}
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
    }

    found = members | parameters
    assert [name for name, part in found.items() if not part.get("description")] == []


def test_every_group_is_described(document: Any) -> None:
    used = {tag for _, operation in operations(document) for tag in operation["tags"]}

    assert {tag["name"] for tag in document["tags"] if tag["description"]} == used


def test_every_operation_has_an_example(document: Any) -> None:
    for name, operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        media = [one for part in parts for one in part.get("content", {}).values()]
        assert any("example" in one for one in [*media, *operation.get("parameters", ())]), name


def test_a_body_that_is_required_has_an_example(document: Any) -> None:
    for name, operation in operations(document):
        body = operation.get("requestBody", {})
        if body.get("required"):
            assert any("example" in media for media in body["content"].values()), name


def test_everything_but_health_takes_a_token(document: Any) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["Bearer"]["scheme"] == "bearer"
    assert schemes["ApiKey"]["name"] == "X-API-Key"
    assert document["security"] == [{}, {"Bearer": []}, {"ApiKey": []}]  # {}: access is open
    for name, operation in operations(document):
        assert ("security" in operation) == (operation["tags"] == ["health"]), name


def test_examples_meet_their_schemas(document: Any) -> None:
    schemas = document["components"]
    for name, operation in operations(document):
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media in [one for part in parts for one in part.get("content", {}).values()]:
            if "example" in media and "schema" in media:
                schema = {**media["schema"], "components": schemas}
                errors = list(Draft202012Validator(schema).iter_errors(media["example"]))
                assert not errors, (name, errors[0].message)


def test_every_operation_names_its_problem_codes(document: Any) -> None:
    kinds = {"unparsable", "unauthenticated", "forbidden", "not_found", "conflict", "gone"}
    kinds |= {"precondition_failed", "too_many", "in_doubt", "backend_unavailable"}
    inside = {
        "flags_moved",
        "write_closed",
        "no_such_route",
        "events_unavailable",
        "state_in_use",
        "outcome_unknown",
    }
    errors = named_errors()
    named = {code for _, operation in operations(document) for code in operation["x-problem-codes"]}

    assert named == {error.code for error in errors} - kinds - inside
    for name, operation in operations(document):
        said = "".join(operation["responses"][family]["description"] for family in ("4XX", "5XX"))
        assert all(f"`{code}`" in said for code in operation["x-problem-codes"]), name
