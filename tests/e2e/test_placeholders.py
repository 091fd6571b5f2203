"""Placeholders and relaxed names, over HTTP: resolved on request, each with its source."""

from typing import Any

import pytest

from tests.e2e.client import MASK, Layer, body_of, fresh_secret
from tests.servers.answer import Answer


def resolve_key(layer: Layer, key: str, **query: Any) -> Any:
    return body_of(layer.get(key, resolve_placeholders="true", **query))


def all_resolved(layer: Layer, **query: Any) -> Any:
    return body_of(layer.effective(resolve_placeholders="true", **query))


def fill_layers(layer: Layer) -> Layer:
    """Fill a layer, and the one that it inherits from."""
    shared = layer.at(environment="default")
    body_of(
        shared.create_document({"db": {"host": "db.example", "port": 5432}, "name": "all"}), 201
    )
    body_of(
        layer.create_document(
            {
                "url": "postgres://${db.host}:${db.port}/${name}",
                "port": "${db.port}",
                "pool": "${pool.size:10}",
                "home": "${HOME}",
                "hosts": ["${db.host}", {"other": "${name}"}],
                "price": "$${amount}",
                "name": "orders",
            }
        ),
        201,
    )
    return layer


def source(layer: Layer) -> Any:
    return {"environment": layer.environment, "service_name": layer.service, "user": None}


def test_values_come_from_every_layer_and_say_so(layer: Layer) -> None:
    fill_layers(layer)

    found = all_resolved(layer)

    assert {name: found["data"][name] for name in ("url", "port", "pool", "home", "price")} == {
        "url": "postgres://db.example:5432/orders",
        "port": 5432,
        "pool": 10,
        "home": "${HOME}",
        "price": "${amount}",
    }
    assert found["data"]["hosts"] == ["db.example", {"other": "orders"}]
    shared = layer.at(environment="default")
    assert found["placeholders"]["url"] == [
        {"name": "db.host", "outcome": "value", "key": "db.host", "source": source(shared)},
        {"name": "db.port", "outcome": "value", "key": "db.port", "source": source(shared)},
        {"name": "name", "outcome": "value", "key": "name", "source": source(layer)},
    ]
    assert [each["outcome"] for each in found["placeholders"]["pool"]] == ["default"]
    assert [each["outcome"] for each in found["placeholders"]["home"]] == ["unresolved"]
    assert found["sources"]["url"] == source(layer)


def test_without_the_wish_texts_are_as_they_are(layer: Layer) -> None:
    fill_layers(layer)

    plain = body_of(layer.effective())
    assert plain["data"]["port"] == "${db.port}"
    assert "placeholders" not in plain
    assert "placeholders" not in body_of(layer.get("port"))
    assert body_of(layer.document())["config_data"]["port"] == "${db.port}"


def test_a_key_is_resolved(layer: Layer) -> None:
    fill_layers(layer)

    found = resolve_key(layer, "url")

    assert found["value"] == "postgres://db.example:5432/orders"
    assert [each["key"] for each in found["placeholders"]] == ["db.host", "db.port", "name"]
    assert resolve_key(layer, "hosts[0]")["value"] == "db.example"
    assert resolve_key(layer, "db")["placeholders"] == []


@pytest.mark.parametrize(
    ("media", "line"),
    [("application/yaml", "port: 5432"), ("text/x-java-properties", "port=5432")],
)
def test_files_hold_the_resolved_values(layer: Layer, media: str, line: str) -> None:
    fill_layers(layer)

    answer = layer.effective(headers={"Accept": media}, resolve_placeholders="true")

    assert answer.status == 200
    assert line in answer.body.decode().splitlines()


def test_tags_differ_and_tell_when_a_value_changes(layer: Layer) -> None:
    fill_layers(layer)
    plain, told_resolved = layer.effective(), layer.effective(resolve_placeholders="true")
    tag = told_resolved.headers["etag"]

    assert plain.headers["etag"] != tag
    assert (
        layer.get("url").headers["etag"]
        != layer.get("url", resolve_placeholders="true").headers["etag"]
    )
    again = layer.effective(headers={"If-None-Match": tag}, resolve_placeholders="true")
    assert again.status == 304
    layer.at(environment="default").put("db.host", "other.example")
    changed = layer.effective(headers={"If-None-Match": tag}, resolve_placeholders="true")
    assert body_of(changed)["data"]["url"] == "postgres://other.example:5432/orders"


def test_a_cycle_is_a_conflict_that_names_its_chain(layer: Layer) -> None:
    body_of(layer.create_document({"a": "${b}", "b": "x${c}", "c": "${a}", "fine": "${d:1}"}), 201)

    for answer in (
        layer.effective(resolve_placeholders="true"),
        layer.get("b", resolve_placeholders="true"),
        layer.effective(resolve_placeholders="true", reveal="true"),
    ):
        problem = body_of(answer, 409)
        assert problem["code"] == "placeholder_cycle"
        assert set(problem["keys"]) == {"a", "b", "c"}
        assert problem["keys"][0] == problem["keys"][-1]
    assert resolve_key(layer, "fine")["value"] == 1
    assert body_of(layer.effective())["data"]["a"] == "${b}"


def test_little_that_would_become_much_is_refused(layer: Layer) -> None:
    data = {f"k{n}": f"${{k{n + 1}}}" * 10 for n in range(20)} | {"k20": "x" * 100}
    body_of(layer.create_document(data), 201)

    assert body_of(layer.effective(resolve_placeholders="true"), 409)["code"] == "placeholder_limit"
    assert body_of(layer.get("k0", resolve_placeholders="true"), 409)["code"] == "placeholder_limit"
    assert resolve_key(layer, "k19")["value"] == "x" * 1000


def with_secret(layer: Layer, secret: str) -> None:
    data = {
        "db": {"password": {"$secret": {"value": secret}}, "user": "orders"},
        "other": {"$secret": {"value": fresh_secret()}},
        "whole": "${db.password}",
        "url": "postgres://${db.user}:${db.password}@db",
        "name": "${x.${db.password}}",
        "plain": "${db.user}",
    }
    body_of(layer.create_document(data), 201)


def test_a_text_with_a_secret_in_it_is_a_mask(layer: Layer) -> None:
    secret = fresh_secret()
    with_secret(layer, secret)

    answer = layer.effective(resolve_placeholders="true")

    data = body_of(answer)["data"]
    assert data["url"]["$secret"] == data["whole"]["$secret"] == MASK["$secret"]
    assert (data["name"], data["plain"]) == ("${x.${db.password}}", "orders")
    assert secret not in answer.body.decode()
    found = resolve_key(layer, "url")
    assert (found["value"], found["is_encrypted"]) == (MASK, True)


def test_revealed_a_secret_stands_in_the_text_and_the_audit_names_it(layer: Layer) -> None:
    secret = fresh_secret() + "${db.user}"
    with_secret(layer, secret)

    answer = layer.get("url", resolve_placeholders="true", reveal="true")
    assert body_of(answer)["value"] == f"postgres://orders:{secret}@db"
    assert answer.headers["cache-control"] == "no-store"
    everything = all_resolved(layer, reveal="true")["data"]
    assert everything["whole"] == secret
    assert everything["name"] == "${x.${db.password}}"

    rows = body_of(layer.of.get("/api/v1/audit", action="revealed", limit=1000))["items"]
    of_layer = [row for row in rows if row["environment"] == layer.environment]
    assert [sorted(row["facts"]["keys"]) for row in of_layer] == [
        ["db.password"],
        ["db.password", "other"],
    ]


@pytest.mark.parametrize("option", ["resolve_placeholders", "relaxed_names"])
@pytest.mark.parametrize("other", [{"resolve": "false"}, {"version": "1"}])
def test_options_concern_all_layers_as_they_are_now(
    layer: Layer, option: str, other: dict[str, Any]
) -> None:
    fill_layers(layer)

    problem = body_of(layer.get("url", **{**other, option: "true"}), 422)

    assert problem["code"] == "contradictory_options"


def test_a_key_that_is_not_there_is_not_found(layer: Layer) -> None:
    for option in ("resolve_placeholders", "relaxed_names"):
        query: dict[str, Any] = {option: "true"}
        answer: Answer = layer.get("absent", **query)
        assert body_of(answer, 404)["code"] == "key_not_found"


def test_relaxed_names_are_one_in_all_layers(layer: Layer) -> None:
    shared = layer.at(environment="default")
    secret = fresh_secret()
    body_of(
        shared.create_document(
            {"my-app": {"poolSize": 5, "api_key": {"$secret": {"value": secret}}}}
        ),
        201,
    )
    body_of(layer.create_document({"myApp": {"pool-size": 9}, "text": "${MY_APP.POOL_SIZE}"}), 201)

    assert body_of(layer.effective())["data"]["my-app"]["poolSize"] == 5
    found = body_of(layer.effective(relaxed_names="true", resolve_placeholders="true"))
    assert found["data"]["myApp"]["pool-size"] == found["data"]["text"] == 9
    assert "my-app" not in found["data"]
    key = body_of(layer.get("my-app.POOL_SIZE", relaxed_names="true"))
    assert (key["key"], key["value"], key["version"]) == ("myApp.pool-size", 9, 1)
    assert body_of(layer.get("text"))["value"] == "${MY_APP.POOL_SIZE}"

    hidden = body_of(layer.get("myapp.apikey", relaxed_names="true"))
    assert (hidden["value"]["$secret"], hidden["source"]) == ("masked", source(shared))
    clear = body_of(layer.get("myapp.apikey", relaxed_names="true", reveal="true"))
    assert (clear["key"], clear["value"]) == ("myApp.api_key", secret)
