"""What becomes of a proposal one of whose items is refused while it is applied."""

from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.servers.process import wait_until

PROPOSALS = "/api/v1/proposals"


class Stage:
    """An environment in which a rule binds keys of two layers.

    `min` must not be above `max`, and `left` must be `right`: these cannot be changed one by one.
    """

    def __init__(self, service: Service) -> None:
        self.of = service
        self.environment, self.name = fresh_name("e"), fresh_name()
        self.write("_shared", {"min": 1, "max": 10, "left": 1, "right": 1})
        self.write(self.name, {"a": 1})
        schema = {
            "mode": "enforce",
            "applies_to": [{"environments": [self.environment], "services": [self.name]}],
            "schema": {
                "type": "object",
                "x-rules": [
                    {"id": "order", "rule": "config.min <= config.max"},
                    {"id": "same", "rule": "config.left == config.right"},
                ],
            },
        }
        body_of(service.call("PUT", f"/api/v1/schemas/{self.name}", schema), 201)

    def write(self, name: str, keys: dict[str, Any]) -> None:
        path = f"/api/v1/config?environment={self.environment}&service_name={name}"
        body_of(self.of.call("PATCH", path, {"set": keys}))

    def item(self, name: str, keys: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": "config",
            "environment": self.environment,
            "service_name": name,
            "set": keys,
        }

    def apply(self, items: list[dict[str, Any]], on_failure: str) -> dict[str, Any]:
        """Propose items, apply them, and return the proposal as it ends."""
        sent = {"title": "order", "on_failure": on_failure, "items": items}
        made = body_of(self.of.call("POST", PROPOSALS, sent), 201)
        path = f"{PROPOSALS}/{made['id']}"
        assert body_of(self.of.call("POST", f"{path}/apply", {}), 202)["state"] == "applying"
        wait_until(lambda: body_of(self.of.get(path))["state"] != "applying", "it has ended")
        ended: dict[str, Any] = body_of(self.of.get(path))
        return ended

    def data(self, name: str) -> dict[str, Any]:
        place = f"environment={self.environment}&service_name={name}&resolve=false"
        items = body_of(self.of.get(f"/api/v1/config?{place}"))["items"]
        return {item["key"]: item["value"] for item in items}


@pytest.fixture
def stage(service: Service) -> Stage:
    return Stage(service)


def test_later_items_are_not_begun(stage: Stage) -> None:
    items = [stage.item("_shared", {"left": 2}), stage.item(stage.name, {"right": 2})]

    ended = stage.apply(items, "stop")

    refused, skipped = (item["outcome"] for item in ended["items"])
    assert ended["state"] == "not_applied"
    assert (refused["state"], refused["code"]) == ("failed", "schema_violated")
    assert skipped["state"] == "skipped"
    assert stage.data("_shared")["left"] == 1


def test_what_was_applied_before_is_undone_if_that_was_asked_for(stage: Stage) -> None:
    other = fresh_name()
    items = [
        stage.item(other, {"b": 2}),
        stage.item("_shared", {"left": 2}),
        stage.item(stage.name, {"right": 2}),
    ]

    ended = stage.apply(items, "undo")

    states = [item["outcome"]["state"] for item in ended["items"]]
    assert ended["state"] == "undone"
    assert states == ["undone", "failed", "skipped"]
    assert stage.data(other) == {}


def test_what_was_applied_before_stays_otherwise(stage: Stage) -> None:
    other = fresh_name()
    items = [stage.item(other, {"b": 2}), stage.item("_shared", {"left": 2})]
    items.append(stage.item(stage.name, {"right": 2}))

    ended = stage.apply(items, "stop")

    assert ended["state"] == "partly_applied"
    assert [item["outcome"]["state"] for item in ended["items"]] == ["applied", "failed", "skipped"]
    assert stage.data(other) == {"b": 2}


@pytest.mark.parametrize("is_reversed", [False, True])
def test_items_are_written_in_an_order_that_the_schemas_allow(
    stage: Stage, *, is_reversed: bool
) -> None:
    items = [stage.item(stage.name, {"max": 40}), stage.item("_shared", {"min": 20})]

    ended = stage.apply(items[::-1] if is_reversed else items, "stop")

    assert ended["state"] == "applied"
    assert [item["outcome"]["version"] for item in ended["items"]] == [2, 2]
    assert stage.data("_shared")["min"] == 20
    assert stage.data(stage.name)["max"] == 40
