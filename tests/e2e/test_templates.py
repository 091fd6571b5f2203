"""Templates over HTTP: written, used, found again and upgraded, one ordinary write each time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, Service, body_of, fresh_name, fresh_secret
from tests.servers.answer import Answer

TEMPLATES = "/api/v1/templates"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "required": ["port"],
    "properties": {
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "name": {"type": "string", "default": "web"},
    },
}
FIRST: dict[str, Any] = {
    "http": {"port": {"$param": "port"}, "name": "svc-${name}", "home": "${HOME:/root}"},
    "old": 1,
}
SECOND: dict[str, Any] = {
    "http": {"port": {"$param": "port"}, "name": "service-${name}", "home": "${HOME:/root}"},
    "new": 2,
}


class Template:
    """One template, and the documents that use it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.name = fresh_name("t")

    @property
    def path(self) -> str:
        return f"{TEMPLATES}/{self.name}"

    def put(self, data: Any = FIRST, parameters: Any = PARAMETERS, **members: Any) -> Answer:
        body = {"data": data, "parameters": parameters, **members}
        return self.service.call("PUT", self.path, body)

    def use(self, layer: Layer, port: Any = 80, **members: Any) -> Answer:
        body = {
            "environment": layer.environment,
            "service_name": layer.service,
            "parameters": {"port": port},
            **members,
        }
        return self.service.call("POST", f"{self.path}/use", body)

    def uses(self, **query: Any) -> Any:
        return body_of(self.service.get(f"{self.path}/uses", **query))

    def upgrade(self, **members: Any) -> Any:
        return body_of(self.service.call("POST", f"{self.path}/upgrade", members))


@pytest.fixture
def template(service: Service) -> Iterator[Template]:
    found = Template(service)
    yield found
    service.call("DELETE", found.path)


def data_of(layer: Layer) -> Any:
    return layer.of.get(f"/api/configs/{layer.service}", environment=layer.environment).json()[
        "config_data"
    ]


def set_keys(layer: Layer, **body: Any) -> None:
    body_of(
        layer.of.call(
            "PATCH",
            "/api/v1/config",
            body,
            environment=layer.environment,
            service_name=layer.service,
        )
    )


def test_a_template_is_created_read_listed_and_deleted(template: Template) -> None:
    service = template.service
    created = template.put(description="Ports", comment="first")
    assert created.status == 201
    assert created.headers["Location"] == template.path
    read = body_of(service.get(template.path))

    assert read["version"] == 1
    assert (read["data"], read["parameters"]) == (FIRST, PARAMETERS)
    assert (read["description"], read["comment"], read["at"]) == ("Ports", "first", "")
    assert read["applies_to"] == [{"environments": ["*"], "services": ["*"]}]
    names = [each["name"] for each in body_of(service.get(TEMPLATES, limit=1000))["items"]]
    assert template.name in names
    assert service.call("DELETE", template.path).status == 204
    assert service.get(template.path).status == 404
    assert body_of(service.get(template.path, version=1))["data"] == FIRST


def test_the_same_template_again_is_no_new_version(template: Template) -> None:
    template.put()

    again = body_of(template.put(), 200)
    assert (again["version"], again["changed"]) == (1, False)
    assert body_of(template.put(SECOND), 200)["version"] == 2


def test_a_change_on_another_version_is_refused(template: Template) -> None:
    template.put()
    body = {"data": SECOND, "parameters": PARAMETERS}
    stale = template.service.call("PUT", template.path, body, headers={"If-Match": '"7"'})
    fresh = template.service.call("PUT", template.path, body, headers={"If-Match": '"1"'})

    assert (stale.status, stale.json()["code"]) == (412, "stale_template")
    assert body_of(fresh)["version"] == 2
    assert template.service.call("DELETE", template.path, headers={"If-Match": '"1"'}).status == 412


def test_history_diff_and_rollback_show_what_was(template: Template) -> None:
    service = template.service
    template.put()
    template.put(SECOND, comment="second")
    service.call("DELETE", template.path)

    history = body_of(service.get(f"{template.path}/history"))["items"]
    assert [(each["version"], each["action"]) for each in history] == [
        (3, "deleted"),
        (2, "updated"),
        (1, "created"),
    ]
    assert history[0]["definition"] is None
    assert history[1]["definition"]["data"] == SECOND
    page = body_of(service.get(f"{template.path}/history", limit=1))
    assert (
        body_of(service.get(f"{template.path}/history", cursor=page["next"]))["items"]
        == history[1:]
    )
    found = body_of(service.get(f"{template.path}/diff", old_version=1, new_version=2))
    assert found["changed"]["data.http.name"] == {"old": "svc-${name}", "new": "service-${name}"}
    assert (found["added"], found["removed"]) == ({"data.new": 2}, {"data.old": 1})

    restored = service.call("POST", f"{template.path}/rollback", {"version": 1})
    assert body_of(restored)["version"] == 4
    assert body_of(service.get(template.path))["data"] == FIRST
    missing = service.call("POST", f"{template.path}/rollback", {"version": 9})
    assert (missing.status, missing.json()["code"]) == (404, "template_version_not_found")


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"data": {"a": {"$param": "no"}}}, "bad_template", "#/data/a/$param"),
        ({"data": {}, "parameters": {"type": "array"}}, "bad_template", "#/parameters"),
        ({"data": {"a": {"$secret": {"value": "x"}}}}, "secret_in_template", "#/data/a"),
        ({"data": {}, "at": "a\n"}, "bad_template", "#/at"),
        (
            {"data": {}, "parameters": {"properties": {"a": {"secret": True}}}},
            "secret_in_template",
            "#/parameters/properties/a",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    template: Template, members: Any, code: str, pointer: str
) -> None:
    refused = template.service.call("PUT", template.path, members)

    assert refused.status == 422
    assert refused.json()["code"] == code
    assert [flaw["pointer"] for flaw in refused.json()["errors"]] == [pointer]
    assert template.service.get(template.path).status == 404


def test_a_use_is_one_ordinary_write(template: Template, layer: Layer) -> None:
    template.put()
    set_keys(layer, set={"mine": True})

    used = template.use(layer, 8080)

    assert used.status == 201
    answer = used.json()
    assert (answer["status"], answer["version"], answer["template_version"]) == ("updated", 2, 1)
    assert answer["changes"]["added"] == {
        "http.port": 8080,
        "http.name": "svc-web",
        "http.home": "${HOME:/root}",
        "old": 1,
    }
    assert data_of(layer)["mine"] is True
    assert data_of(layer)["http"]["port"] == 8080
    history = body_of(
        layer.of.get(f"/api/configs/{layer.service}/history", environment=layer.environment)
    )["items"]
    assert history[0]["comment"] == f"template {template.name}"
    rows = layer.of.backend.audit(used.headers["X-Request-Id"])
    assert [row["action"] for row in rows] == ["updated"]


def test_a_dry_run_shows_the_change_and_writes_nothing(template: Template, layer: Layer) -> None:
    template.put()

    shown = template.use(layer, dry_run=True)

    assert shown.status == 200
    assert shown.json()["changes"]["added"]["http.port"] == 80
    assert shown.json()["dry_run"] is True
    path = f"/api/configs/{layer.service}"
    assert layer.of.get(path, environment=layer.environment).status == 404


def test_the_same_request_again_is_answered_the_same(template: Template, layer: Layer) -> None:
    template.put()
    body = {
        "environment": layer.environment,
        "service_name": layer.service,
        "parameters": {"port": 1},
    }
    headers = {"Idempotency-Key": fresh_name()}
    path = f"{template.path}/use"

    first = template.service.call("POST", path, body, headers=headers)
    set_keys(layer, set={"http.port": 2})
    again = template.service.call("POST", path, body, headers=headers)

    assert (first.status, again.status) == (201, 201)
    assert again.json()["version"] == first.json()["version"]
    assert data_of(layer)["http"]["port"] == 2
    other = template.service.call("POST", path, {**body, "parameters": {}}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"


def test_a_use_on_another_version_of_the_document_is_refused(
    template: Template, layer: Layer
) -> None:
    template.put()
    set_keys(layer, set={"a": 1})
    body = {
        "environment": layer.environment,
        "service_name": layer.service,
        "parameters": {"port": 1},
    }

    stale = template.service.call("POST", f"{template.path}/use", body, headers={"If-Match": '"9"'})

    assert (stale.status, stale.json()["code"]) == (412, "stale_version")


def test_a_later_use_keeps_what_was_changed_by_hand(template: Template, layer: Layer) -> None:
    template.put()
    template.use(layer, 80)
    set_keys(layer, set={"http.name": "mine"})

    again = body_of(template.use(layer, 81), 201)

    assert again["kept"] == ["http.name"]
    assert again["changes"]["changed"] == {"http.port": {"old": 80, "new": 81}}
    assert data_of(layer)["http"] == {"port": 81, "name": "mine", "home": "${HOME:/root}"}
    same = body_of(template.use(layer, 81), 200)
    assert (same["status"], same["kept"]) == ("unchanged", ["http.name"])


@pytest.mark.parametrize(
    ("parameters", "pointers"),
    [
        ({}, ["#/parameters/port"]),
        ({"port": 0}, ["#/parameters/port"]),
        ({"port": 1, "prot": 1}, ["#/parameters/prot"]),
    ],
)
def test_parameters_that_do_not_fit_write_nothing(
    template: Template, layer: Layer, parameters: Any, pointers: list[str]
) -> None:
    template.put()

    refused = template.use(layer, parameters=parameters)

    assert (refused.status, refused.json()["code"]) == (422, "bad_parameters")
    assert [flaw["pointer"] for flaw in refused.json()["errors"]] == pointers


def test_uses_are_found_with_what_differs(template: Template, layer: Layer) -> None:
    template.put()
    other = template.service.layer()
    template.use(layer, 80)
    template.use(other, 81)
    set_keys(layer, set={"http.name": "mine"}, unset=["old"])

    found = template.uses()

    by_name = {each["service_name"]: each for each in found["items"]}
    assert by_name.keys() == {layer.service, other.service}
    assert by_name[layer.service]["differing"] == ["http.name", "old"]
    assert by_name[layer.service]["parameters"] == {"port": 80}
    assert by_name[other.service] == {
        "environment": other.environment,
        "service_name": other.service,
        "user": None,
        "version": 1,
        "template_version": 1,
        "parameters": {"port": 81},
        "differing": [],
    }
    assert found["hidden"] == 0
    first = template.uses(limit=1)
    assert first["items"] + template.uses(cursor=first["next"])["items"] == found["items"]
    path = f"/api/configs/{layer.service}"
    template.service.call("DELETE", path, environment=layer.environment)
    assert [each["service_name"] for each in template.uses()["items"]] == [other.service]


def test_an_upgrade_writes_each_document_and_lists_what_is_kept(
    template: Template, layer: Layer
) -> None:
    template.put()
    other = template.service.layer()
    template.use(layer, 80)
    template.use(other, 81)
    set_keys(layer, set={"http.name": "mine", "extra": 1})
    template.put(SECOND)

    shown = template.upgrade(dry_run=True)
    assert {each["status"] for each in shown["uses"]} == {"written"}
    assert data_of(other) == {
        "http": {"port": 81, "name": "svc-web", "home": "${HOME:/root}"},
        "old": 1,
    }

    report = template.upgrade(comment="to two")

    by_name = {each["service_name"]: each for each in report["uses"]}
    assert (report["to"], report["remaining"], report["hidden"]) == (2, 0, 0)
    assert by_name[layer.service]["kept"] == ["http.name"]
    assert by_name[layer.service]["changes"]["removed"] == {"old": 1}
    assert by_name[other.service]["kept"] == []
    assert data_of(layer) == {
        "http": {"port": 80, "name": "mine", "home": "${HOME:/root}"},
        "extra": 1,
        "new": 2,
    }
    assert data_of(other)["http"]["name"] == "service-web"
    assert {each["template_version"] for each in template.uses()["items"]} == {2}
    assert {each["status"] for each in template.upgrade()["uses"]} == {"unchanged"}


def test_an_upgrade_may_be_to_any_version_and_of_some_documents(
    template: Template, layer: Layer
) -> None:
    template.put()
    other = template.service.layer()
    template.use(layer)
    template.use(other)
    template.put(SECOND)

    report = template.upgrade(services=[layer.service])
    assert [each["service_name"] for each in report["uses"]] == [layer.service]
    back = template.upgrade(to=1, environments=[layer.environment])
    assert [(each["before"], each["status"]) for each in back["uses"]] == [(2, "written")]
    assert data_of(layer) == data_of(other)
    none = template.service.call("POST", f"{template.path}/upgrade", {"to": 9})
    assert (none.status, none.json()["code"]) == (404, "template_version_not_found")


def test_one_use_that_fails_stops_no_other(template: Template, layer: Layer) -> None:
    template.put()
    other = template.service.layer()
    template.use(layer, 80)
    template.use(other, 9000)
    narrow = {**PARAMETERS, "properties": {**PARAMETERS["properties"], "port": {"maximum": 100}}}
    template.put(SECOND, narrow)

    report = template.upgrade()

    by_name = {each["service_name"]: each for each in report["uses"]}
    assert by_name[layer.service]["status"] == "written"
    assert by_name[other.service]["status"] == "refused"
    assert by_name[other.service]["error"]["code"] == "bad_parameters"
    assert data_of(other)["http"]["name"] == "svc-web"


def test_a_rollback_of_a_document_brings_back_its_use(template: Template, layer: Layer) -> None:
    template.put()
    template.use(layer)
    template.put(SECOND)
    template.upgrade()
    body_of(
        layer.of.call(
            "POST",
            f"/api/configs/{layer.service}/rollback",
            {"version": 1},
            environment=layer.environment,
        )
    )

    [use] = template.uses()["items"]
    assert (use["template_version"], use["differing"]) == (1, [])
    assert [each["status"] for each in template.upgrade()["uses"]] == ["written"]
    assert data_of(layer)["new"] == 2


def test_a_template_applies_where_it_says(template: Template, layer: Layer) -> None:
    template.put(applies_to=[{"services": ["only-*"]}])

    refused = template.use(layer)

    assert (refused.status, refused.json()["code"]) == (422, "template_not_applicable")


def test_a_use_writes_over_no_secret(template: Template, layer: Layer) -> None:
    template.put()
    secret = fresh_secret()
    set_keys(layer, set={"http.port": secret}, encrypt=["http.port"])

    refused = template.use(layer)

    assert (refused.status, refused.json()["code"]) == (422, "secret_in_template")
    assert data_of(layer)["http"]["port"] == MASK


def test_no_parameter_lands_at_a_secret_place_of_a_schema(template: Template, layer: Layer) -> None:
    service = template.service
    schema = {
        "type": "object",
        "properties": {"http": {"properties": {"port": {"writeOnly": True}}}},
    }
    body = {"schema": schema, "applies_to": [{"services": [layer.service]}], "mode": "warn"}
    assert service.call("PUT", f"/api/v1/schemas/{layer.service}", body).status == 201
    template.put()

    refused = template.use(layer)

    assert (refused.status, refused.json()["code"]) == (422, "secret_in_template")
    service.call("DELETE", f"/api/v1/schemas/{layer.service}")
    assert template.use(layer).status == 201


def test_a_parameter_that_became_part_of_a_secret_is_masked(
    template: Template, layer: Layer
) -> None:
    template.put()
    template.use(layer, 80)
    set_keys(layer, encrypt=["http.port"])

    [use] = template.uses()["items"]

    assert use["parameters"] == {"port": MASK}
    assert use["differing"] == ["http.port"]


def test_an_upgrade_writes_nothing_plainly_that_became_a_secret(
    template: Template, layer: Layer
) -> None:
    template.put()
    template.use(layer, 80)
    set_keys(layer, encrypt=["http.port"])
    template.put({"http": {"name": "all"}, "web.port": {"$param": "port"}})

    [refused] = template.upgrade()["uses"]

    assert (refused["status"], refused["error"]["code"]) == ("refused", "secret_in_template")
    assert "web" not in data_of(layer)
    assert body_of(template.use(layer, 81), 201)["kept"] == ["http.port"]


def test_a_deleted_template_leaves_its_documents_as_they_are(
    template: Template, layer: Layer
) -> None:
    template.put()
    template.use(layer)
    template.service.call("DELETE", template.path)

    assert data_of(layer)["old"] == 1
    assert [each["service_name"] for each in template.uses()["items"]] == [layer.service]
    assert template.use(layer).status == 404


def test_changes_of_templates_are_in_the_log(template: Template) -> None:
    revision = int(template.put().headers["X-Revision"])

    items = body_of(template.service.get("/api/v1/changes", kind="template", entity=template.name))[
        "items"
    ]

    assert [(each["kind"], each["revision"], each["action"]) for each in items] == [
        ("template", revision, "created")
    ]


def test_racing_uses_leave_a_document_that_is_as_the_last_one_says(
    template: Template, layer: Layer
) -> None:
    template.put()
    template.use(layer, 100)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda port: template.use(layer, port), range(101, 109)))

    [use] = template.uses()["items"]
    assert {answer.status for answer in answers} <= {201, 409}
    assert any(answer.status == 201 for answer in answers)
    assert use["differing"] == []
    assert data_of(layer)["http"]["port"] == use["parameters"]["port"]
    written = [answer.json()["version"] for answer in answers if answer.status == 201]
    assert sorted(written) == list(range(2, 2 + len(written)))
