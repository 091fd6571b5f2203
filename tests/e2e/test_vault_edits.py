"""What somebody does in Vault itself is seen, logged and survived."""

import json
from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, Service, body_of
from tests.e2e.conftest import RealBackend
from tests.e2e.stored import Stored
from tests.servers.answer import Answer
from tests.servers.process import wait_until


@pytest.fixture
def layer(fresh_real: Service) -> Layer:
    fresh_real.wait_until_ready()
    return fresh_real.layer()


@pytest.fixture
def stored_document(layer: Layer) -> Stored:
    layer.create_document({"a": 1, "b": {"c": 2}}, created_by="ann")
    return Stored(layer)


def own_data(effective: Answer) -> dict[str, Any]:
    """Return what these tests have written; others share the global layer of this service."""
    data = body_of(effective)["data"]
    return {key: data[key] for key in ("a", "b", "log") if key in data}


def wait_for(layer: Layer, version: int) -> None:
    wait_until(
        lambda: any(each["version"] == version for each in layer.changes()),
        f"version {version} is in the log",
    )


def test_an_edit_is_read_as_soon_as_it_is_found(layer: Layer, stored_document: Stored) -> None:
    version = stored_document.edit({"a": 10, "b": {"c": 2}, "d": True})

    wait_for(layer, version)

    found = body_of(layer.document())
    assert (found["version"], found["config_data"]) == (2, {"a": 10, "b": {"c": 2}, "d": True})
    assert (found["created_by"], found["updated_by"]) == ("ann", "external")
    assert body_of(layer.get("a"))["value"] == 10
    assert body_of(layer.effective())["data"]["d"] is True


def test_an_edit_is_in_the_log_and_in_the_history(layer: Layer, stored_document: Stored) -> None:
    wait_for(layer, stored_document.edit({"a": 10, "b": {"c": 2}}))

    change = layer.changes()[-1]
    assert (change["version"], change["action"], change["actor"]) == (2, "external", "external")
    newest = body_of(layer.document_history())["items"][0]
    assert (newest["version"], newest["action"]) == (2, "external")
    entries = body_of(layer.history("a"))["items"]
    assert [(each["version"], each["value"], each["actor"]) for each in entries] == [
        (2, 10, "external"),
        (1, 1, "ann"),
    ]
    assert [each["version"] for each in body_of(layer.history("b.c"))["items"]] == [1]
    assert body_of(layer.diff(1, 2))["changed"] == {"a": {"old": 1, "new": 10}}


def test_the_time_of_an_edit_is_not_that_of_the_version_it_was_made_from(
    layer: Layer, stored_document: Stored
) -> None:
    before = body_of(layer.document())["updated_at"]

    wait_for(layer, stored_document.edit({"a": 10}))

    assert body_of(layer.document())["updated_at"] > before
    assert body_of(layer.get("a"))["updated_at"] > before


def test_several_edits_are_each_a_version(layer: Layer, stored_document: Stored) -> None:
    for value in (10, 20, 30):
        stored_document.edit({"a": value, "b": {"c": 2}})

    wait_for(layer, 4)

    assert [each["action"] for each in layer.changes()] == ["created", *["external"] * 3]
    values = [each["value"] for each in body_of(layer.history("a"))["items"]]
    assert values == [30, 20, 10, 1]


def test_the_service_writes_on_top_of_an_edit(layer: Layer, stored_document: Stored) -> None:
    wait_for(layer, stored_document.edit({"a": 10, "b": {"c": 2}}))

    patched = body_of(layer.patch(set={"e": 1}))

    assert patched["version"] == 3
    assert body_of(layer.document())["config_data"] == {"a": 10, "b": {"c": 2}, "e": 1}
    assert [each["version"] for each in body_of(layer.history("a"))["items"]] == [2, 1]
    assert body_of(layer.rollback("a", 1))["value"] == 1


def test_a_write_that_meets_an_edit_nobody_has_found_yet_loses_neither(
    layer: Layer, stored_document: Stored
) -> None:
    stored_document.edit({"a": 10, "b": {"c": 2}})

    patched = body_of(layer.patch(set={"e": 1}))

    assert patched["version"] == 3
    assert body_of(layer.document())["config_data"] == {"a": 10, "b": {"c": 2}, "e": 1}
    assert [each["action"] for each in layer.changes()] == ["created", "external", "updated"]


def test_a_document_created_in_vault_is_found(layer: Layer, stored_document: Stored) -> None:
    twin = layer.at(service=f"{layer.service}-twin")
    document = stored_document.document()
    backend = layer.of.backend
    assert isinstance(backend, RealBackend)
    path = f"secret/data/{backend.prefix}/layers/{twin.environment}/{twin.service}"

    backend.vault.api("POST", path, {"data": {"document": json.dumps(document)}})

    wait_for(twin, 1)
    assert [each["action"] for each in twin.changes()] == ["external"]
    assert body_of(twin.document())["config_data"] == {"a": 1, "b": {"c": 2}}


def test_a_secret_stays_one_through_an_edit(layer: Layer, stored_document: Stored) -> None:
    layer.create("s", "secret", is_encrypted=True)
    data = stored_document.document()["data"]

    wait_for(layer, stored_document.edit({**data, "a": 10}))

    assert body_of(layer.get("s"))["value"] == MASK
    assert body_of(layer.get("s", reveal=True))["value"] == "secret"
    assert [each["version"] for each in body_of(layer.history("s"))["items"]] == [2]


def test_a_secret_moved_to_another_key_is_not_revealed(
    layer: Layer, stored_document: Stored
) -> None:
    layer.create("s", "secret", is_encrypted=True)
    data = stored_document.document()["data"]

    wait_for(layer, stored_document.edit({**data, "t": data["s"]}))

    assert body_of(layer.get("t"))["value"] == MASK
    assert body_of(layer.get("t", reveal=True), 503)["code"] == "secret_unreadable"
    assert body_of(layer.get("s", reveal=True))["value"] == "secret"


def test_fields_of_another_kind_are_told_from_a_document(
    layer: Layer, stored_document: Stored
) -> None:
    wait_for(layer, stored_document.write({"user": "root", "password": "x"}))

    answers = [layer.document(), layer.patch(set={"a": 2}), layer.put("a", 2)]

    assert {body_of(answer, 409)["code"] for answer in answers} == {"document_malformed"}
    served = [layer.get("a"), layer.keys(), layer.effective()]
    assert [answer.status for answer in served] == [200] * 3
    assert {answer.headers["X-Last-Good"] for answer in served} == {
        f"{layer.environment}/{layer.service}@1"
    }
    assert body_of(served[0])["value"] == 1
    assert body_of(layer.document(version=1))["config_data"] == {"a": 1, "b": {"c": 2}}
    assert body_of(layer.get("a", version=1))["value"] == 1
    assert [each["value"] for each in body_of(layer.history("a"))["items"]] == [1]
    assert layer.of.get("/api/configs", environment=layer.environment).status == 200


def test_fields_of_another_kind_can_be_replaced(layer: Layer, stored_document: Stored) -> None:
    wait_for(layer, stored_document.write({"user": "root"}))

    replaced = body_of(layer.put_document({"a": 3}))

    assert replaced["version"] == 3
    assert body_of(layer.get("a"))["value"] == 3
    assert [each["version"] for each in body_of(layer.history("a"))["items"]] == [3, 1]
    assert body_of(layer.document(version=2), 409)["code"] == "document_malformed"


def test_fields_of_another_kind_can_be_rolled_back(layer: Layer, stored_document: Stored) -> None:
    wait_for(layer, stored_document.write({"user": "root"}))

    body_of(layer.rollback_document(1))

    assert body_of(layer.document())["config_data"] == {"a": 1, "b": {"c": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format":1,"version":9,"change":{},"created":{},"deleted":false,"data":{},"keys":{}}',
        '{"data": {"a": 1}}',
    ],
)
def test_a_text_that_is_no_document_is_survived(
    layer: Layer, stored_document: Stored, text: str
) -> None:
    wait_for(layer, stored_document.write({"document": text}))

    assert body_of(layer.document(), 409)["code"] == "document_malformed"
    assert body_of(layer.put_document({}))["version"] == 3


@pytest.mark.parametrize(
    "data",
    [
        '{"a.b": 1}',
        '{"a": 1, "a.b": 2}',
        '{"": {"": 1}}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": {"$secret": 1}}',
        '{"a": {"$secret": "vault:v1:x", "b": 1}}',
        '{"a": {"$secret": {"value": 1}}}',
        '{"a": {"$x": 1}}',
        '{"a b": [{"$y": 1}]}',
        '{"a": 1, "a": 2}',
        "[" * 70 + "]" * 70,
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
    ],
    ids=lambda data: data[:30],
)
def test_nothing_that_can_be_typed_into_vault_breaks_a_read(
    layer: Layer, stored_document: Stored, data: str
) -> None:
    document = json.dumps({**stored_document.document(), "data": "DATA"}).replace('"DATA"', data)
    wait_for(layer, stored_document.write({"document": document}))

    answers = [
        layer.document(),
        layer.document(version=2),
        layer.get("a"),
        layer.get("a.b"),
        layer.keys(),
        layer.effective(),
        layer.effective(headers={"Accept": "application/yaml"}),
        layer.history("a"),
        layer.diff(1, 2),
        layer.export(),
        layer.export("properties"),
        layer.patch(set={"c": 1}),
        layer.rollback("a", 1),
        layer.get("a", reveal=True),
        layer.effective(reveal=True),
    ]

    statuses = [answer.status for answer in answers]
    codes = {answer.json().get("code") for answer in answers if answer.status == 503}
    assert all(status in {200, 404, 409, 503} for status in statuses), statuses
    assert codes <= {"secret_unreadable"}
    body_of(layer.put_document({"fine": 1}))
    assert body_of(layer.document())["config_data"] == {"fine": 1}


def test_a_deletion_in_vault_becomes_a_deletion_here(layer: Layer, stored_document: Stored) -> None:
    stored_document.delete()

    wait_for(layer, 2)

    assert body_of(layer.document(), 404)["code"] == "document_not_found"
    assert layer.get("a").status == 404
    change = layer.changes()[-1]
    assert (change["action"], change["actor"]) == ("external", "external")
    assert [each["action"] for each in body_of(layer.document_history())["items"]] == [
        "external",
        "created",
    ]
    assert body_of(layer.create_document({"z": 1}), 201)["version"] == 3


def test_a_destroyed_current_version_becomes_a_deletion_here(
    layer: Layer, stored_document: Stored
) -> None:
    layer.put("a", 2)
    stored_document.destroy(2)

    wait_for(layer, 3)

    assert body_of(layer.document(), 404)["code"] == "document_not_found"
    assert body_of(layer.rollback_document(1))["config_data"] == {"a": 1, "b": {"c": 2}}


def test_a_destroyed_earlier_version_is_gone(fresh_real: Service) -> None:
    layer = fresh_real.layer()
    layer.create("a", 1)
    layer.put("a", 2)
    layer.put("a", 3)
    body_of(layer.document(version=2))

    Stored(layer).destroy(2)

    assert body_of(layer.document(version=2), 410)["code"] == "version_gone"
    assert body_of(layer.diff(1, 2), 410)["code"] == "version_gone"
    assert [each["value"] for each in body_of(layer.history("a"))["items"]] == [3, 1]
    assert body_of(layer.document())["config_data"] == {"a": 3}


@pytest.mark.parametrize("kind", ["destroyed", "deleted", "pruned"])
def test_a_version_that_is_gone_from_vault_does_not_come_back_from_memory(
    layer: Layer, stored_document: Stored, kind: str
) -> None:
    layer.put("a", "leaked")
    layer.put("a", 3)
    assert body_of(layer.get("a", version=2))["value"] == "leaked"

    if kind == "destroyed":
        stored_document.destroy(2)
    elif kind == "deleted":
        stored_document.delete_versions(2)
    else:
        stored_document.keep_only(1)
        layer.put("a", 4)

    answers = [
        layer.document(version=2),
        layer.get("a", version=2),
        layer.get("a", version=2, reveal=True),
        layer.rollback("a", 2),
        layer.rollback_document(2),
        layer.diff(2, 3),
    ]
    assert {body_of(answer, 410)["code"] for answer in answers} == {"version_gone"}
    assert b"leaked" not in layer.history("a").body


def test_a_deletion_of_versions_in_vault_is_logged(layer: Layer, stored_document: Stored) -> None:
    layer.put("a", 2)
    layer.put("a", 3)

    stored_document.destroy(2)

    wait_until(lambda: "versions_unreadable" in layer.of.process.log(), "it is logged")


def test_a_write_right_after_a_deletion_in_vault_brings_nothing_back(
    layer: Layer, stored_document: Stored
) -> None:
    stored_document.delete()

    created = body_of(layer.patch(set={"e": 1}))

    assert created["version"] == 3
    assert body_of(layer.document())["config_data"] == {"e": 1}
    changes = [(each["action"], each["actor"]) for each in layer.changes()]
    assert changes[:2] == [("created", "ann"), ("external", "external")]
    assert changes[2][0] == "created"


def test_a_guarded_write_right_after_a_deletion_in_vault_is_refused(
    layer: Layer, stored_document: Stored
) -> None:
    stored_document.delete()

    answer = layer.put("a", 2, headers={"If-Match": '"1"'})

    assert answer.status in {404, 412}
    assert [each["action"] for each in layer.changes()] == ["created", "external"]


def test_a_document_whose_versions_vault_deletes_is_told_of(
    layer: Layer, stored_document: Stored
) -> None:
    stored_document.configure({"delete_version_after": "768h"})

    def is_counted() -> bool:
        return bool(layer.of.get("/health").json()["expiring_documents"])

    wait_until(is_counted, "it is counted in /health")
    assert "document_expires" in layer.of.process.log()
    wait_until(
        lambda: layer.of.metric("pilothouse_documents_expiring") == 1, "the metric counts it"
    )


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ({"$secret": "masked"}, "a mask"),
        ({"$secret": "hunter2"}, "not a ciphertext"),
        ({"$secret": {"value": "hunter2"}}, "not a ciphertext"),
        ({"$secret": "vault:v1:eA==", "more": 1}, "other members"),
    ],
)
def test_a_secret_that_cannot_be_opened_is_malformed_and_named(
    layer: Layer, stored_document: Stored, secret: dict[str, Any], reason: str
) -> None:
    wait_for(layer, stored_document.edit({"a": 2, "b": {"c": secret}}))

    problem = body_of(layer.document(), 409)

    assert (problem["code"], problem["key"]) == ("document_malformed", "b.c")
    assert reason in problem["reason"]
    assert "hunter2" not in str(problem)
    revealed = layer.effective(reveal=True)
    assert own_data(revealed) == {"a": 1, "b": {"c": 2}}
    assert "X-Last-Good" in revealed.headers


@pytest.mark.parametrize("number", ["1e-400", "0.1234567890123456789", "1e400"])
def test_a_number_that_no_double_holds_is_malformed_and_named(
    layer: Layer, stored_document: Stored, number: str
) -> None:
    body_of(layer.put_document({"a": 1, "b": {"c": [1, 2]}}))
    text = json.dumps(stored_document.document()).replace("[1, 2]", f"[1, {number}]")
    wait_for(layer, stored_document.write({"document": text}))

    problem = body_of(layer.document(), 409)

    assert (problem["code"], problem["key"]) == ("document_malformed", "b.c")
    assert "a number" in problem["reason"]
    assert own_data(layer.effective()) == {"a": 1, "b": {"c": [1, 2]}}


def malformed_documents(service: Service) -> int:
    return int(service.get("/health").json()["malformed_documents"])


def test_one_malformed_shared_document_takes_no_service_down(fresh_real: Service) -> None:
    fresh_real.wait_until_ready()
    service = fresh_real.layer()
    shared = service.at(service="_shared")
    shared.create_document({"log": "info"})
    service.create_document({"a": 1})
    stored = Stored(shared)
    before = malformed_documents(fresh_real)

    wait_for(shared, stored.edit({"log": {"$secret": "masked"}}))

    effective = service.effective()
    assert own_data(effective) == {"log": "info", "a": 1}
    assert effective.headers["X-Last-Good"] == f"{service.environment}/_shared@1"
    assert "X-Last-Good" in service.get("log").headers
    wait_until(lambda: malformed_documents(fresh_real) == before + 1, "health counts it")
    assert "document_malformed" in fresh_real.process.log()
    body_of(shared.put_document({"log": "debug"}))
    repaired = service.effective()
    assert own_data(repaired) == {"log": "debug", "a": 1}
    assert "X-Last-Good" not in repaired.headers


def test_the_first_shared_document_may_be_malformed(fresh_real: Service) -> None:
    fresh_real.wait_until_ready()
    service = fresh_real.layer()
    shared = service.at(service="_shared")
    service.create_document({"a": 1})
    Stored(shared).create({"document": "no JSON"})

    wait_for(shared, 1)

    assert own_data(service.effective()) == {"a": 1}
    assert service.effective().headers["X-Last-Good"] == f"{service.environment}/_shared@0"


def test_metadata_deleted_in_vault_is_an_alarm(layer: Layer, stored_document: Stored) -> None:
    series = "pilothouse_version_regressions_total"
    before = layer.of.metric(series)

    stored_document.forget()

    wait_until(lambda: layer.of.metric(series) > before, "the alarm is raised")
    assert "store_lost_versions" in layer.of.process.log()
    answers = [layer.document(), layer.get("a"), layer.effective(), layer.document_history()]
    assert {answer.status for answer in answers} <= {200, 503}
    assert layer.changes()[-1]["version"] == 1


def test_a_document_whose_metadata_is_gone_is_unavailable_after_a_restart(
    fresh_real: Service,
) -> None:
    layer, other = fresh_real.layer(), fresh_real.layer()
    layer.create("a", 1)
    other.create("a", 1)
    Stored(layer).forget()

    fresh_real.process.restart()
    fresh_real.wait_until_ready()

    answer = layer.document()
    assert body_of(answer, 503)["code"] == "document_lost"
    assert int(answer.headers["Retry-After"]) > 0
    assert body_of(layer.get("a"), 503)
    assert body_of(layer.effective(), 503)
    assert body_of(layer.document_history())["items"][0]["version"] == 1
    assert body_of(other.get("a"))["value"] == 1


def test_writes_of_the_service_are_not_taken_for_edits(layer: Layer) -> None:
    series = "pilothouse_external_edits_total"
    before = layer.of.metric(series)

    for value in range(100):  # many scans long
        body_of(layer.patch(set={"a": value}))

    assert {each["action"] for each in layer.changes()} == {"created", "updated"}
    assert layer.of.metric(series) == before


def test_an_edit_is_counted(layer: Layer, stored_document: Stored) -> None:
    series = "pilothouse_external_edits_total"
    before = layer.of.metric(series)

    wait_for(layer, stored_document.edit({"a": 10}))

    wait_until(lambda: layer.of.metric(series) == before + 1, "the edit is counted")


def test_what_else_lies_in_the_mount_is_left_alone(layer: Layer, stored_document: Stored) -> None:
    backend = layer.of.backend
    assert isinstance(backend, RealBackend)
    foreign = [
        f"{backend.prefix}/layers/not..aname/x",
        f"{backend.prefix}/layers/{layer.environment}/deeper/than/that",
        f"{backend.prefix}/elsewhere/a/b",
    ]
    for path in foreign:
        backend.vault.api("POST", f"secret/data/{path}", {"data": {"document": "{}"}})

    wait_for(layer, stored_document.edit({"a": 10}))

    listed = body_of(layer.of.get("/api/configs", environment=layer.environment))["items"]
    assert [each["service_name"] for each in listed] == [layer.service]


def test_an_edit_of_what_a_template_wrote_is_a_change_by_hand(
    layer: Layer, stored_document: Stored
) -> None:
    service, path = layer.of, f"/api/v1/templates/{layer.service}"
    body_of(service.call("PUT", path, {"data": {"t": {"x": 1, "y": 2}}}), 201)
    body_of(service.call("POST", f"{path}/use", {**layer.names, "parameters": {}}), 201)
    wait_for(
        layer, stored_document.edit({**stored_document.document()["data"], "t": {"x": 7, "y": 2}})
    )

    [use] = body_of(service.get(f"{path}/uses"))["items"]
    body_of(service.call("PUT", path, {"data": {"t": {"x": 3, "y": 4}}}))
    [upgraded] = body_of(service.call("POST", f"{path}/upgrade", {}))["uses"]

    assert (use["template_version"], use["differing"]) == (1, ["t.x"])
    assert (upgraded["status"], upgraded["kept"]) == ("written", ["t.x"])
    assert body_of(layer.document())["config_data"]["t"] == {"x": 7, "y": 4}


def test_a_document_that_cannot_be_parsed_stops_no_upgrade(
    layer: Layer, stored_document: Stored
) -> None:
    service, other = layer.of, layer.of.layer()
    path = f"/api/v1/templates/{layer.service}"
    body_of(service.call("PUT", path, {"data": {"t": 1}}), 201)
    for each in (layer, other):
        body_of(service.call("POST", f"{path}/use", {**each.names, "parameters": {}}), 201)
    body_of(service.call("PUT", path, {"data": {"t": 2}}))
    wait_for(layer, stored_document.write({"document": "no JSON"}))

    report = body_of(service.call("POST", f"{path}/upgrade", {}))

    assert [each["service_name"] for each in report["uses"]] == [other.service]
    assert report["unreadable"] >= 1
    assert body_of(other.document())["config_data"] == {"t": 2}
