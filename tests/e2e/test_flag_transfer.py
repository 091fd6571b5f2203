"""Flags of other systems: imported whole or not at all, and exported again."""

from typing import Any

import pytest
from openfeature.contrib.tools.flagd.core.targeting.custom_ops import fractional

from tests.e2e.client import Service, body_of, fresh_name
from tests.flags.judges import flagd_core_1
from tests.servers.answer import Answer

FLAGS = "/api/v1/feature-flags"
SPLIT: dict[str, Any] = {
    "state": "ENABLED",
    "variants": {"red": "#f00", "blue": "#00f"},
    "defaultVariant": "red",
    "targeting": {"fractional": [["red", 30], ["blue", 70]]},
}
STAFF: dict[str, Any] = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"$ref": "staff"}, "on"]},
}
FLAGD: dict[str, Any] = {
    "flags": {"colour": SPLIT, "panel": STAFF},
    "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@example.org"]}},
}
UNSAYABLE = {**STAFF, "targeting": {"if": [{"%": [{"var": "age"}, 2]}, "on"]}}
UNLEASH = {
    "version": 1,
    "features": [
        {
            "name": "panel",
            "enabled": True,
            "strategies": [
                {
                    "name": "flexibleRollout",
                    "parameters": {"rollout": "40", "stickiness": "userId", "groupId": "panel"},
                }
            ],
        }
    ],
}


class Environment:
    def __init__(self, service: Service) -> None:
        self._service = service
        self.name = fresh_name("e")

    def imports_text(self, text: str, kind: str = "application/yaml") -> Answer:
        return self._service.process.request(
            "POST",
            f"{FLAGS}/import?format=flagd&environment={self.name}",
            headers={"Content-Type": kind},
            data=text.encode(),
        )

    def ofrep(self, flag: str, **context: Any) -> Answer:
        headers = {"X-Environment": self.name}
        path = f"/ofrep/v1/evaluate/flags/{flag}"
        return self._service.call("POST", path, {"context": context}, headers=headers)

    def imports(self, document: Any, form: str = "flagd", **query: Any) -> Answer:
        parameters = {"format": form, "environment": self.name, **query}
        return self._service.call("POST", f"{FLAGS}/import", document, **parameters)

    def get(self, path: str = "", **query: Any) -> Answer:
        return self._service.get(FLAGS + path, environment=self.name, **query)

    def value(self, flag: str, user: str, **context: Any) -> Any:
        body = {
            "flag_name": flag,
            "environment": self.name,
            "user_id": user,
            "context": context,
        }
        return body_of(self._service.call("POST", f"{FLAGS}/evaluate", body))["value"]

    def names(self) -> list[str]:
        return [flag["name"] for flag in body_of(self.get())["items"]]


@pytest.fixture
def environment(service: Service) -> Environment:
    return Environment(service)


@pytest.mark.parametrize(
    ("stated", "used"), [({}, "v2"), ({"hash": "v2"}, "v2"), ({"hash": "v3"}, "v3")]
)
def test_flags_of_flagd_keep_every_users_cohort(
    environment: Environment, stated: dict[str, str], used: str
) -> None:
    splits = fractional if used == "v3" else flagd_core_1().fractional
    made = environment.imports(FLAGD, **stated)
    assert body_of(made)["hash"] == used
    assert [(item["kind"], item["name"], item["status"]) for item in body_of(made)["items"]] == [
        ("flag", "colour", "created"),
        ("flag", "panel", "created"),
        ("segment", "staff", "created"),
    ]
    assert int(made.headers["X-Revision"]) > 0

    for number in range(40):
        user = f"user-{number}"
        data = {"targetingKey": user, "$flagd": {"flagKey": "colour"}}
        theirs = splits(data, ["red", 30], ["blue", 70])
        assert environment.value("colour", user) == SPLIT["variants"][theirs]
    assert environment.value("panel", "ann", email="ann@example.org") is True
    assert environment.value("panel", "bob", email="bob@example.com") is False
    exported = environment.get("/export", format="flagd", **stated)
    assert exported.headers["X-Flagd-Hash"] == used
    assert body_of(exported)["flags"]["colour"]["targeting"]["if"][1] == SPLIT["targeting"]
    other = "v2" if used == "v3" else "v3"
    assert environment.get("/export", format="flagd", hash=other).status == 422


def test_a_dry_run_tells_all_and_changes_nothing(environment: Environment) -> None:
    document = {**FLAGD, "flags": {**FLAGD["flags"], "odd": UNSAYABLE}}

    found = body_of(environment.imports(document, dry_run=True))

    assert {item["name"]: item["version"] for item in found["items"]} == {
        "colour": 1,
        "panel": 1,
        "staff": 1,
    }
    ((flag, pointer),) = [(note["flag"], note["pointer"]) for note in found["report"]]
    assert flag == "odd"
    assert pointer.startswith("/flags/odd/targeting")
    assert environment.names() == []


def test_what_cannot_be_said_refuses_all_unless_it_may_be_left_out(
    environment: Environment,
) -> None:
    document = {"flags": {"colour": SPLIT, "odd": UNSAYABLE}}

    refused = environment.imports(document)
    assert (refused.status, refused.json()["code"]) == (422, "flags_not_expressed")
    assert refused.json()["errors"][0]["pointer"].startswith("#/flags/odd/")
    assert environment.names() == []

    assert body_of(environment.imports(document, leave_out=True))["report"][0]["flag"] == "odd"
    assert environment.names() == ["colour"]


def test_an_import_again_changes_nothing_and_a_new_file_only_what_differs(
    environment: Environment,
) -> None:
    environment.imports(FLAGD)
    again = environment.imports(FLAGD)
    assert {item["status"] for item in body_of(again)["items"]} == {"unchanged"}
    assert "X-Revision" not in again.headers

    switched = {"flags": {"panel": {**STAFF, "state": "DISABLED"}}, "$evaluators": {}}
    switched["flags"]["panel"].pop("targeting")
    found = body_of(environment.imports(switched))

    assert [(item["name"], item["status"], item["version"]) for item in found["items"]] == [
        ("panel", "updated", 2)
    ]
    assert environment.names() == ["colour", "panel"]


def test_an_import_that_breaks_what_stands_is_refused_whole(
    environment: Environment, service: Service
) -> None:
    environment.imports(FLAGD)
    needs = {
        "name": "child",
        "environment": environment.name,
        "prerequisites": [{"flag": "colour", "variants": ["blue"]}],
    }
    assert service.call("POST", FLAGS, needs).status == 201
    gone = {**SPLIT, "variants": {"red": "#f00"}, "targeting": {}}

    refused = environment.imports({"flags": {"colour": gone, "new": STAFF_WITHOUT_SEGMENT}})

    assert refused.status in {409, 422}, refused.body
    assert environment.names() == ["child", "colour", "panel"]


STAFF_WITHOUT_SEGMENT = {**STAFF, "targeting": {}}


@pytest.mark.parametrize(
    ("document", "form", "status"),
    [
        ({}, "flagd", 422),
        ({"flags": []}, "flagd", 422),
        ({"flags": {"x": 1}}, "flagd", 422),
        ({"flags": {"export": STAFF_WITHOUT_SEGMENT}}, "flagd", 422),
        ({"features": 7}, "unleash", 422),
        ({"flags": {}}, "launchdarkly", 422),
        ([], "flagd", 422),
        ({"flags": {"x": 1}}, None, 422),
    ],
)
def test_what_is_no_file_of_flags_is_refused_by_its_place(
    environment: Environment, document: Any, form: Any, status: int
) -> None:
    refused = environment.imports(document, form)

    assert refused.status == status, refused.body
    assert refused.json()["errors"]
    assert environment.names() == []


def test_flags_of_unleash_are_imported(environment: Environment) -> None:
    assert body_of(environment.imports(UNLEASH, "unleash"))["items"][0]["status"] == "created"

    served = [environment.value("panel", f"user-{number}") for number in range(100)]
    assert 20 < served.count(True) < 60


def test_an_export_is_what_was_imported(environment: Environment, service: Service) -> None:
    environment.imports(FLAGD)

    exported = body_of(environment.get("/export", format="flagd"))
    other = Environment(service)
    body_of(other.imports(exported))

    assert body_of(other.get("/export", format="flagd")) == exported
    for number in range(20):
        user = f"user-{number}"
        assert other.value("colour", user) == environment.value("colour", user)


def test_what_flagd_cannot_say_is_told_by_an_export(
    environment: Environment, service: Service
) -> None:
    environment.imports({"flags": {"colour": SPLIT}})
    simple = {"name": "ours", "environment": environment.name, "rollout_percentage": 50}
    assert service.call("POST", FLAGS, simple).status == 201

    refused = environment.get("/export", format="flagd")
    assert (refused.status, refused.json()["code"]) == (422, "flags_not_expressed")
    assert "ours" in refused.json()["errors"][0]["detail"]

    partly = body_of(environment.get("/export", format="flagd", leave_out=True))
    assert list(partly["flags"]) == ["colour"]


FLAGD_YAML = """
$evaluators:
  staff: &staff
    ends_with: [{var: email}, "@example.org"]
---
metadata: {team: blue}
flags:
  panel:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting: {if: [{$ref: staff}, "on"]}
    metadata: {ticket: 42, since: 2026-01-01}
"""


@pytest.mark.parametrize("kind", ["application/yaml", "text/yaml; charset=utf-8"])
def test_a_document_may_be_yaml_and_several_are_read_as_one(
    environment: Environment, kind: str
) -> None:
    made = environment.imports_text(FLAGD_YAML, kind)

    assert {(one["kind"], one["name"]) for one in body_of(made)["items"]} == {
        ("flag", "panel"),
        ("segment", "staff"),
    }
    assert environment.value("panel", "ann", email="ann@example.org") is True
    metadata = body_of(environment.ofrep("panel", targetingKey="ann"))["metadata"]
    assert {name: metadata[name] for name in ("team", "ticket", "since")} == {
        "team": "blue",
        "ticket": 42,
        "since": "2026-01-01",
    }
    assert metadata["flagVersion"] == 1
    exported = body_of(environment.get("/export", format="flagd"))["flags"]["panel"]["metadata"]
    assert exported == {"team": "blue", "ticket": 42, "since": "2026-01-01"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("flags: {", "bad_file"),
        ("", "invalid"),
        ("# nothing", "bad_text"),
        ("a: 1\na: 2", "bad_file"),
    ],
)
def test_yaml_that_cannot_be_read_is_refused(
    environment: Environment, text: str, code: str
) -> None:
    answer = environment.imports_text(text)

    assert 400 <= answer.status < 500
    assert answer.json()["code"] == code


def test_what_unleash_edge_saved_is_imported_of_one_environment(environment: Environment) -> None:
    backup = [["development", {"version": 2, "features": []}], ["production", UNLEASH]]

    refused = environment.imports(backup, "unleash")
    made = environment.imports(backup, "unleash", source_environment="production")

    assert refused.status == 422
    assert [one["name"] for one in body_of(made)["items"]] == ["panel"]


def test_a_default_of_the_code_has_the_reason_default(environment: Environment) -> None:
    flag = {**STAFF, "defaultVariant": None, "targeting": {}}
    body_of(environment.imports({"flags": {"panel": flag}}))

    answered = body_of(environment.ofrep("panel", targetingKey="ann"))

    assert (answered["reason"], "value" in answered) == ("DEFAULT", False)
