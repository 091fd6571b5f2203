"""Configurations by key, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name

VALUES = [
    "text",
    "",
    "ünïcode ✓ \U0001f6a2",
    0,
    -1.5,
    2**70,
    True,
    False,
    None,
    [],
    [1, [2, {"a": None}], "three"],
    {},
]


def source_of(item: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in item["source"].items() if value is not None}


def test_a_created_key_is_answered_with_all_its_facts(layer: Layer) -> None:
    answer = layer.create("database.host", "db1", comment="first")

    created = body_of(answer, 201)
    assert created["key"] == "database.host"
    assert created["value"] == "db1"
    assert created["environment"] == layer.environment
    assert created["service_name"] == layer.service
    assert source_of(created) == layer.names
    assert created["version"] == 1
    assert created["is_encrypted"] is False
    assert created["updated_by"] == "anonymous"
    assert created["warnings"] == []
    age = datetime.now(UTC) - datetime.fromisoformat(created["updated_at"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)
    assert answer.headers["ETag"].startswith('"1-')
    assert int(answer.headers["X-Revision"]) > 0


def test_the_location_of_a_created_key_leads_to_it(service: Service, layer: Layer) -> None:
    mine = layer.at(user="ann+tag@example.org")
    location = mine.create("greeting", "hello").headers["Location"]

    found = body_of(service.get(location))

    assert (found["key"], found["value"]) == ("greeting", "hello")
    assert source_of(found) == mine.names


def test_without_names_a_key_is_read_from_the_layer_all_share(service: Service) -> None:
    key = fresh_name("k")
    body_of(service.call("POST", "/api/v1/config", {"key": key, "value": 1}), 201)

    found = body_of(service.get(f"/api/v1/config/{key}"))

    assert (found["environment"], found["service_name"]) == ("default", "_shared")
    assert source_of(found) == {"environment": "default", "service_name": "_shared"}
    assert service.call("DELETE", f"/api/v1/config/{key}").status == 204


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_json_value_comes_back_as_it_was_sent(layer: Layer, value: object) -> None:
    layer.create("a.b", value)

    found = body_of(layer.get("a.b"))["value"]

    assert (type(found), found) == (type(value), value)


def test_an_object_is_a_section_of_further_keys(layer: Layer) -> None:
    layer.create("database", {"host": "db1", "pool.size": 5})

    assert body_of(layer.get("database.pool.size"))["value"] == 5
    assert body_of(layer.get("database"))["value"] == {"host": "db1", "pool": {"size": 5}}


def test_a_key_is_created_once(layer: Layer) -> None:
    layer.create("a", 1)

    answer = layer.create("a", 2)

    problem = body_of(answer, 409)
    assert (problem["code"], problem["key"]) == ("key_exists", "a")
    assert body_of(layer.get("a"))["value"] == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", 1), ("a.b", 2)),
        (("a.b", 1), ("a", 2)),
        (("a.b.c", 1), ("a", [])),
        (("a", 1), ("a.b.c", 2)),
        (("a", 1), ("a", {"b": 2})),
        (("a", None), ("a.b", 2)),
    ],
)
def test_a_value_and_a_section_of_one_name_conflict(
    layer: Layer, first: tuple[str, Any], second: tuple[str, Any]
) -> None:
    layer.create(*first)

    problem = body_of(layer.create(*second), 409)

    assert problem["code"] in {"key_conflict", "key_exists"}
    assert body_of(layer.document())["version"] == 1


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [("a", "a.b", ["a", "a.b"]), ("a.b", "a", ["a", "a.b"]), ("a.b", "a.b.c", ["a.b", "a.b.c"])],
)
def test_a_conflict_names_both_keys(layer: Layer, first: str, second: str, keys: list[str]) -> None:
    layer.create(first, 1)

    problem = body_of(layer.create(second, 2), 409)

    assert problem["code"] == "key_conflict"
    assert problem["keys"] == keys
    assert all(repr(key) in problem["detail"] for key in keys)


def test_a_patch_that_conflicts_with_itself_names_both_keys(layer: Layer) -> None:
    problem = body_of(layer.patch(set={"x": 0, "a": 1, "a.b": 2}), 409)

    assert problem["keys"] == ["a", "a.b"]
    assert layer.document().status == 404


def test_a_patch_that_conflicts_with_the_layer_changes_nothing(layer: Layer) -> None:
    layer.create("a.b", 1)

    problem = body_of(layer.patch(set={"x": 0, "a": 1}, unset=["y"]), 409)

    assert problem["keys"] == ["a", "a.b"]
    assert body_of(layer.document())["config_data"] == {"a": {"b": 1}}


def test_a_key_can_take_the_place_of_its_section_in_one_patch(layer: Layer) -> None:
    layer.create("a.b", 1)

    body_of(layer.patch(unset=["a.b"], set={"a": 2}))

    assert body_of(layer.get("a"))["value"] == 2


def test_a_patch_is_one_version_whatever_it_changes(layer: Layer) -> None:
    layer.patch(set={"a": 1, "b": 2, "c.d": 3}, comment="begin")

    answer = layer.patch(set={"a": 10, "e": 5}, unset=["b"], comment="go on")

    patched = body_of(answer)
    assert (patched["version"], patched["changed"]) == (2, True)
    assert answer.headers["ETag"] == '"2"'
    document = body_of(layer.document())
    assert document["config_data"] == {"a": 10, "c": {"d": 3}, "e": 5}
    assert document["comment"] == "go on"


def test_unsetting_what_is_absent_is_ignored(layer: Layer) -> None:
    layer.create("a", 1)

    answer = body_of(layer.patch(unset=["b", "a.c", "x.y.z"]))

    assert (answer["version"], answer["changed"]) == (1, False)


def test_unsetting_a_section_removes_all_that_is_in_it(layer: Layer) -> None:
    layer.patch(set={"a.b": 1, "a.c.d": 2, "e": 3})

    layer.patch(unset=["a"])

    assert body_of(layer.document())["config_data"] == {"e": 3}


def test_setting_what_is_set_already_writes_nothing(layer: Layer) -> None:
    layer.patch(set={"a": 1, "b": {"c": [1, 2]}})

    answer = body_of(layer.patch(set={"b.c": [1, 2], "a": 1}))

    assert (answer["version"], answer["changed"]) == (1, False)


def test_a_number_is_not_the_text_or_the_truth_that_equals_it(layer: Layer) -> None:
    layer.patch(set={"a": 1})

    versions = [body_of(layer.patch(set={"a": value}))["version"] for value in (True, "1", 1)]

    assert versions == [2, 3, 4]


def test_a_replaced_key_is_a_new_version(layer: Layer) -> None:
    layer.create("a", 1)

    answer = layer.put("a", 2, comment="more")

    replaced = body_of(answer)
    assert (replaced["value"], replaced["version"]) == (2, 2)
    assert answer.headers["ETag"].startswith('"2-')
    assert body_of(layer.get("a"))["value"] == 2


def test_only_what_its_own_layer_has_can_be_replaced_or_removed(layer: Layer) -> None:
    layer.at(environment="default").create("a", 1)

    assert body_of(layer.put("a", 2), 404)["code"] == "key_not_found"
    assert body_of(layer.delete("a"), 404)["code"] == "key_not_found"


def test_a_replaced_section_keeps_nothing_of_what_it_was(layer: Layer) -> None:
    layer.create("a", {"b": 1, "c": 2})

    layer.put("a", {"c": 3})

    assert body_of(layer.get("a"))["value"] == {"c": 3}


def test_what_shines_through_a_removed_key_is_the_layer_below(layer: Layer) -> None:
    layer.at(environment="default").create("a", "below")
    layer.create("a", "above")

    removed = layer.delete("a")

    assert (removed.status, removed.body) == (204, b"")
    assert int(removed.headers["X-Revision"]) > 0
    assert body_of(layer.get("a"))["value"] == "below"
    assert layer.get("a", resolve=False).status == 404


def test_a_key_of_the_addressed_layer_alone_can_be_read(layer: Layer) -> None:
    layer.at(environment="default").create("a", "below")
    layer.create("b", "mine")

    assert body_of(layer.get("a"))["value"] == "below"
    assert body_of(layer.get("a", resolve=False), 404)["code"] == "key_not_found"
    assert body_of(layer.get("b", resolve=False))["value"] == "mine"


def test_null_is_a_value_and_hides_what_lies_below(layer: Layer) -> None:
    layer.at(environment="default").create("a", "below")
    layer.create("a", None)

    found = body_of(layer.get("a"))

    assert found["value"] is None
    assert source_of(found) == layer.names


def test_a_missing_key_is_not_found(layer: Layer) -> None:
    layer.create("a", 1)

    problem = body_of(layer.get("b"), 404)

    assert (problem["code"], problem["key"]) == ("key_not_found", "b")
    assert layer.get("a.b").status == 404


def test_the_history_of_a_key_tells_each_change_newest_first(layer: Layer) -> None:
    layer.create("a", 1, comment="one")
    layer.create("b", 0)
    layer.put("a", 2, comment="two")
    layer.delete("a")
    layer.patch(set={"a": 3}, comment="three")

    items = body_of(layer.history("a"))["items"]

    assert [(item["version"], item["value"], item["removed"]) for item in items] == [
        (5, 3, False),
        (4, None, True),
        (3, 2, False),
        (1, 1, False),
    ]
    assert [item["comment"] for item in items] == ["three", "", "two", "one"]
    assert {item["actor"] for item in items} == {"anonymous"}
    assert all(datetime.fromisoformat(item["at"]).utcoffset() == timedelta(0) for item in items)


def test_the_history_of_a_key_comes_in_pages(layer: Layer) -> None:
    for value in range(5):
        layer.patch(set={"a": value, "other": -value})

    first = body_of(layer.history("a", limit=2))
    second = body_of(layer.history("a", limit=2, cursor=first["next"]))
    third = body_of(layer.history("a", limit=2, cursor=second["next"]))

    pages = [[item["value"] for item in page["items"]] for page in (first, second, third)]
    assert pages == [[4, 3], [2, 1], [0]]
    assert third["next"] is None


def test_the_history_of_a_section_tells_of_everything_in_it(layer: Layer) -> None:
    layer.patch(set={"a.b": 1})
    layer.patch(set={"c": 2})
    layer.patch(set={"a.d": 3})

    items = body_of(layer.history("a"))["items"]

    assert [(item["version"], item["value"]) for item in items] == [
        (3, {"b": 1, "d": 3}),
        (1, {"b": 1}),
    ]


def test_the_history_of_a_key_outlives_its_document(layer: Layer) -> None:
    layer.create("a", 1)
    layer.delete_document()

    items = body_of(layer.history("a"))["items"]

    assert [(item["version"], item["removed"]) for item in items] == [(2, True), (1, False)]
    assert items[0]["action"] == "deleted"


def test_a_key_that_never_was_has_no_history(layer: Layer) -> None:
    assert layer.history("a").status == 404
    layer.create("a", 1)
    assert body_of(layer.history("b"), 404)["code"] == "key_not_found"


def test_a_key_rolled_back_is_a_new_version_and_leaves_the_others_alone(layer: Layer) -> None:
    layer.patch(set={"a": 1, "b": 1})
    layer.patch(set={"a": 2, "b": 2})

    answer = layer.rollback("a", 1, comment="oh no")

    back = body_of(answer)
    assert (back["value"], back["version"]) == (1, 3)
    assert body_of(layer.document())["config_data"] == {"a": 1, "b": 2}
    newest = body_of(layer.history("a"))["items"][0]
    assert (newest["action"], newest["comment"]) == ("rolled_back", "oh no")


def test_a_removed_key_can_be_brought_back(layer: Layer) -> None:
    layer.create("a", {"b": 1})
    layer.delete("a")

    body_of(layer.rollback("a", 1))

    assert body_of(layer.get("a.b"))["value"] == 1


def test_what_an_earlier_version_did_not_have_cannot_be_rolled_back_to(layer: Layer) -> None:
    layer.create("a", 1)
    layer.create("b", 1)

    assert body_of(layer.rollback("b", 1), 404)["code"] == "key_not_found"
    assert body_of(layer.rollback("a", 9), 404)["code"] == "version_not_found"


def test_a_key_can_be_read_as_it_was(layer: Layer) -> None:
    layer.create("a", "old")
    layer.put("a", "new")

    then = body_of(layer.get("a", version=1))

    assert (then["value"], then["version"]) == ("old", 1)
    assert body_of(layer.get("a", version=3), 404)["code"] == "version_not_found"


def test_a_list_names_the_layer_each_value_comes_from(layer: Layer) -> None:
    base = layer.at(environment="default")
    base.patch(set={"a": 1, "b.c": 1})
    layer.patch(set={"b.c": 2, "d": 3})

    page = body_of(layer.keys())

    found = [(item["key"], item["value"], source_of(item)) for item in page["items"]]
    mine = [item for item in found if item[2]["service_name"] == layer.service]
    assert mine == [
        ("a", 1, base.names),
        ("b.c", 2, layer.names),
        ("d", 3, layer.names),
    ]
    assert page["next"] is None


@pytest.mark.parametrize("name", ["keys", "keys[]"])
def test_a_list_can_name_its_keys(layer: Layer, name: str) -> None:
    layer.patch(set={"a": 1, "b.c": 2, "b.d": 3, "e": 4})

    items = body_of(layer.keys(**{name: ["e", "b", "missing"]}))["items"]

    assert {item["key"]: item["value"] for item in items} == {"b": {"c": 2, "d": 3}, "e": 4}


def test_a_list_can_be_bound_to_a_section(layer: Layer) -> None:
    layer.patch(set={"db.host": 1, "db.pool.size": 2, "dbx": 3})

    items = body_of(layer.keys(prefix="db"))["items"]

    assert [item["key"] for item in items] == ["db.host", "db.pool.size"]


def test_a_list_of_one_layer_leaves_the_layers_below_out(layer: Layer) -> None:
    layer.at(environment="default").create("a", 1)
    layer.create("b", 2)

    items = body_of(layer.keys(resolve=False))["items"]

    assert [item["key"] for item in items] == ["b"]


def test_many_keys_of_one_layer_are_read_at_once(service: Service, layer: Layer) -> None:
    layer.patch(set={"a": 1, "b.c": 2})
    body = {**layer.names, "keys": ["b.c", "a", "nope"]}

    found = body_of(service.call("POST", "/api/v1/config/bulk", body))

    assert [(item["key"], item["value"]) for item in found["items"]] == [("b.c", 2), ("a", 1)]
    assert [item["key"] for item in found["missing"]] == ["nope"]
    assert found["missing"][0]["service_name"] == layer.service


def test_keys_of_many_layers_are_read_at_once(service: Service, layer: Layer) -> None:
    other = service.layer()
    layer.create("a", 1)
    other.create("a", 2)
    items = [{"key": key, **one.names} for one in (layer, other) for key in ("a", "b")]

    found = body_of(service.call("POST", "/api/v1/config/bulk", {"items": items}))

    assert [(item["service_name"], item["value"]) for item in found["items"]] == [
        (layer.service, 1),
        (other.service, 2),
    ]
    assert [(item["environment"], item["key"]) for item in found["missing"]] == [
        (layer.environment, "b"),
        (other.environment, "b"),
    ]


@pytest.mark.parametrize("key", ["bulk", "effective", "history", "config", "rollback"])
def test_no_key_is_shadowed_by_an_address(layer: Layer, key: str) -> None:
    layer.create(key, "mine")

    assert body_of(layer.get(key))["value"] == "mine"
    assert body_of(layer.put(key, "still"))["value"] == "still"
    assert body_of(layer.history(key))["items"][0]["value"] == "still"


@pytest.mark.parametrize("key", ["", "a\n", "a\tb", "x y" * 100, "a." * 600 + "a"])
def test_what_is_no_key_is_refused_before_anything_is_written(layer: Layer, key: str) -> None:
    assert body_of(layer.create(key, 1), 422)["code"] == "bad_key"
    assert body_of(layer.patch(set={key: 1}), 422)["code"] == "bad_key"
    assert layer.document().status == 404


@pytest.mark.parametrize("name", ["", "a..b", "-a", "a/b", "a b", "x" * 64, "a."])
def test_what_is_no_name_is_refused_before_anything_is_written(layer: Layer, name: str) -> None:
    assert body_of(layer.at(service=name).create("a", 1), 422)["code"] == "bad_name"
    assert body_of(layer.at(environment=name).create("a", 1), 422)["code"] == "bad_name"
    assert body_of(layer.at(user=f"{name}/").create("a", 1), 422)["code"] == "bad_name"


@pytest.mark.parametrize(
    "body",
    [
        {"key": "a"},
        {"key": "a", "value": 1, "color": "red"},
        {"key": 1, "value": 1},
        {"key": "a", "value": 1, "is_encrypted": "yes"},
        {"value": 1},
        [],
        "a",
    ],
    ids=str,
)
def test_a_body_of_another_shape_is_refused(service: Service, body: object) -> None:
    problem = body_of(service.call("POST", "/api/v1/config", body), 422)

    assert problem["errors"]
