"""Copying a layer to another place, with its secrets."""

from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, Service, body_of, fresh_secret

COPY = "/api/v1/copy"


def copy_layer(source: Layer, target: Layer, *, headers: Any = None, **more: Any) -> Any:
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
    body_of(layer.create_document({**data, "token": {"$secret": {"value": secret}}}), 201)
    body_of(layer.patch(set={"s.t": {"$secret": {"value": [deep]}}}))

    answer = copy_layer(layer, target, comment="move")

    said = body_of(answer)
    assert (said["status"], said["version"], said["dry_run"]) == ("created", 1, False)
    assert said["from"] == {**layer.names, "user": None}
    assert said["to"] == {**target.names, "user": None}
    assert said["changes"]["added"]["token"] == MASK
    assert secret.encode() not in answer.body
    assert body_of(target.document())["config_data"] == body_of(layer.document())["config_data"]
    revealed = body_of(target.effective(reveal=True))["data"]
    assert (revealed["token"], revealed["s"]["t"]) == (secret, [deep])
    assert revealed["users"] == [{"name": "ann", "password": deep}, {"name": "bob"}]
    assert body_of(target.document())["comment"] == "move"
    rows = layer.of.backend.audit(answer.headers["X-Request-Id"])
    assert {(row["action"], row["environment"]) for row in rows} == {
        ("revealed", layer.environment),
        ("created", target.environment),
    }
    assert secret.encode() not in layer.of.backend.stored_bytes()


def test_keys_of_a_layer_are_copied_into_what_is_there(layer: Layer, target: Layer) -> None:
    body_of(layer.create_document({"a": {"b": 1, "c": 2}, "d": 3, "e": 4}), 201)
    body_of(target.create_document({"a": {"c": 9, "x": 0}, "e": 5}), 201)

    said = body_of(copy_layer(layer, target, keys=["a.b", "d", "a"]))

    assert (said["status"], said["version"]) == ("updated", 2)
    assert body_of(target.document())["config_data"] == {
        "a": {"b": 1, "c": 2, "x": 0},
        "d": 3,
        "e": 5,
    }
    assert body_of(copy_layer(layer, target, keys=["a"]))["status"] == "unchanged"
    assert body_of(copy_layer(layer, target, keys=["a", "z"]), 404)["code"] == "key_not_found"


def test_a_dry_run_copies_and_reveals_nothing(layer: Layer, target: Layer) -> None:
    layer.patch(set={"a": fresh_secret(), "b": 1}, encrypt=["a"])

    answer = copy_layer(layer, target, dry_run=True)

    assert body_of(answer)["changes"]["added"] == {"a": MASK, "b": 1}
    assert target.document().status == 404
    assert layer.of.backend.audit(answer.headers["X-Request-Id"]) == []


def test_a_secret_of_the_target_stays_one(layer: Layer, target: Layer) -> None:
    body_of(layer.create("a", 1), 201)
    target.patch(set={"a": "hush"}, encrypt=["a"])

    body_of(copy_layer(layer, target))

    assert body_of(target.get("a"))["is_encrypted"]
    assert body_of(target.get("a", reveal=True))["value"] == 1


def test_layers_of_users_are_copied_too(layer: Layer) -> None:
    ann, bob = layer.at(user="ann"), layer.at(user="bob")
    body_of(ann.create("a", 1), 201)

    assert body_of(copy_layer(ann, bob))["to"]["user"] == "bob"
    assert body_of(bob.get("a", resolve=False))["value"] == 1


def test_a_repeated_copy_is_answered_as_the_first_one(layer: Layer, target: Layer) -> None:
    body_of(layer.create("a", {"$secret": {"value": 1}}), 201)
    headers = {"Idempotency-Key": f"copy-{layer.service}"}

    first = body_of(copy_layer(layer, target, headers=headers))
    body_of(layer.put("a", 2))
    again = body_of(copy_layer(layer, target, headers=headers))
    other = copy_layer(layer, target, headers=headers, comment="another")

    assert again == first
    assert body_of(other, 422)["code"] == "idempotency_key_reused"
    assert body_of(target.document())["version"] == 1


def test_a_value_is_copied_beside_a_section_as_an_import_puts_it(
    layer: Layer, target: Layer
) -> None:
    body_of(layer.create("a", 1), 201)
    body_of(target.create("a.b", 2), 201)

    assert body_of(copy_layer(layer, target))["status"] == "updated"
    assert body_of(target.document())["config_data"] == {"a": {"$value": 1, "b": 2}}
    assert body_of(copy_layer(target, layer))["status"] == "updated"
    assert body_of(layer.document())["config_data"] == {"a": {"$value": 1, "b": 2}}


def test_what_cannot_be_copied_is_said(service: Service, layer: Layer, target: Layer) -> None:
    assert body_of(copy_layer(layer, target), 404)["code"] == "document_not_found"
    body_of(layer.create("a", 1), 201)

    assert body_of(copy_layer(layer, layer), 422)["code"] == "copy_onto_itself"
    assert copy_layer(layer, target, keys=[]).status == 422
    assert copy_layer(layer, target, keys=["a..b\n"]).status == 422
    assert service.call("POST", COPY, {"from": {}, "to": target.names}).status == 422
