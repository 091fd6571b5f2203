"""Whatever the OpenAPI document allows or forbids is sent: no answer is one it does not tell of."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import BaseSchema, Case
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig

from tests.servers.service import ROOT, ServiceProcess
from tests.trials import trials

DOCUMENT = ROOT / "docs" / "reference" / "openapi.json"
# Among all there are, a name that exists is never hit upon: nearly every answer would be a 404.
KNOWN: dict[str, list[Any]] = {
    "environment": ["default", "prod"],
    "service_name": ["_shared", "orders"],
    "service": ["orders"],
    "key": ["size", "database.host", "token"],
    "keys": [["size", "token"], ["size"]],
    "prefix": ["", "database"],
    "user": ["ann"],
    "version": [1, 2, 3],
    "old_version": [1],
    "new_version": [2],
    "since": [0, 1],
    "intent": ["0" * 32],
    "If-Match": ["*", '"2"'],
    "If-None-Match": ["*", '"2"'],
    "Idempotency-Key": ["one", "two"],
    "instance_id": ["i-1"],
}
INSTANCE = {"service_name": "orders", "service_url": "http://10.0.0.7", "instance_id": "i-1"}
SEEDS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/v1/registry/register", INSTANCE),
    ("POST", "/api/configs/orders", {"config_data": {"size": 1}}),
    ("PATCH", "/api/v1/config", {"set": {"size": 1, "token": 2}, "encrypt": ["token"]}),
    ("PATCH", "/api/v1/config", {"set": {"size": 2, "database.host": "db1"}}),
    ("PATCH", "/api/v1/config?service_name=orders", {"set": {"size": 2, "database.host": "db1"}}),
    ("PATCH", "/api/v1/config?environment=prod&service_name=orders", {"set": {"size": 3}}),
]
UNTOLD = [
    # Not every reason to refuse a request stands in it: a stale tag, a key that exists.
    "positive_data_acceptance",
    # Nor what a query makes of other types: `null`, sent as the text it is there, is a good name.
    "negative_data_rejection",
    # `bulk` takes a POST, and can be read, replaced and removed as the key of that name.
    "allow_header_conformance",
    "unsupported_method",
]
load_all_checks()
CHOSEN: Any = [check for check in CHECKS.get_all() if check.__name__ not in UNTOLD]
# Of a service without instances none can be told: 503, as for anything that may come back.
MAY_BE_NOBODY = "/api/v1/registry/services/{service}/url"


def checks_of(case: Case[Any]) -> Any:
    refused = {"not_a_server_error"} if case.operation.path == MAY_BE_NOBODY else set()
    return [check for check in CHOSEN if check.__name__ not in refused]


examples = settings(
    max_examples=trials(8),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def load_schema(known: dict[str, list[Any]]) -> BaseSchema:
    """Read the committed document; parameters of `known` are restricted to these values."""
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    for path in document["paths"].values():
        for operation in path.values():
            found = operation.get("parameters", [])
            # One revision to come takes two seconds: test_bad_requests.py asks for it.
            kept = [parameter for parameter in found if parameter["name"] != "min_revision"]
            for parameter in kept:
                if parameter["name"] in known:
                    parameter["schema"] = {"enum": known[parameter["name"]]}
            operation["parameters"] = kept
    config = SchemathesisConfig.from_dict({"seed": 1})
    # Event streams never end.
    return schemathesis.openapi.from_dict(document, config=config).exclude(
        path=["/api/v1/stream", "/ofrep/v1/stream"]
    )


anything, known = load_schema({}), load_schema(KNOWN)


@pytest.fixture(scope="module")
def process() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as process:
        yield process


@pytest.fixture
def service(process: ServiceProcess) -> ServiceProcess:
    """The service, in which everything of `KNOWN` exists whatever was done to it before."""
    for method, target, body in SEEDS:
        assert process.request(method, target, body).status in {200, 201, 409}
    return process


pytestmark = pytest.mark.slow


@anything.parametrize()
@examples
def test_no_answer_is_one_the_document_does_not_tell_of(
    case: Case[Any], service: ServiceProcess
) -> None:
    case.call_and_validate(service.url, checks=checks_of(case))


@known.parametrize()
@examples
def test_nor_is_any_answer_about_what_exists(case: Case[Any], service: ServiceProcess) -> None:
    case.call_and_validate(service.url, checks=checks_of(case))
