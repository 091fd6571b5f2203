"""Discovery and balancing through both doors: ahead of FastAPI, and (one more parameter) by it."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.servers.answer import Answer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

REGISTRY = "/api/v1/registry"
SAME = ("etag", "content-type", "x-content-type-options")


class Fleet:
    """Three instances of a service of its own, in two zones."""

    def __init__(self, service: Service) -> None:
        self.of = service
        self.name = fresh_name()
        for number, zone in enumerate(["a", "a", "b"]):
            body = {
                "service_name": self.name,
                "instance_id": f"i{number}",
                "service_url": f"http://10.0.0.{number + 1}:8080",
                "zone": zone,
                "tags": ["web"] if number else ["wéb"],
                "ttl_seconds": 600,
                "metadata": {"environment": "production" if number else "staging"},
            }
            body_of(service.call("POST", f"{REGISTRY}/register", body), 201)
        wait_until(self._are_up, "the nodes of all three are seen")

    def _are_up(self) -> bool:
        items = body_of(self.of.get(f"{REGISTRY}/discover/{self.name}"))["items"]
        return all(item["status"] == "up" for item in items)

    def both(
        self, path: str, headers: dict[str, str] | None = None, **query: Any
    ) -> tuple[Answer, Answer]:
        hot = self.of.get(REGISTRY + path, headers=headers, **query)
        other = self.of.get(REGISTRY + path, headers=headers, **query, min_revision=0)
        return hot, other


@pytest.fixture
def fleet(service: Service) -> Iterator[Fleet]:
    made = Fleet(service)
    yield made
    for number in range(3):
        gone = {"service_name": made.name, "instance_id": f"i{number}"}
        service.call("POST", f"{REGISTRY}/deregister", gone)


@pytest.mark.parametrize(
    "query",
    [{}, {"zone": "a"}, {"tag": "wéb"}, {"version": "1"}, {"zone": "a", "tag": "web"}]
    + [{"environment": name} for name in ("production", "staging", "default")]
    + [{"environment": "production", "zone": "a"}],
)
def test_both_doors_discover_the_same(fleet: Fleet, query: dict[str, Any]) -> None:
    hot, other = fleet.both(f"/discover/{fleet.name}", **query)

    assert (hot.status, hot.body) == (other.status, other.body)
    assert {name: hot.headers.get(name) for name in SAME} == {
        name: other.headers.get(name) for name in SAME
    }
    known = {"If-None-Match": hot.headers["ETag"]}
    again = fleet.both(f"/discover/{fleet.name}", known, **query)
    assert [(answer.status, answer.body) for answer in again] == [(304, b"")] * 2


@pytest.mark.parametrize("key", ["ann", "", "ü", "a b"])
def test_both_doors_send_a_key_to_the_same_instance(fleet: Fleet, key: str) -> None:
    path = f"/services/{fleet.name}/url"
    hot, other = fleet.both(path, strategy="hash", key=key)

    assert (hot.status, hot.body) == (other.status, other.body)
    assert {name: hot.headers.get(name) for name in SAME} == {
        name: other.headers.get(name) for name in SAME
    }


def test_both_doors_send_only_to_instances_of_the_environment(fleet: Fleet) -> None:
    path = f"/services/{fleet.name}/url"
    picked = [
        body_of(answer)["instance_id"]
        for _ in range(3)
        for answer in fleet.both(path, environment="production")
    ]
    hashed = fleet.both(path, strategy="hash", key="ann", environment="staging")

    assert sorted(picked) == ["i1"] * 3 + ["i2"] * 3
    assert [body_of(answer)["instance_id"] for answer in hashed] == ["i0", "i0"]


def test_both_doors_take_turns_together(fleet: Fleet) -> None:
    path = f"/services/{fleet.name}/url"
    picked = [body_of(answer)["instance_id"] for _ in range(3) for answer in fleet.both(path)]

    assert sorted(picked) == ["i0", "i0", "i1", "i1", "i2", "i2"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/discover/bad%20name", {}),
        ("/discover/{name}", {"environment": "a b"}),
        ("/discover/{name}", {"environment": ""}),
        ("/services/{name}/url", {"environment": "*"}),
        ("/services/{name}/url", {"environment": "default"}),
        ("/services/nobody/url", {}),
        ("/services/{name}/url", {"strategy": "best"}),
        ("/services/{name}/url", {"strategy": "hash"}),
        ("/services/bad%20name/url", {}),
        ("/services/team/orders/url", {}),
        ("/services/a//url", {}),
        ("/services/a/url/url", {}),
        ("/services/a/instances/url", {}),
        ("/discover/a/url", {}),
        ("/discover/a/health/b", {}),
        ("/discover/a//b", {}),
        ("/discover/a/b%20c", {}),
    ],
)
def test_what_is_wrong_is_answered_the_same(fleet: Fleet, path: str, query: dict[str, Any]) -> None:
    hot, other = fleet.both(path.format(name=fleet.name), **query)

    assert hot.status == other.status >= 400
    assert hot.json()["code"] == other.json()["code"]


def test_a_name_of_several_parts_that_nobody_has_is_an_empty_service(fleet: Fleet) -> None:
    hot, other = fleet.both("/discover/team/orders")

    assert body_of(hot) == body_of(other) == {"items": [], "stale": False, "protected": False}


def test_the_hot_door_sees_who_comes_and_goes(fleet: Fleet) -> None:
    path = f"{REGISTRY}/discover/{fleet.name}"
    gone = {"service_name": fleet.name, "instance_id": "i0"}
    left = fleet.of.call("POST", f"{REGISTRY}/deregister", gone)

    seen = body_of(fleet.of.get(path, min_revision=left.headers["X-Revision"]))
    hot = body_of(fleet.of.get(path))

    assert [item["instance_id"] for item in hot["items"]] == ["i1", "i2"]
    assert hot == seen


def test_the_hot_door_is_taken() -> None:
    with ServiceProcess({}, [sys.executable, "-m", "tests.e2e.doors"]) as marked:
        body = {"service_name": "shop", "service_url": "http://10.0.0.1:8080"}
        registered = marked.request("POST", f"{REGISTRY}/register", body)
        revision = registered.headers["X-Revision"]
        paths = [f"{REGISTRY}/discover/shop?tag=web", f"{REGISTRY}/services/shop/url?zone=a"]
        for path in paths:
            body_of(marked.request("GET", f"{path}&min_revision={revision}"))

        doors = [marked.request("GET", path).headers.get("X-Door") for path in paths]

        assert registered.headers["X-Door"] == "fastapi"
        assert doors == [None, None]
