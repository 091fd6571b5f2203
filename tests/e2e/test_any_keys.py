"""Documents hold members of any name, addressed in brackets, through every door."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.client import Layer, Service, body_of

CONFIG = "/api/v1/config"
KEYS = {
    "nodeSelector[kubernetes.io/os]": "linux",
    "my.map[/api/**]": 1,
    "[My Team]": ["ann"],
    "[$schema]": "schema.json",
    "args.pattern": "x",
    "loggers[com.acme]": "INFO",
    f"[{'x' * 78}]": True,
    "quotes[a\\]b\\\\c]": None,
}
DOCUMENT = {
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "my": {"map": {"/api/**": 1}},
    "My Team": ["ann"],
    "$schema": "schema.json",
    "args": {"pattern": "x"},
    "loggers": {"[com.acme]": "INFO"},
    "x" * 78: True,
    "quotes": {"a]b\\c": None},
}


def where(layer: Layer) -> dict[str, Any]:
    return {"environment": layer.environment, "service_name": layer.service}


@pytest.mark.parametrize("key", [key for key in KEYS if "loggers" not in key])
def test_a_key_in_brackets_is_created_read_changed_and_removed(
    service: Service, layer: Layer, key: str
) -> None:
    created = service.call("POST", CONFIG, {"key": key, "value": 1, **where(layer)})

    assert body_of(created, 201)["key"] == key
    assert body_of(service.get(created.headers["Location"]))["value"] == 1
    address = f"{CONFIG}/-"
    query = {"key": key, **where(layer)}
    assert body_of(service.call("PUT", address, {"value": 2}, **query))["value"] == 2
    assert [
        item["version"] for item in body_of(service.get(f"{address}/history", **query))["items"]
    ]
    back = service.call("POST", f"{address}/rollback", {"version": 1}, **query)
    assert body_of(back)["value"] == 1
    assert [item["key"] for item in body_of(service.get(CONFIG, **query))["items"]] == [key]
    assert service.call("DELETE", address, **query).status == 204
    assert service.get(address, **query).status == 404


def test_a_key_without_a_slash_is_addressed_in_the_path(service: Service, layer: Layer) -> None:
    body_of(service.call("POST", CONFIG, {"key": "My Team", "value": 1, **where(layer)}), 201)

    for spelling in ("[My Team]", "My Team"):
        answer = service.get(f"{CONFIG}/{quote(spelling)}", **where(layer))
        assert body_of(answer)["key"] == "[My Team]"


def test_a_document_of_any_members_comes_back_as_it_was_sent(
    service: Service, layer: Layer
) -> None:
    address = f"/api/configs/{layer.service}"
    environment: dict[str, Any] = {"environment": layer.environment}
    created = service.call("POST", address, {"config_data": DOCUMENT}, **environment)
    assert body_of(created, 201)["config_data"] == DOCUMENT

    shown = body_of(service.get(address, **environment))["config_data"]
    replaced = service.call("PUT", address, {"config_data": shown}, **environment)

    assert body_of(replaced)["config_data"] == DOCUMENT
    listed = body_of(service.get(CONFIG, **where(layer)))["items"]
    assert {item["key"] for item in listed} == {
        "nodeSelector[kubernetes.io/os]",
        "my.map[/api/**]",
        "[My Team]",
        "[$schema]",
        "args.pattern",
        "loggers[com.acme]",
        f"[{'x' * 78}]",
        "quotes[a\\]b\\\\c]",
    }


@pytest.mark.parametrize("form", ["yaml", "json", "properties"])
def test_an_exported_file_is_imported_as_the_same_keys(
    service: Service, layer: Layer, form: str
) -> None:
    address = f"/api/configs/{layer.service}"
    data = {"nodeSelector": {"kubernetes.io/os": "linux"}, "loggers": {"[com.acme]": "INFO"}}
    environment: dict[str, Any] = {"environment": layer.environment}
    body_of(service.call("POST", address, {"config_data": data}, **environment), 201)

    exported = service.get("/api/v1/export", format=form, **where(layer))
    other: dict[str, Any] = {"environment": f"{layer.environment}2", "service_name": layer.service}
    imported = service.process.request(
        "POST",
        f"/api/v1/import?format={form}&environment={other['environment']}"
        f"&service_name={layer.service}",
        data=exported.body,
        headers={"Content-Type": exported.headers["Content-Type"].partition(";")[0]},
    )

    assert body_of(imported)["documents"][0]["status"] == "created"
    assert body_of(service.get("/api/v1/effective", **other))["data"] == data


@pytest.mark.parametrize(
    ("form", "media_type", "text", "expected"),
    [
        ("yaml", "application/yaml", "my:\n  map:\n    '[/api/**]': 1\n", {"my.map[/api/**]": 1}),
        (
            "yaml",
            "application/yaml",
            "nodeSelector:\n  kubernetes.io/os: linux\n",
            {"nodeSelector[kubernetes.io/os]": "linux"},
        ),
        ("yaml", "application/yaml", "My Team: [a]\n", {"[My Team]": ["a"]}),
        ("json", "application/json", '{"$schema": "s", "a": 1}', {"[$schema]": "s", "a": 1}),
        (
            "properties",
            "text/x-java-properties",
            "my.map[/api/**].list[0]=x\n",
            {"my.map[/api/**].list": ["x"]},
        ),
        ("dotenv", "text/x-dotenv", f"{'A' * 78}=1\n", {f"[{'A' * 78}]": "1"}),
    ],
)
def test_ordinary_files_are_imported(
    service: Service, layer: Layer, form: str, media_type: str, text: str, expected: object
) -> None:
    query = f"format={form}&environment={layer.environment}&service_name={layer.service}"
    imported = service.process.request(
        "POST",
        f"/api/v1/import?{query}",
        data=text.encode(),
        headers={"Content-Type": media_type},
    )

    assert body_of(imported)["documents"][0]["status"] == "created"
    items = body_of(service.get(CONFIG, **where(layer)))["items"]
    assert {item["key"]: item["value"] for item in items} == expected


def test_one_key_with_two_values_is_refused(service: Service, layer: Layer) -> None:
    for body in ({"a.b": 1, "a": {"b": 2}}, {"a": {"b": 1}, "a[b]": 2}):
        answer = service.call("PATCH", CONFIG, {"set": body}, **where(layer))
        assert body_of(answer, 422)["code"] == "key_twice"
    query = f"format=yaml&environment={layer.environment}&service_name={layer.service}"
    for text in ("a.b: 1\na:\n  b: 2\n", json.dumps({"a": {"b": 1}, "a.b": 2})):
        answer = service.process.request(
            "POST",
            f"/api/v1/import?{query}",
            data=text.encode(),
            headers={"Content-Type": "application/yaml"},
        )
        assert body_of(answer, 422)["code"] == "bad_file"


@pytest.mark.parametrize("key", ["", "a\x00b", "a\nb", "y z" * 100])
def test_what_no_document_can_hold_is_refused_with_the_grammar(
    service: Service, layer: Layer, key: str
) -> None:
    answer = service.call("PATCH", CONFIG, {"set": {key: 1}}, **where(layer))

    assert answer.status in {400, 422}


def test_a_secret_may_have_any_name(service: Service, layer: Layer) -> None:
    body = {"key": "auth[https://npm.example/]", "value": "s3cret", "is_encrypted": True}
    assert body_of(service.call("POST", CONFIG, {**body, **where(layer)}), 201)["is_encrypted"]

    query = {"key": "auth[https://npm.example/]", **where(layer)}
    assert body_of(service.get(f"{CONFIG}/-", **query))["value"] == {"$secret": "masked"}
    assert body_of(service.get(f"{CONFIG}/-", reveal=True, **query))["value"] == "s3cret"
    effective = body_of(service.get("/api/v1/effective", reveal=True, **where(layer)))
    assert effective["data"] == {"auth": {"https://npm.example/": "s3cret"}}
