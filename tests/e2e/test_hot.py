"""Every hot endpoint through both doors: ahead of FastAPI, and (with one more parameter) by it."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.client import Layer, body_of
from tests.servers.answer import Answer

SAME = ("etag", "content-type", "vary", "x-content-type-options")


def both(
    layer: Layer, path: str, headers: Mapping[str, str] | None = None
) -> tuple[Answer, Answer]:
    """Read the same thing through the hot door and through FastAPI's."""
    query: dict[str, Any] = {"environment": layer.environment, "service_name": layer.service}
    layer.of.get(path, **query)  # the first read is never hot: it fills the memory
    hot = layer.of.get(path, headers=headers, **query)
    other = layer.of.get(path, headers=headers, **query, min_revision=0)
    return hot, other


@pytest.mark.parametrize("path", ["/api/v1/config/a.b", "/api/v1/config/a", "/api/v1/effective"])
def test_both_doors_give_the_same_answer(layer: Layer, path: str) -> None:
    value = {"b": 1.0, "c": [None, True, "ü", 10**20], "d": {}}
    body_of(layer.create("a", value), 201)
    body_of(layer.create("a.secret", "hush", is_encrypted=True), 201)
    body_of(layer.at(service="_shared").create("a.b", "shared"), 201)

    hot, other = both(layer, path)

    assert hot.status == other.status == 200
    assert hot.json() == other.json()
    assert {name: hot.headers.get(name) for name in SAME} == {
        name: other.headers.get(name) for name in SAME
    }


@pytest.mark.parametrize("path", ["/api/v1/config/a", "/api/v1/effective"])
def test_both_doors_know_what_the_client_knows(layer: Layer, path: str) -> None:
    body_of(layer.create("a", 1), 201)
    tag = both(layer, path)[0].headers["ETag"]

    hot, other = both(layer, path, {"If-None-Match": f'"x", W/{tag}'})

    assert hot.status == other.status == 304
    assert hot.body == other.body == b""
    assert hot.headers["ETag"] == other.headers["ETag"] == tag


def test_what_is_wrong_is_answered_the_same(layer: Layer) -> None:
    for path in ("/api/v1/config/none", "/api/v1/config/not%20a%20key", "/api/v1/config/a..b"):
        hot, other = both(layer, path)

        assert hot.status == other.status
        assert hot.json()["code"] == other.json()["code"]


def test_the_hot_door_sees_a_write_at_once(layer: Layer) -> None:
    body_of(layer.create("a", 0), 201)

    for number in range(1, 20):
        revision = layer.put("a", number).headers["X-Revision"]
        hot, _ = both(layer, "/api/v1/config/a")

        assert hot.json()["value"] == number
        assert int(hot.headers["X-Revision"]) <= int(revision)


def test_a_removed_key_and_a_deleted_document_are_gone_at_the_hot_door(layer: Layer) -> None:
    body_of(layer.create("a", 1), 201)
    body_of(layer.create("b", 1), 201)
    both(layer, "/api/v1/config/a")

    layer.delete("a")
    assert both(layer, "/api/v1/config/a")[0].status == 404

    layer.delete_document()
    assert both(layer, "/api/v1/config/b")[0].status == 404
    assert both(layer, "/api/v1/effective")[0].json()["data"] == {}


def test_the_hot_door_carries_the_request_id(layer: Layer) -> None:
    body_of(layer.create("a", 1), 201)

    hot, _ = both(layer, "/api/v1/config/a", {"X-Request-Id": "mine-1"})

    assert hot.headers["X-Request-Id"] == "mine-1"
