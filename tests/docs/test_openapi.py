"""The committed OpenAPI document is the one the service answers, and describes itself well."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs.generate import FOLDER, openapi

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
