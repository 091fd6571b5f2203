"""Configurations by document, over HTTP."""

import json
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name


def test_a_created_document_is_answered_with_all_its_facts(layer: Layer) -> None:
    answer = layer.create_document({"a": {"b": 1}}, comment="first", created_by="ann")

    created = body_of(answer, 201)
    assert created["service_name"] == layer.service
    assert created["environment"] == layer.environment
    assert created["version"] == 1
    assert created["config_data"] == {"a": {"b": 1}}
    assert created["comment"] == "first"
    assert created["created_by"] == "ann"
    assert datetime.fromisoformat(created["created_at"]).tzinfo is not None
    assert created["updated_at"] == created["created_at"]
    assert answer.headers["ETag"] == '"1"'
    assert int(answer.headers["X-Revision"]) > 0


def test_the_location_of_a_created_document_leads_to_it(service: Service, layer: Layer) -> None:
    location = layer.create_document({"a": 1}).headers["Location"]

    assert body_of(service.get(location))["config_data"] == {"a": 1}


def test_without_an_environment_a_document_is_the_default_one(
    service: Service, layer: Layer
) -> None:
    base = layer.at(environment="default")
    base.create_document({"a": 1})

    found = body_of(service.get(f"/api/configs/{layer.service}"))

    assert (found["environment"], found["config_data"]) == ("default", {"a": 1})


def test_a_document_is_created_once(layer: Layer) -> None:
    layer.create_document({"a": 1})

    problem = body_of(layer.create_document({"a": 2}), 409)

    assert problem["code"] == "document_exists"
    assert body_of(layer.document())["config_data"] == {"a": 1}


def test_a_document_is_shown_alone_and_not_merged(layer: Layer) -> None:
    layer.at(environment="default").create_document({"a": 1})
    layer.create_document({"b": 2})

    assert body_of(layer.document())["config_data"] == {"b": 2}


def test_a_missing_document_is_not_found(layer: Layer) -> None:
    answers = [
        layer.document(),
        layer.put_document({}),
        layer.delete_document(),
        layer.document_history(),
        layer.diff(1, 1),
        layer.rollback_document(1),
    ]

    problems = [body_of(answer, 404)["code"] for answer in answers]

    assert set(problems) == {"document_not_found"}


def test_a_replaced_document_is_a_new_version_of_the_same_document(layer: Layer) -> None:
    first = body_of(layer.create_document({"a": 1}, created_by="ann"), 201)

    answer = layer.put_document({"b": 2}, comment="other", created_by="bob")

    second = body_of(answer)
    assert second["version"] == 2
    assert second["config_data"] == {"b": 2}
    assert (second["created_by"], second["created_at"]) == ("ann", first["created_at"])
    assert second["updated_by"] == "bob"
    assert second["updated_at"] > first["updated_at"]
    assert answer.headers["ETag"] == '"2"'
    assert layer.get("a").status == 404


def test_dotted_and_nested_spellings_of_one_key_merge(layer: Layer) -> None:
    layer.create_document({"a.b": 1, "a": {"c.d": 2}, "a.c": {"e": 3}})

    assert body_of(layer.document())["config_data"] == {"a": {"b": 1, "c": {"d": 2, "e": 3}}}


@pytest.mark.parametrize(
    "data", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a": {"b": 1}, "a.b.c": 2}], ids=str
)
def test_a_document_whose_keys_conflict_is_refused(layer: Layer, data: dict[str, Any]) -> None:
    problem = body_of(layer.create_document(data), 409)

    assert problem["code"] == "key_conflict"
    assert problem["keys"] in (["a", "a.b"], ["a.b", "a.b.c"])
    assert layer.document().status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"config_data": [1]},
        {"config_data": None},
        {},
        {"config_data": {}, "color": "red"},
        {"config_data": {}, "comment": 1},
    ],
    ids=str,
)
def test_a_document_of_another_shape_is_refused(layer: Layer, body: object) -> None:
    answer = layer.of.call("POST", f"/api/configs/{layer.service}", body)

    problem = body_of(answer, 422)
    assert problem["errors"]
    assert layer.at(environment="default").document().status == 404


def test_a_deleted_document_leaves_its_history(layer: Layer) -> None:
    layer.create_document({"a": 1})

    deleted = layer.delete_document()

    assert (deleted.status, deleted.body) == (204, b"")
    assert body_of(layer.document(), 404)["code"] == "document_not_found"
    assert layer.delete_document().status == 404
    assert layer.put_document({}).status == 404
    assert body_of(layer.document(version=1))["config_data"] == {"a": 1}
    assert body_of(layer.document(version=2), 410)["code"] == "version_is_deletion"
    actions = [item["action"] for item in body_of(layer.document_history())["items"]]
    assert actions == ["deleted", "created"]


def test_a_deleted_document_may_be_created_again_and_its_versions_go_on(layer: Layer) -> None:
    layer.create_document({"a": 1}, created_by="ann")
    layer.delete_document()

    again = body_of(layer.create_document({"b": 2}, created_by="bob"), 201)

    assert (again["version"], again["created_by"]) == (3, "bob")
    assert body_of(layer.document())["config_data"] == {"b": 2}


def test_a_key_may_be_created_in_a_deleted_document(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.delete_document()

    created = body_of(layer.create("a", 2), 201)

    assert created["version"] == 3
    assert body_of(layer.document())["config_data"] == {"a": 2}


def test_an_earlier_version_can_be_read(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.put_document({"a": 2})

    then = layer.document(version=1)

    assert body_of(then)["config_data"] == {"a": 1}
    assert then.headers["ETag"] == '"1"'
    assert body_of(layer.document(version=3), 404)["code"] == "version_not_found"
    assert layer.document(version=0).status == 422


def test_the_history_of_a_document_starts_with_the_newest(layer: Layer) -> None:
    layer.create_document({"a": 1}, comment="one", created_by="ann")
    layer.put_document({"a": 2}, comment="two", created_by="bob")
    layer.patch(set={"a": 3}, comment="three")
    layer.rollback_document(1, comment="back")

    items = body_of(layer.document_history())["items"]

    assert [(item["version"], item["action"], item["comment"]) for item in items] == [
        (4, "rolled_back", "back"),
        (3, "updated", "three"),
        (2, "updated", "two"),
        (1, "created", "one"),
    ]
    assert [item["actor"] for item in items] == ["anonymous", "anonymous", "bob", "ann"]
    revisions = [item["revision"] for item in items]
    assert revisions == sorted(revisions, reverse=True)


def test_the_history_of_a_document_comes_in_pages(layer: Layer) -> None:
    for value in range(5):
        layer.patch(set={"a": value})
    versions, cursor = [], None

    while True:
        page = body_of(layer.document_history(limit=2, cursor=cursor))
        versions.append([item["version"] for item in page["items"]])
        cursor = page["next"]
        if cursor is None:
            break

    assert versions == [[5, 4], [3, 2], [1]]


def test_two_versions_differ_key_by_key(layer: Layer) -> None:
    layer.create_document({"a": 1, "b": {"c": 2, "d": [1]}, "same": {"x": None}})
    layer.put_document({"b": {"c": 3, "e": True}, "f": {}, "same": {"x": None}})

    found = body_of(layer.diff(1, 2))

    assert found == {
        "service_name": layer.service,
        "environment": layer.environment,
        "old_version": 1,
        "new_version": 2,
        "added": {"b.e": True, "f": {}},
        "removed": {"a": 1, "b.d": [1]},
        "changed": {"b.c": {"old": 2, "new": 3}},
    }


def test_versions_can_be_compared_backwards_and_over_a_deletion(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.delete_document()

    assert body_of(layer.diff(2, 1))["added"] == {"a": 1}
    assert body_of(layer.diff(1, 2))["removed"] == {"a": 1}
    assert body_of(layer.diff(1, 1))["changed"] == {}


def test_unless_told_otherwise_the_last_two_versions_are_compared(layer: Layer) -> None:
    for value in (1, 2, 3):
        layer.patch(set={"a": value})

    found = body_of(layer.diff())

    assert (found["old_version"], found["new_version"]) == (2, 3)
    assert found["changed"] == {"a": {"old": 2, "new": 3}}


def test_a_version_that_never_was_cannot_be_compared(layer: Layer) -> None:
    layer.create_document({})

    assert body_of(layer.diff(1, 5), 404)["code"] == "version_not_found"


def test_a_document_rolled_back_is_a_new_version(layer: Layer) -> None:
    layer.create_document({"a": 1}, created_by="ann")
    layer.put_document({"b": 2})

    answer = layer.rollback_document(1, comment="undo")

    back = body_of(answer)
    assert (back["version"], back["config_data"], back["comment"]) == (3, {"a": 1}, "undo")
    assert back["created_by"] == "ann"
    assert answer.headers["ETag"] == '"3"'


def test_a_deleted_document_can_be_rolled_back_to_what_it_was(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.delete_document()

    assert body_of(layer.rollback_document(2), 410)["code"] == "version_is_deletion"
    assert body_of(layer.rollback_document(1))["version"] == 3
    assert body_of(layer.get("a"))["value"] == 1


def test_a_rollback_to_a_version_that_never_was_writes_nothing(layer: Layer) -> None:
    layer.create_document({})

    assert body_of(layer.rollback_document(2), 404)["code"] == "version_not_found"
    assert body_of(layer.document())["version"] == 1


@pytest.mark.slow
def test_versions_beyond_those_that_are_kept_are_gone(fresh: Service) -> None:
    layer = fresh.layer()
    layer.create("old", "gone")
    for value in range(61):  # the service keeps sixty
        layer.patch(set={"a": value})
    fresh.process.restart()  # what it has just written it still knows by heart
    fresh.wait_until_ready()

    answers = [
        layer.document(version=2),
        layer.get("old", version=2),
        layer.diff(2, 62),
        layer.rollback_document(2),
        layer.rollback("old", 2),
    ]

    assert [body_of(answer, 410)["code"] for answer in answers] == ["version_gone"] * 5
    assert body_of(layer.document(version=3))["config_data"]["a"] == 1
    assert body_of(layer.document_history(limit=1000))["items"][-1]["version"] == 1
    assert body_of(layer.history("a", limit=1000))["items"][-1]["version"] == 3
    assert body_of(layer.history("old")) == {"items": [], "next": None}
    assert body_of(layer.get("old"))["version"] == 1


@pytest.mark.slow
def test_a_full_document_takes_no_more_and_can_still_be_emptied(layer: Layer) -> None:
    keys = {f"k{number:04}": number for number in range(8250)}
    body_of(layer.load(json.dumps(keys), format="json"))
    more = {f"more{number:04}": number for number in range(1000)}

    refused = layer.patch(set=more)
    smaller = layer.patch(unset=list(keys)[:5000])
    deleted = layer.delete_document()

    assert body_of(refused, 413)["code"] == "document_too_large"
    assert body_of(smaller)["version"] == 2
    assert deleted.status == 204
    assert body_of(layer.diff(1, 3))["removed"] == keys


@pytest.mark.slow
def test_keys_that_are_replaced_again_and_again_do_not_fill_a_document(layer: Layer) -> None:
    body_of(layer.create_document({"secret": {"$secret": {"value": "hunter2"}}, "kept": 1}), 201)
    for turn in range(20):
        keys = {f"{'k' * 50}-{turn}-{number:03}": number for number in range(400)}
        body_of(layer.put_document({**keys, "kept": 1}))

    assert "hunter2" not in str(body_of(layer.document(version=1)))
    assert body_of(layer.history("secret"))["items"][0]["removed"]
    first = f"{'k' * 50}-0-000"  # whose removal is no longer remembered
    assert [item["version"] for item in body_of(layer.history(first))["items"]] == [3, 2]
    assert layer.history("never-there").status == 404
    body_of(layer.rollback_document(2))
    assert body_of(layer.get(first))["value"] == 0


def test_documents_are_listed_by_environment_and_service(service: Service) -> None:
    environment = fresh_name("e")
    names = [fresh_name() for _ in range(5)]
    layers = [Layer(service, environment, name) for name in names]
    for each in layers:
        each.create_document({"a": 1}, created_by="ann")
    layers[0].delete_document()
    layers[1].at(user="ann").create("a", 2)
    found, cursor = [], None

    while True:
        page = body_of(service.get("/api/configs", environment=environment, limit=2, cursor=cursor))
        found.append(page["items"])
        cursor = page["next"]
        if cursor is None:
            break

    assert [len(page) for page in found] == [2, 2]
    items = [item for page in found for item in page]
    assert [item["service_name"] for item in items] == sorted(names[1:])
    assert {item["environment"] for item in items} == {environment}
    assert {(item["version"], item["updated_by"]) for item in items} == {(1, "ann")}


def test_the_list_of_documents_spans_environments(service: Service, layer: Layer) -> None:
    layer.create_document({})
    layer.at(environment="default").create_document({})

    items = body_of(service.get("/api/configs", limit=1000))["items"]

    mine = [item["environment"] for item in items if item["service_name"] == layer.service]
    assert sorted(mine) == sorted(["default", layer.environment])


def test_a_document_and_its_keys_are_one_thing(layer: Layer) -> None:
    layer.create_document({"a": 1})
    layer.put("a", 2)
    layer.put_document({"a": 3})

    assert body_of(layer.get("a"))["value"] == 3
    assert body_of(layer.document())["version"] == 3
    assert [item["value"] for item in body_of(layer.history("a"))["items"]] == [3, 2, 1]
