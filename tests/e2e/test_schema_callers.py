"""What schemas show to callers of each kind: of others' configurations they are told a number."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.client import body_of, fresh_name
from tests.servers.answer import Answer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

ADMIN = "the-first-token-of-an-administrator"
REQUIRED = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
SCHEMAS = "/api/v1/schemas"
STAGING = "environment=staging"
OURS = {"environments": ["staging"], "services": ["shop", "_shared"]}
TOKENS: Mapping[str, dict[str, Any]] = {
    "editor": {"class": "operator", "roles": ["editor"], **OURS},
    "publisher": {"class": "operator", "roles": ["publisher"], **OURS},
    "service": {"class": "service", "environments": ["staging"], "services": ["shop"]},
    "client": {"class": "client", "environments": ["staging"], "services": ["shop"]},
}
SCHEMA = {"properties": {"pool": {"maximum": 5}}}


class Callers:
    """A service that requires tokens, with one of each kind; `shop` is theirs, `bank` is not."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        self._tokens = {"admin": ADMIN}
        for name, wanted in TOKENS.items():
            made = body_of(
                self.ask("admin", "POST", "/api/v1/tokens", {"name": name, **wanted}), 201
            )
            self._tokens[name] = made["token"]
        for service in ("shop", "bank"):
            body_of(self.patch("admin", service, {"own": 1}))

    def ask(self, who: str, method: str, path: str, body: Any = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._tokens[who]}"}
        return self.process.request(method, path, body, headers=headers)

    def patch(self, who: str, service: str, keys: Any, query: str = "") -> Answer:
        path = f"/api/v1/config?{STAGING}&service_name={service}{query}"
        return self.ask(who, "PATCH", path, {"set": keys})

    def put(self, who: str, name: str, **members: Any) -> Answer:
        return self.ask(who, "PUT", f"{SCHEMAS}/{name}", {"schema": SCHEMA, **members})


@pytest.fixture(scope="module")
def process() -> Iterator[ServiceProcess]:
    with ServiceProcess(REQUIRED) as process:
        yield process


@pytest.fixture
def callers(process: ServiceProcess) -> Iterator[Callers]:
    callers = Callers(process)
    yield callers
    for each in body_of(callers.ask("admin", "GET", SCHEMAS))["items"]:
        callers.ask("admin", "DELETE", f"{SCHEMAS}/{each['name']}")
    callers.ask("admin", "DELETE", f"/api/configs/_shared?{STAGING}")


def assert_counted(answer: Answer, status: int) -> Any:
    """Assert that an answer counts one configuration, and says nothing else of it."""
    found = body_of(answer, status)
    assert found["hidden"] == 1
    assert b"bank" not in answer.body
    return found


def test_a_refused_write_counts_configurations_of_others(callers: Callers) -> None:
    body_of(callers.put("admin", "all", applies_to=[{}]), 201)
    body_of(callers.patch("admin", "shop", {"pool": 1}))

    for query in ("", "&dry_run=true"):
        refused = assert_counted(callers.patch("editor", "_shared", {"pool": 6}, query), 422)
        assert (refused["code"], refused["violating"]) == ("schema_violated", 1)
        assert "errors" not in refused
    change = {"environment": "staging", "service_name": "_shared", "set": {"pool": 6}}
    body = {"changes": [change]}
    judged = assert_counted(callers.ask("editor", "POST", "/api/v1/validate", body), 200)
    assert (judged["valid"], judged["errors"]) == (False, [])
    shown = body_of(callers.patch("admin", "_shared", {"pool": 6}), 422)
    assert [each["service_name"] for each in shown["errors"]] == ["bank"]


def test_a_preview_and_a_warning_show_configurations_of_others_to_nobody(callers: Callers) -> None:
    body_of(callers.put("admin", "all", applies_to=[{}], mode="warn"), 201)
    body_of(callers.patch("admin", "shop", {"pool": 1}))

    answers = [
        callers.patch("editor", "_shared", {"pool": 6}, "&dry_run=true"),
        callers.patch("editor", "_shared", {"pool": 6}),
    ]

    assert [answer.status for answer in answers] == [200, 200]
    assert not [answer.body for answer in answers if b"bank" in answer.body]


def test_no_filter_tells_which_configuration_of_others_is_violating(callers: Callers) -> None:
    body_of(callers.put("admin", "all", applies_to=[{}], mode="warn"), 201)
    body_of(callers.patch("admin", "bank", {"pool": 6}))

    def violations_page(query: str) -> Any:
        return body_of(callers.ask("service", "GET", f"/api/v1/violations{query}"))

    wait_until(lambda: violations_page("")["hidden"] == 1, "it is found")
    answers = [
        violations_page(query)
        for query in ("", "?service_name=bank", "?service_name=none", "?environment=production")
    ]
    assert answers == [answers[0]] * len(answers)
    assert answers[0]["items"] == []
    body_of(callers.patch("admin", "bank", {"pool": 1}))


def test_what_exists_is_shown_to_a_writer_of_schemas_who_may_read_it(callers: Callers) -> None:
    body_of(callers.patch("admin", "shop", {"pool": 6}))
    applies_to = [{"environments": ["staging"], "services": ["shop"]}]

    refused = body_of(callers.put("publisher", "ours", applies_to=applies_to), 422)

    assert (refused["code"], refused["violating"]) == ("schema_not_met", 1)
    assert [each["service_name"] for each in refused["errors"]] == ["shop"]
    everywhere: list[Any] = [[{}], [{"environments": ["staging"]}], None, [{"services": ["sh*"]}]]
    for everything in everywhere:
        denied = callers.put("publisher", "ours", applies_to=everything)
        assert (denied.status, denied.json()["code"]) == (403, "denied")
    body_of(callers.patch("admin", "shop", {"pool": 1}))


@pytest.mark.parametrize("who", ["client", "service", "editor"])
def test_who_may_not_write_schemas_learns_of_none_by_trying(callers: Callers, who: str) -> None:
    name, none = "kept", fresh_name()
    body_of(callers.put("admin", name, applies_to=[{}]), 201)
    requests: list[tuple[str, str, Any]] = [
        ("PUT", "", {"schema": {}}),
        ("DELETE", "", None),
        ("POST", "/rollback", {"version": 1}),
    ]

    for method, rest, body in requests:
        for each in (name, none):
            answer = callers.ask(who, method, f"{SCHEMAS}/{each}{rest}", body)
            assert (answer.status, answer.json()["code"]) == (403, "denied"), (method, each)
    denied = callers.ask(who, "POST", f"{SCHEMAS}/import", {"schemas": {}})
    assert denied.status == 403


def test_health_and_metrics_have_numbers_only(callers: Callers) -> None:
    body_of(callers.put("admin", "all", applies_to=[{}], mode="warn"), 201)
    body_of(callers.patch("admin", "bank", {"pool": 6}))

    def health() -> Any:
        return body_of(callers.process.request("GET", "/health"))

    wait_until(lambda: health()["violating_configurations"] == 1, "it is found")
    assert health()["schemas"] == 1
    assert "bank" not in str(health())
    metrics = callers.process.request("GET", "/metrics").body.decode()
    assert 'pilothouse_schema_violations{mode="warn"} 1.0' in metrics
    assert "bank" not in metrics
    body_of(callers.patch("admin", "bank", {"pool": 1}))
    wait_until(lambda: health()["violating_configurations"] == 0, "it is mended")
