"""No request is answered that was asked with a query parameter it does not know."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of
from tests.servers.service import ServiceProcess

OPEN_TO_ALL = {"/live", "/ready", "/health", "/metrics"}
OPENAPI = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
# What OpenFeature says of its protocol holds for them; the others are for anybody who looks.
TOLERANT = {
    "/api/v1/feature-flags/evaluate",
    "/api/v1/feature-flags/evaluate/batch",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/{key}",
}


def _strict() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the method and path of each strict route, and its documented query parameters."""
    paths: dict[str, dict[str, Any]] = json.loads(OPENAPI.read_text())["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            if path not in TOLERANT | OPEN_TO_ALL and not path.startswith("/ofrep/"):
                found = operation.get("parameters", [])
                known = [one["name"] for one in found if one["in"] == "query"]
                yield method.upper(), path, known


STRICT = list(_strict())


def _unknown(problem: Any) -> list[str]:
    assert problem["code"] == "invalid"
    assert {flaw["code"] for flaw in problem["errors"]} == {"extra_forbidden"}
    return [flaw["parameter"] for flaw in problem["errors"]]


@pytest.mark.parametrize(("method", "path", "known"), STRICT, ids=[" ".join(w[:2]) for w in STRICT])
def test_every_request_refuses_a_parameter_it_does_not_know_and_no_other(
    service_embedded: Service, method: str, path: str, known: list[str]
) -> None:
    query: dict[str, Any] = {**dict.fromkeys(known, "1"), "nobody_knows_this": "1"}
    query.pop("min_revision", None)  # one that is not there yet is waited for

    answer = service_embedded.call(method, path.replace("{", "").replace("}", ""), {}, **query)

    assert _unknown(body_of(answer, 422)) == ["nobody_knows_this"]


def test_a_misspelt_layer_is_not_written_to_the_one_that_all_share(layer: Layer) -> None:
    shared = layer.at(service="_shared")
    known_parameters: dict[str, Any] = {"environment": layer.environment, "service": layer.service}

    for method, path, body in (
        ("PATCH", "/api/v1/config", {"set": {"host": "db1"}}),
        ("POST", "/api/v1/import", {"host": "db1"}),
    ):
        answer = layer.of.call(method, path, body, **known_parameters)
        assert _unknown(body_of(answer, 422)) == ["service"]
    body = {"key": "host", "value": "db1"}
    answer = layer.of.call("POST", "/api/v1/config", body, service=layer.service)
    assert _unknown(body_of(answer, 422)) == ["service"]

    assert shared.document().status == 404


def test_a_misspelt_layer_is_not_read_from_the_one_that_all_share(layer: Layer) -> None:
    layer.create("host", "db1")

    for path in ("config", "config/host", "effective"):
        for name in ("env", "service", "Environment"):
            query: dict[str, Any] = {name: layer.environment}
            answer = layer.of.call("GET", f"/api/v1/{path}", **query)
            assert _unknown(body_of(answer, 422)) == [name]
    answer = layer.of.call("GET", "/api/v1/effective", env="prod", service_name=layer.service)
    assert "did you mean 'environment'?" in answer.body.decode()


def _guarded_routes() -> Iterator[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = json.loads(OPENAPI.read_text())["paths"]
    for path, operations in paths.items():
        if path not in OPEN_TO_ALL:
            for method in operations:
                yield method.upper(), path


@pytest.fixture(scope="module")
def guarded_service() -> Iterator[ServiceProcess]:
    with ServiceProcess({"PILOTHOUSE_ACCESS": "required", "UNKNOWN_CALLER_LIMIT": "0"}) as service:
        yield service


BAD_HEADERS = {
    "If-Match": "no tag",
    "If-None-Match": "no tag",
    "Idempotency-Key": "\t",
    "Prefer": "wait=x",
    "Last-Event-ID": "x",
    "X-Environment": "no name",
    "Accept": "image/png",
}


@pytest.mark.parametrize(("method", "path"), list(_guarded_routes()))
def test_who_is_not_known_hears_of_nothing_else_that_is_wrong(
    guarded_service: ServiceProcess, method: str, path: str
) -> None:
    good, bad = (re.sub(r"\{\w+\}", name, path) for name in ("shop", "!no+name!"))
    everything = "limit=x&version=x&format=x&environment=!&min_revision=x&cursor=x&strategy=x"
    json_body = {"Content-Type": "application/json"}

    answers = [
        guarded_service.request(method, f"{good}?nobody_knows_this=1"),
        guarded_service.request(method, f"{good}?{everything}"),
        guarded_service.request(method, f"{good}?environment=a&environment=b"),
        guarded_service.request(method, f"{good}?min_revision=99999999"),
        guarded_service.request(method, bad),
        guarded_service.request(method, good, headers=BAD_HEADERS),
        guarded_service.request(method, good, data=b"{", headers=json_body),
        guarded_service.request(method, good, data=b"\xff", headers=json_body),
        guarded_service.request(method, good, data=b"x", headers={"Content-Type": "text/plain"}),
        guarded_service.request(method, good, {"nobody": "knows this"}),
    ]

    assert [answer.status for answer in answers] == [401] * len(answers)
    assert {answer.json()["code"] for answer in answers} == {"token_missing"}
