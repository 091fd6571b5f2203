"""What callers may do with templates, and what they see of documents that use them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.access.worlds import ADMIN
from tests.e2e.administered import REQUIRED
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

TEMPLATES = "/api/v1/templates"
ALL: Mapping[str, Any] = {"environments": ["*"], "services": ["*"]}
TOKENS: Mapping[str, Mapping[str, Any]] = {
    "editor": {"class": "operator", "roles": ["editor"], **ALL},
    "publisher": {"class": "operator", "roles": ["publisher"], **ALL},
    "of_staging": {
        "class": "operator",
        "roles": ["publisher"],
        "environments": ["staging*"],
        "services": ["*"],
    },
    "of_shop": {
        "class": "operator",
        "roles": ["editor"],
        "environments": ["staging"],
        "services": ["shop"],
    },
    "client": {"class": "client", "environments": ["staging"], "services": ["shop"]},
}


class Callers:
    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._tokens = {"admin": ADMIN}
        for name, wanted in TOKENS.items():
            made = self.ask("admin", "POST", "/api/v1/tokens", {"name": name, **wanted})
            self._tokens[name] = made.json()["token"]

    def ask(self, caller: str, method: str, path: str, body: Any = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._tokens[caller]}"}
        return self._service.request(method, path, body, headers=headers)

    def put(self, caller: str, name: str, **members: Any) -> Answer:
        return self.ask(caller, "PUT", f"{TEMPLATES}/{name}", {"data": {"a": 1}, **members})

    def use(self, caller: str, name: str, environment: str, service: str) -> Answer:
        body = {"environment": environment, "service_name": service}
        return self.ask(caller, "POST", f"{TEMPLATES}/{name}/use", body)


@pytest.fixture(scope="module")
def callers() -> Iterator[Callers]:
    with ServiceProcess({**REQUIRED, "PILOTHOUSE_ADMIN_TOKEN": ADMIN}) as service:
        yield Callers(service)


def scope(*environments: str) -> list[dict[str, list[str]]]:
    return [{"environments": list(environments), "services": ["*"]}]


def test_publishers_write_templates_and_editors_use_them(callers: Callers) -> None:
    assert callers.put("editor", "t1").json()["right"] == "rules:write"
    assert callers.put("publisher", "t1").status == 201
    assert callers.use("editor", "t1", "staging", "any").status == 201
    assert callers.ask("of_shop", "GET", f"{TEMPLATES}/t1").status == 200
    assert callers.ask("client", "GET", f"{TEMPLATES}/t1").status == 403


def test_a_template_reaches_no_further_than_one_grant_of_its_writer(callers: Callers) -> None:
    assert callers.put("of_staging", "t2").status == 403  # it would apply everywhere
    assert callers.put("of_staging", "t2", applies_to=scope("production")).status == 403
    assert callers.put("of_staging", "t2", applies_to=scope("staging-1", "*")).status == 403
    assert callers.put("of_staging", "t2", applies_to=scope("staging-*")).status == 201


def test_what_reaches_further_is_neither_replaced_nor_removed(callers: Callers) -> None:
    callers.put("publisher", "t3")
    callers.put("publisher", "t3", applies_to=scope("staging"))
    callers.put("publisher", "t4")

    assert callers.put("of_staging", "t4", applies_to=scope("staging")).status == 403
    assert callers.ask("of_staging", "DELETE", f"{TEMPLATES}/t4").status == 403
    back = callers.ask("of_staging", "POST", f"{TEMPLATES}/t3/rollback", {"version": 1})
    assert back.status == 403
    assert callers.ask("of_staging", "DELETE", f"{TEMPLATES}/t3").status == 204


def test_a_use_needs_the_right_to_write_the_document(callers: Callers) -> None:
    callers.put("publisher", "t5")

    assert callers.use("of_shop", "t5", "staging", "shop").status == 201
    assert callers.use("of_shop", "t5", "staging", "bank").status == 403
    assert callers.use("editor", "t5", "production", "shop").json()["right"] == "config:publish"


def test_documents_that_may_not_be_read_are_only_counted(callers: Callers) -> None:
    callers.put("publisher", "t6")
    for service in ("shop", "bank", "desk"):
        callers.use("publisher", "t6", "staging", service)

    found = callers.ask("of_shop", "GET", f"{TEMPLATES}/t6/uses").json()

    assert [each["service_name"] for each in found["items"]] == ["shop"]
    assert found["hidden"] == 2
    assert "bank" not in str(found)


def test_an_upgrade_writes_where_the_caller_may_write(callers: Callers) -> None:
    callers.put("publisher", "t7")
    for environment, service in (("staging", "shop"), ("staging", "bank"), ("production", "shop")):
        callers.use("publisher", "t7", environment, service)
    callers.put("publisher", "t7", data={"a": 2})

    of_shop = callers.ask("of_shop", "POST", f"{TEMPLATES}/t7/upgrade", {}).json()
    by_editor = callers.ask("editor", "POST", f"{TEMPLATES}/t7/upgrade", {}).json()

    assert [(each["service_name"], each["status"]) for each in of_shop["uses"]] == [
        ("shop", "written")
    ]
    assert of_shop["hidden"] == 2
    found = {(each["environment"], each["service_name"]): each for each in by_editor["uses"]}
    assert found["production", "shop"]["status"] == "refused"
    assert found["production", "shop"]["error"]["code"] == "denied"
    assert found["staging", "bank"]["status"] == "written"
    assert found["staging", "shop"]["status"] == "unchanged"
