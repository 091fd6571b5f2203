"""No write is carried out that was asked with a parameter it does not know."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, told
from tests.servers.service import ServiceProcess

OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
# They write nothing, and what OpenFeature says of its protocol holds for them.
EVALUATIONS = {
    "/api/v1/feature-flags/evaluate",
    "/api/v1/feature-flags/evaluate/batch",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{key}",
}


def _writes() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the method and path of every write, and the query parameters it is said to know."""
    paths: dict[str, dict[str, Any]] = json.loads(OPENAPI.read_text())["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if method != "get" and path not in EVALUATIONS:
                found = operation.get("parameters", [])
                known = [one["name"] for one in found if one["in"] == "query"]
                yield method.upper(), path, known


WRITES = list(_writes())


def _unknown(problem: Any) -> list[str]:
    assert problem["code"] == "invalid"
    assert {flaw["code"] for flaw in problem["errors"]} == {"extra_forbidden"}
    return [flaw["parameter"] for flaw in problem["errors"]]


@pytest.mark.parametrize(("method", "path", "known"), WRITES, ids=[" ".join(w[:2]) for w in WRITES])
def test_every_write_refuses_a_parameter_it_does_not_know_and_no_other(
    embedded: Service, method: str, path: str, known: list[str]
) -> None:
    query: dict[str, Any] = {**dict.fromkeys(known, "1"), "nobody_knows_this": "1"}
    query.pop("min_revision", None)  # one that is not there yet is waited for

    answer = embedded.call(method, path.replace("{", "").replace("}", ""), {}, **query)

    assert _unknown(told(answer, 422)) == ["nobody_knows_this"]


def test_a_misspelt_layer_is_not_written_to_the_one_that_all_share(layer: Layer) -> None:
    shared = layer.at(service="_shared")
    asked: dict[str, Any] = {"environment": layer.environment, "service": layer.service}

    for method, path, body in (
        ("PATCH", "/api/v1/config", {"set": {"host": "db1"}}),
        ("POST", "/api/v1/import", {"host": "db1"}),
    ):
        answer = layer.of.call(method, path, body, **asked)
        assert _unknown(told(answer, 422)) == ["service"]
    body = {"key": "host", "value": "db1"}
    answer = layer.of.call("POST", "/api/v1/config", body, service=layer.service)
    assert _unknown(told(answer, 422)) == ["service"]

    assert shared.document().status == 404


def test_who_is_not_known_hears_of_no_parameter() -> None:
    with ServiceProcess({"PILOTHOUSE_ACCESS": "required"}) as service:
        answer = service.request("DELETE", "/api/v1/config/host?nobody_knows_this=1")

    assert told(answer, 401)["code"] == "token_missing"
