"""The change log and the outcome of writes, over HTTP."""

from datetime import datetime
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name


def test_every_write_is_one_change(layer: Layer) -> None:
    layer.create("a", 1, comment="made")
    layer.patch(set={"a": 2, "b": 3})
    layer.put_document({"c": 1}, created_by="bob")
    layer.rollback_document(1)
    layer.delete_document()
    layer.create_document({})
    layer.load("x: 1\n", comment="from a file")

    found = layer.changes()

    assert [(each["version"], each["action"], each["comment"]) for each in found] == [
        (1, "created", "made"),
        (2, "updated", ""),
        (3, "updated", ""),
        (4, "rolled_back", ""),
        (5, "deleted", ""),
        (6, "created", ""),
        (7, "updated", "from a file"),
    ]
    assert {(each["kind"], each["environment"], each["name"]) for each in found} == {
        ("config", layer.environment, layer.service)
    }
    assert [each["actor"] for each in found][2] == "bob"
    assert len({each["id"] for each in found}) == len(found)
    moments = [datetime.fromisoformat(each["at"]) for each in found]
    assert moments == sorted(moments)


def test_a_change_tells_no_value(layer: Layer) -> None:
    layer.create("a", 1)

    (change,) = layer.changes()

    assert set(change) == {
        "revision",
        "id",
        "kind",
        "environment",
        "name",
        "version",
        "action",
        "actor",
        "actor_id",
        "comment",
        "at",
    }


def test_what_changes_nothing_is_no_change(layer: Layer) -> None:
    layer.create("a", 1)
    layer.create("a", 2)
    layer.patch(set={"a": 1}, unset=["b"])
    layer.put("b", 1)
    layer.delete("b")
    layer.put("a", 2, headers={"If-Match": '"9"'})

    assert len(layer.changes()) == 1


def test_the_revision_of_an_answer_is_that_of_its_change(layer: Layer) -> None:
    revisions = [
        int(answer.headers["X-Revision"])
        for answer in (layer.create("a", 1), layer.put("a", 2), layer.delete("a"))
    ]

    assert [each["revision"] for each in layer.changes()] == revisions
    assert revisions == sorted(set(revisions))


def test_the_log_is_followed_from_a_revision_on(service: Service, layer: Layer) -> None:
    since = int(layer.create("a", 0).headers["X-Revision"])
    for value in range(1, 6):
        layer.put("a", value)
    pages, cursor = [], None

    while True:
        page = body_of(service.get("/api/v1/changes", since=since, limit=2, cursor=cursor))
        pages.append([each["version"] for each in page["items"]])
        cursor = page["next"]
        if cursor is None:
            break

    assert [version for page in pages for version in page] == [2, 3, 4, 5, 6]
    assert max(map(len, pages)) == 2
    assert body_of(service.get("/api/v1/changes", since=since + 5))["items"] == []


def test_the_log_can_be_narrowed(service: Service, layer: Layer) -> None:
    since = int(layer.create("a", 0).headers["X-Revision"]) - 1
    other = layer.at(service=fresh_name())
    elsewhere = layer.at(environment=fresh_name("e"))
    other.create("a", 0)
    elsewhere.create("a", 0)

    def changed_names(**query: Any) -> list[tuple[str, str]]:
        page = body_of(service.get("/api/v1/changes", since=since, **query))
        return [(each["environment"], each["name"]) for each in page["items"]]

    mine, others, away = ((each.environment, each.service) for each in (layer, other, elsewhere))
    assert changed_names() == [mine, others, away]
    assert changed_names(environment=layer.environment) == [mine, others]
    assert changed_names(entity=layer.service) == [mine, away]
    assert changed_names(environment=layer.environment, entity=other.service) == [others]
    assert changed_names(kind="config") == [mine, others, away]
    assert changed_names(kind="flag") == []


def test_the_change_of_a_users_layer_names_the_user(layer: Layer) -> None:
    mine = layer.at(user="ann@example.org")
    mine.create("a", 1)

    (change,) = mine.changes()

    assert change["name"] == f"{layer.service}/ann@example.org"
    assert layer.changes() == []


def test_the_outcome_of_a_write_can_be_asked_for(service: Service, layer: Layer) -> None:
    revision = int(layer.create("a", 1).headers["X-Revision"])
    (change,) = layer.changes()

    answer = service.get(f"/api/v1/writes/{change['id']}", min_revision=revision)

    assert int(answer.headers["X-Revision"]) >= revision
    assert body_of(answer) == {
        "id": change["id"],
        "state": "applied",
        "environment": layer.environment,
        "name": layer.service,
        "version": 1,
        "revision": revision,
    }


def test_a_write_nobody_asked_for_is_not_found(service: Service) -> None:
    assert body_of(service.get(f"/api/v1/writes/{'0' * 32}"), 404)["code"] == "write_not_found"


@pytest.mark.parametrize("intent", ["1", "x" * 32, "0" * 33])
def test_what_is_no_id_of_a_write_is_refused(service: Service, intent: str) -> None:
    assert service.get(f"/api/v1/writes/{intent}").status == 422
