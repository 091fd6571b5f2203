"""What lies in a list may be a secret: it is addressed, masked, kept, revealed and brought back."""

from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, body_of, fresh_name, fresh_secret


def secret(value: Any) -> dict[str, Any]:
    return {"$secret": {"value": value}}


def users(first: str, second: str) -> list[Any]:
    return [
        {"name": "ana", "password": secret(first)},
        {"name": "bob", "password": secret(second)},
    ]


SHOWN = [{"name": "ana", "password": MASK}, {"name": "bob", "password": MASK}]


@pytest.mark.parametrize("way", ["create", "put", "patch", "document", "import", "encrypt"])
def test_each_way_to_write_makes_one(layer: Layer, way: str) -> None:
    first, second = fresh_secret(), fresh_secret()
    plain = [{"name": "ana", "password": first}, {"name": "bob", "password": second}]
    match way:
        case "create":
            body_of(layer.create("users", users(first, second)), 201)
        case "put":
            layer.create("users", [])
            body_of(layer.put("users", users(first, second)))
        case "patch":
            body_of(layer.patch(set={"users": users(first, second)}))
        case "document":
            body_of(layer.create_document({"users": users(first, second)}), 201)
        case "import":
            text = "users:\n"
            for user in users(first, second):
                password = user["password"]["$secret"]["value"]
                text += f"  - name: {user['name']}\n"
                text += f"    password: {{$secret: {{value: {password}}}}}\n"
            body_of(layer.load(text))
        case "encrypt":
            paths = ["users[0].password", "users[1].password"]
            body_of(layer.patch(set={"users": plain}, encrypt=paths))

    assert first.encode() not in layer.of.backend.stored_bytes()
    assert body_of(layer.get("users"))["value"] == SHOWN
    assert body_of(layer.get("users"))["is_encrypted"] is True
    assert body_of(layer.effective())["data"] == {"users": SHOWN}
    answer = body_of(layer.get("users[0].password", reveal=True))
    assert (answer["key"], answer["value"]) == ("users[0].password", first)
    assert body_of(layer.get("users.1.password"))["value"] == MASK
    assert body_of(layer.get("users", reveal=True))["value"] == plain
    assert body_of(layer.effective(reveal=True))["data"] == {"users": plain}
    names = {key for row in audit(layer, layer.effective(reveal=True)) for key in row["keys"]}
    assert names == {"users[0].password", "users[1].password"}


def audit(layer: Layer, answer: Any) -> list[Any]:
    rows = layer.of.backend.audit(answer.headers["X-Request-Id"])
    return [row["facts"] for row in rows if "keys" in row["facts"]]


def test_one_is_written_by_its_address(layer: Layer) -> None:
    first, second, third = fresh_secret(), fresh_secret(), fresh_secret()
    layer.create("users", [{"name": "ana"}, {"name": "bob"}])

    body_of(layer.create("users[0].password", first, is_encrypted=True), 201)
    body_of(layer.patch(set={"users[1].password": secret(second)}))
    body_of(layer.put("users[0].password", third))
    body_of(layer.patch(set={"users.1.name": "bea"}))

    assert body_of(layer.get("users", reveal=True))["value"] == [
        {"name": "ana", "password": third},
        {"name": "bea", "password": second},
    ]
    assert layer.delete("users[0].password").status == 204
    assert body_of(layer.get("users"))["value"][0] == {"name": "ana"}
    assert body_of(layer.get("users[7].password"), 404)["code"] == "key_not_found"
    assert body_of(layer.create("users[7].password", 1), 409)["code"] == "key_conflict"
    assert body_of(layer.of.call("DELETE", "/api/v1/config/users[0]", **layer.names), 409)[
        "code"
    ] == ("list_item")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_an_export_is_imported_again_with_the_secrets_kept(layer: Layer, form: str) -> None:
    first, second = fresh_secret(), fresh_secret()
    layer.create("users", users(first, second))
    exported = layer.export(form).body

    body_of(layer.load(exported, format=form))
    edited = exported.replace(b"ana", b"anna")
    body_of(layer.load(edited, format=form))

    assert body_of(layer.get("users", reveal=True))["value"] == [
        {"name": "anna", "password": first},
        {"name": "bob", "password": second},
    ]
    refused = layer.at(service=fresh_name()).load(exported, format=form)
    assert body_of(refused, 422)["code"] == "nothing_masked"


@pytest.mark.parametrize("form", ["properties", "dotenv"])
def test_flat_exports_show_none(layer: Layer, form: str) -> None:
    value = fresh_secret()
    layer.create("users", users(value, "x"))

    exported = layer.export(form).body

    assert value.encode() not in exported
    assert b"vault:" not in exported
    assert b"aes256" not in exported


def test_items_that_move_take_their_secrets_along(layer: Layer) -> None:
    first, second = fresh_secret(), fresh_secret()
    layer.create("users", users(first, second))

    body_of(layer.put("users", [{"name": "new", "password": secret("n")}, *SHOWN[::-1]]))

    assert body_of(layer.get("users", reveal=True))["value"] == [
        {"name": "new", "password": "n"},
        {"name": "bob", "password": second},
        {"name": "ana", "password": first},
    ]


@pytest.mark.parametrize(
    "items",
    [
        [{"name": "anna", "password": MASK}, {"name": "bea", "password": MASK}],
        [{"name": "x", "password": MASK}, *SHOWN],
        [SHOWN[0], SHOWN[0], SHOWN[1]],
        [{"name": "bob", "password": MASK}, {"name": "ana2", "password": MASK}],
    ],
)
def test_a_mask_that_could_be_of_several_is_refused(layer: Layer, items: list[Any]) -> None:
    layer.create("users", users("1", "2"))

    assert body_of(layer.put("users", items), 422)["code"] == "nothing_masked"


def test_a_list_of_bare_secrets_is_appended_to_and_not_guessed_at(layer: Layer) -> None:
    layer.create("keys", [secret("1"), secret("2")])

    body_of(layer.put("keys", [MASK, MASK, secret("3")]))

    assert body_of(layer.get("keys", reveal=True))["value"] == ["1", "2", "3"]
    assert body_of(layer.put("keys", [MASK, MASK]), 422)["code"] == "nothing_masked"


def test_a_plain_value_where_secrets_are_is_sealed(layer: Layer) -> None:
    value = fresh_secret()
    layer.create("users", users("1", "2"))

    body_of(layer.put("users", [*SHOWN, {"name": "eve", "password": value}]))

    assert body_of(layer.get("users"))["value"][2] == {"name": "eve", "password": MASK}
    assert value.encode() not in layer.of.backend.stored_bytes()


def test_history_diff_and_rollback_reveal_nothing(layer: Layer) -> None:
    value = fresh_secret()
    layer.create("users", [{"name": "ana", "password": value}])
    body_of(layer.patch(encrypt=["users[0].password"]))
    body_of(layer.patch(set={"users[0].name": "bea"}))

    shown = [layer.history("users"), layer.diff(1, 3), layer.document(version=1)]
    shown += [layer.get("users", version=1), layer.history("users[0].password")]
    for answer in shown:
        assert answer.status == 200
        assert value.encode() not in answer.body
    body_of(layer.rollback("users", 1))
    assert body_of(layer.get("users"))["value"] == [{"name": "ana", "password": MASK}]
    body_of(layer.rollback_document(1))
    assert body_of(layer.get("users", reveal=True))["value"] == [{"name": "ana", "password": value}]
    assert body_of(layer.get("users", reveal=True, version=1))["value"][0]["password"] == value


def test_the_history_of_one_names_only_its_own_changes(layer: Layer) -> None:
    layer.create("users", [{"name": "ana", "password": secret("1")}])
    body_of(layer.patch(set={"users[0].name": "bea"}))
    body_of(layer.put("users[0].password", "2"))

    items = body_of(layer.history("users[0].password"))["items"]
    assert [(item["version"], item["value"]) for item in items] == [(3, MASK), (1, MASK)]
    body_of(layer.rollback("users[0].password", 1))
    assert body_of(layer.get("users[0]", reveal=True))["value"] == {"name": "bea", "password": "1"}


def test_another_layer_replaces_the_whole_list(layer: Layer) -> None:
    base = layer.at(environment="default")
    base.create("users", users("1", "2"))
    assert body_of(layer.get("users[1].password", reveal=True))["value"] == "2"

    layer.create("users", [{"name": "eve"}])

    assert body_of(layer.effective())["data"] == {"users": [{"name": "eve"}]}
    assert layer.get("users[0].password").status == 404


def test_a_whole_list_that_is_one_secret_stays_one(layer: Layer) -> None:
    layer.create("users", ["a"], is_encrypted=True)

    body_of(layer.put("users", ["b"]))
    assert body_of(layer.get("users"))["value"] == MASK
    body_of(layer.put("users", [{"name": "ana", "password": secret("1")}]))

    assert body_of(layer.get("users", reveal=True))["value"] == [{"name": "ana", "password": "1"}]
    assert "ana" not in str(body_of(layer.get("users"))["value"])
