"""Lists without filters tell of everything, each item with its layer."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.client import Layer, Service, body_of, fresh_name, fresh_secret

KEYS, FLAGS, SEGMENTS = "/api/v1/config", "/api/v1/feature-flags", "/api/v1/segments"


def every(service: Service, path: str, **query: Any) -> Iterator[Any]:
    """Yield the items of all pages."""
    cursor = None
    while True:
        page = body_of(service.get(path, cursor=cursor, **query))
        assert len(page["items"]) <= query.get("limit", 100)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def own(items: Iterator[Any], *layers: Layer) -> list[tuple[str, str, str | None, str, Any]]:
    """Return the items of these layers alone: others write into the same service."""
    places = {(layer.environment, layer.service) for layer in layers}
    return [
        (item["environment"], item["service_name"], item["user"], item["key"], item["value"])
        for item in items
        if (item["environment"], item["service_name"]) in places
    ]


@pytest.fixture
def layers(service: Service, layer: Layer) -> list[Layer]:
    """Make layers of two environments and two services, one of a user and one that is deleted."""
    one, other = layer, layer.at(environment=f"{layer.environment}-b")
    shared = layer.at(service="_shared")
    body_of(one.patch(set={"a": 1, "b.c": 2}))
    body_of(other.patch(set={"a": 3}))
    body_of(shared.patch(set={"a": 4, "z": 5}))
    body_of(one.at(user="ann").patch(set={"a": 6}))
    gone = layer.at(service=f"{layer.service}-gone")
    body_of(gone.patch(set={"a": 7}))
    assert gone.delete_document().status == 204
    return [one, other, shared, gone]


def rows(layers: list[Layer]) -> list[tuple[str, str, str | None, str, Any]]:
    one, other, shared, _ = layers
    return [
        (shared.environment, "_shared", None, "a", 4),
        (shared.environment, "_shared", None, "z", 5),
        (one.environment, one.service, None, "a", 1),
        (one.environment, one.service, None, "b.c", 2),
        (one.environment, one.service, "ann", "a", 6),
        (other.environment, other.service, None, "a", 3),
    ]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_keys_are_listed_with_their_layers(
    service: Service, layers: list[Layer], limit: int
) -> None:
    environment = layers[0].environment
    spanned = every(service, KEYS, environment=environment, service_name="*", limit=limit)

    assert own(spanned, *layers) == rows(layers)[:5]


@pytest.mark.parametrize("query", [{}, {"environment": "*"}, {"service_name": "*"}])
def test_all_layers_are_listed_without_a_filter_and_with_stars(
    service: Service, layers: list[Layer], query: dict[str, str]
) -> None:
    items = [*every(service, KEYS, limit=1000, **query)]

    assert own(iter(items), *layers) == rows(layers)
    source = {"environment": layers[0].environment, "service_name": layers[0].service, "user": None}
    assert source in [item["source"] for item in items]


def test_filters_narrow_what_stars_widen(service: Service, layers: list[Layer]) -> None:
    one, other, *_ = layers
    of_service = every(service, KEYS, environment="*", service_name=one.service, keys=["a"])
    of_user = every(service, KEYS, environment="*", user="ann", prefix="a")

    assert [row[-1] for row in own(of_service, *layers)] == [1, 6, 3]
    assert [row[-1] for row in own(of_user, one, other)] == [6]


def test_one_layer_is_listed_as_before_where_it_is_named(
    service: Service, layers: list[Layer]
) -> None:
    one = layers[0]

    named = body_of(one.keys())["items"]
    shared = body_of(service.get(KEYS, environment=one.environment))["items"]
    by_key = body_of(service.get(KEYS, keys=["a"]))["items"]

    assert {item["key"]: item["value"] for item in named if item["key"] != "z"} == {
        "a": 1,
        "b.c": 2,
    }
    assert {item["service_name"] for item in shared} == {"_shared"}
    assert {item["environment"] for item in by_key} <= {"default"}
    assert service.get(KEYS, environment="*", service_name="..").status == 422
    assert service.get(KEYS, environment="**").status == 422


def test_secrets_are_masked_in_what_spans(service: Service, layer: Layer) -> None:
    secret = fresh_secret()
    layer.patch(set={"a": secret}, encrypt=["a"])

    answer = service.get(KEYS, environment=layer.environment, service_name="*")

    assert secret.encode() not in answer.body
    assert body_of(answer)["items"][0]["is_encrypted"]


def test_a_list_that_spans_shows_ones_own_write(service: Service, layer: Layer) -> None:
    revision = layer.create("a", 1).headers["X-Revision"]

    answer = service.get(KEYS, environment="*", service_name=layer.service, min_revision=revision)

    assert [item["value"] for item in body_of(answer)["items"]] == [1]
    assert int(answer.headers["X-Revision"]) >= int(revision)


@pytest.mark.parametrize("path", [FLAGS, SEGMENTS])
@pytest.mark.parametrize("query", [{}, {"environment": "*"}])
def test_flags_and_segments_of_all_environments_are_listed(
    service: Service, path: str, query: dict[str, str]
) -> None:
    environments = sorted(fresh_name("e") for _ in range(2))
    for environment in environments:
        for name in ("b", "a"):
            made = service.call("POST", path, {"name": name, "environment": environment})
            body_of(made, 201)

    for limit in (1, 1000):
        found = [
            (item["environment"], item["name"])
            for item in every(service, path, limit=limit, **query)
            if item["environment"] in environments
        ]
        assert found == [(each, name) for each in environments for name in ("a", "b")]


def test_a_filter_of_flags_alone_is_about_the_default_environment(service: Service) -> None:
    environment, tag = fresh_name("e"), fresh_name("t")
    body_of(
        service.call("POST", FLAGS, {"name": "f", "environment": environment, "tags": [tag]}), 201
    )

    assert not [*every(service, FLAGS, tag=tag)]
    spanned = [*every(service, FLAGS, tag=tag, environment="*")]
    assert [item["environment"] for item in spanned] == [environment]


def test_put_takes_the_layer_in_its_body(layer: Layer) -> None:
    layer.create("a", 1)
    path = "/api/v1/config/a"

    body_of(layer.of.call("PUT", path, {"value": 2, **layer.names}))
    body_of(layer.of.call("PUT", path, {"value": 3, **layer.names}, **layer.names))
    body_of(
        layer.of.call(
            "PUT", path, {"value": 4, "service_name": layer.service}, environment=layer.environment
        )
    )
    problem = body_of(
        layer.of.call("PUT", path, {"value": 5, **layer.names}, environment="production"), 422
    )

    assert (problem["code"], problem["errors"][0]["pointer"]) == (
        "address_contradicts",
        "#/environment",
    )
    assert body_of(layer.get("a"))["value"] == 4
    assert layer.of.call("PUT", path, {"value": 6, "environment": ".."}).status == 422
