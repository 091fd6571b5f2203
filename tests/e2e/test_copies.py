"""Copying a layer to another place, with its secrets."""

from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, Service, fresh_secret, told

COPY = "/api/v1/copy"


def copied(source: Layer, target: Layer, *, headers: Any = None, **more: Any) -> Any:
    body = {"from": source.names, "to": target.names, **more}
    return source.of.call("POST", COPY, body, headers=headers)


@pytest.fixture
def target(layer: Layer) -> Layer:
    return layer.at(environment=f"{layer.environment}-b", service=f"{layer.service}-b")


def test_a_layer_is_copied_with_its_secrets(layer: Layer, target: Layer) -> None:
    secret, deep = fresh_secret(), fresh_secret()
    users = [{"name": "ann", "password": {"$secret": {"value": deep}}}, {"name": "bob"}]
    inner: dict[str, Any] = {"[x/y]": [1, {"z.z": 2}], "none": None, "empty": {}}
    data = {"a": 1, "s": inner, "users": users}
    told(layer.create_document({**data, "token": {"$secret": {"value": secret}}}), 201)
    told(layer.patch(set={"s.t": {"$secret": {"value": [deep]}}}))

    answer = copied(layer, target, comment="move")

    said = told(answer)
    assert (said["status"], said["version"], said["dry_run"]) == ("created", 1, False)
    assert said["from"] == {**layer.names, "user": None}
    assert said["to"] == {**target.names, "user": None}
    assert said["changes"]["added"]["token"] == MASK
    assert secret.encode() not in answer.body
    assert told(target.document())["config_data"] == told(layer.document())["config_data"]
    revealed = told(target.effective(reveal=True))["data"]
    assert (revealed["token"], revealed["s"]["t"]) == (secret, [deep])
    assert revealed["users"] == [{"name": "ann", "password": deep}, {"name": "bob"}]
    assert told(target.document())["comment"] == "move"
    rows = layer.of.backend.audit(answer.headers["X-Request-Id"])
    assert {(row["action"], row["environment"]) for row in rows} == {
        ("revealed", layer.environment),
        ("created", target.environment),
    }
    assert secret.encode() not in layer.of.backend.stored()


def test_keys_of_a_layer_are_copied_into_what_is_there(layer: Layer, target: Layer) -> None:
    told(layer.create_document({"a": {"b": 1, "c": 2}, "d": 3, "e": 4}), 201)
    told(target.create_document({"a": {"c": 9, "x": 0}, "e": 5}), 201)

    said = told(copied(layer, target, keys=["a.b", "d", "a"]))

    assert (said["status"], said["version"]) == ("updated", 2)
    assert told(target.document())["config_data"] == {
        "a": {"b": 1, "c": 2, "x": 0},
        "d": 3,
        "e": 5,
    }
    assert told(copied(layer, target, keys=["a"]))["status"] == "unchanged"
    assert told(copied(layer, target, keys=["a", "z"]), 404)["code"] == "key_not_found"


def test_a_dry_run_copies_and_reveals_nothing(layer: Layer, target: Layer) -> None:
    layer.patch(set={"a": fresh_secret(), "b": 1}, encrypt=["a"])

    answer = copied(layer, target, dry_run=True)

    assert told(answer)["changes"]["added"] == {"a": MASK, "b": 1}
    assert target.document().status == 404
    assert layer.of.backend.audit(answer.headers["X-Request-Id"]) == []


def test_a_secret_of_the_target_stays_one(layer: Layer, target: Layer) -> None:
    told(layer.create("a", 1), 201)
    target.patch(set={"a": "hush"}, encrypt=["a"])

    told(copied(layer, target))

    assert told(target.get("a"))["is_encrypted"]
    assert told(target.get("a", reveal=True))["value"] == 1


def test_layers_of_users_are_copied_too(layer: Layer) -> None:
    ann, bob = layer.at(user="ann"), layer.at(user="bob")
    told(ann.create("a", 1), 201)

    assert told(copied(ann, bob))["to"]["user"] == "bob"
    assert told(bob.get("a", resolve=False))["value"] == 1


def test_a_repeated_copy_is_answered_as_the_first_one(layer: Layer, target: Layer) -> None:
    told(layer.create("a", {"$secret": {"value": 1}}), 201)
    headers = {"Idempotency-Key": f"copy-{layer.service}"}

    first = told(copied(layer, target, headers=headers))
    told(layer.put("a", 2))
    again = told(copied(layer, target, headers=headers))
    other = copied(layer, target, headers=headers, comment="another")

    assert again == first
    assert told(other, 422)["code"] == "idempotency_key_reused"
    assert told(target.document())["version"] == 1


def test_a_value_is_copied_beside_a_section_as_an_import_puts_it(
    layer: Layer, target: Layer
) -> None:
    told(layer.create("a", 1), 201)
    told(target.create("a.b", 2), 201)

    assert told(copied(layer, target))["status"] == "updated"
    assert told(target.document())["config_data"] == {"a": {"$value": 1, "b": 2}}
    assert told(copied(target, layer))["status"] == "updated"
    assert told(layer.document())["config_data"] == {"a": {"$value": 1, "b": 2}}


def test_what_cannot_be_copied_is_said(service: Service, layer: Layer, target: Layer) -> None:
    assert told(copied(layer, target), 404)["code"] == "document_not_found"
    told(layer.create("a", 1), 201)

    assert told(copied(layer, layer), 422)["code"] == "copy_onto_itself"
    assert copied(layer, target, keys=[]).status == 422
    assert copied(layer, target, keys=["a..b\n"]).status == 422
    assert service.call("POST", COPY, {"from": {}, "to": target.names}).status == 422
