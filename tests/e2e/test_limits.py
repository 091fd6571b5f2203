"""What lies just inside the limits is taken, kept and given back by every route that shows it."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers.service import ServiceProcess

LONGEST_KEY = ".".join(["k" * 64] * 3 + ["k" * 61])
DEEPEST_KEY = ".".join("d" * 128)
DEEP = json.loads("[" * 62 + "]" * 62)
VALUES: dict[str, Any] = {
    "a key of 256 characters": {LONGEST_KEY: 1},
    "a key of 128 segments": {DEEPEST_KEY[:-2]: 1},
    "a list of 62 levels below 128 segments": {DEEPEST_KEY[:-2]: DEEP},
    "an integer of 4,300 digits": {"number": 10**4300 - 1},
    "the largest double": {"number": 1.7976931348623157e308},
    "the smallest double": {"number": 5e-324},
    "a negative nothing": {"number": -0.0},
    "an empty text": {"text": ""},
    "characters of every length": {"text": "a\u00e9\u4e16\U0001d11e\u200b\ufeff\uffff"},
    "control characters": {"text": "\x01\x1b[2J\x7f\x85\r\n\t"},
    "line ends of scripts": {"text": "\u2028\u2029</script>"},
    "names that are words": {"constructor": {"__proto__": {"null": None, "true": False}}},
    "nothing at all": {},
    "empty things": {"list": [], "object": {}, "lists": [[], [{}]]},
    "700 kB": {"text": "x" * 700_000},
    "3,000 keys": {f"k{number}": number for number in range(3_000)},
}


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess({}) as service:
        yield service


def spread(data: dict[str, Any]) -> dict[str, Any]:
    """Return what the service makes of dotted members."""
    tree: dict[str, Any] = {}
    for key, value in data.items():
        *outer, last = key.split(".")
        section = tree
        for name in outer:
            section = section.setdefault(name, {})
        section[last] = value
    return tree


@pytest.mark.parametrize("what", VALUES)
def test_what_is_just_allowed_is_kept_and_shown(service: ServiceProcess, what: str) -> None:
    data, target = VALUES[what], f"/api/configs/s{list(VALUES).index(what)}"

    created = service.request("POST", target, {"config_data": data})
    replaced = service.request("PUT", target, {"config_data": {**data, "more": True}})
    restored = service.request("POST", f"{target}/rollback", {"version": 1})

    assert [answer.status for answer in (created, replaced, restored)] == [201, 200, 200]
    read = service.request("GET", target)
    assert read.json()["config_data"] == spread(data)
    effective = f"/api/v1/effective?service_name={target.rpartition('/')[2]}"
    assert service.request("GET", effective).json()["data"] == spread(data)
    assert service.request("GET", f"{target}?version=1").json()["config_data"] == spread(data)
    difference = service.request("GET", f"{target}/diff?old_version=1&new_version=2").json()
    assert difference["added"] == {"more": True}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("form", ["yaml", "json", "properties", "dotenv"])
def test_what_is_just_allowed_can_be_exported(
    service: ServiceProcess, what: str, form: str
) -> None:
    name = f"e{list(VALUES).index(what)}"
    service.request("POST", f"/api/configs/{name}", {"config_data": VALUES[what]})

    exported = service.request("GET", f"/api/v1/export?service_name={name}&format={form}")

    assert exported.status == 200


@pytest.mark.parametrize("what", [what for what in VALUES if "segments" not in what])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_was_exported_is_what_an_import_finds(
    service: ServiceProcess, what: str, form: str
) -> None:
    name = f"i{list(VALUES).index(what)}"
    service.request("POST", f"/api/configs/{name}", {"config_data": VALUES[what]})
    exported = service.request("GET", f"/api/v1/export?service_name={name}&format={form}")

    question = f"/api/v1/import?service_name={name}&format={form}&dry_run=true"
    answer = service.request("POST", question, data=exported.body)

    assert [document["status"] for document in answer.json()["documents"]] == ["unchanged"]


@pytest.mark.parametrize(
    "name", ["a" * 63, "A", "_", "0", "a.b-c_d", "_shared", "default", "1.2.3"]
)
def test_a_name_inside_the_grammar_can_be_used_everywhere(
    service: ServiceProcess, name: str
) -> None:
    layer = f"environment={name}&service_name={name}&user={name}"

    set_ = service.request("PATCH", f"/api/v1/config?{layer}", {"set": {"a": name}})
    read = service.request("GET", f"/api/v1/config/a?{layer}")

    assert (set_.status, read.status) == (200, 200)
    assert read.json()["source"] == {"environment": name, "service_name": name, "user": name}


@pytest.mark.parametrize("user", ["a@b.example", "a+b@c", "0@0", "u" * 63])
def test_a_user_may_be_an_address(service: ServiceProcess, user: str) -> None:
    body = {"key": "a", "value": 1, "service_name": "users", "user": user}

    created = service.request("POST", "/api/v1/config", body)

    assert created.status == 201
    read = service.request("GET", created.headers["Location"])
    assert read.json()["source"]["user"] == user
    assert service.request("GET", f"/api/v1/config/a?service_name=users&user={quote(user)}").status


@pytest.mark.parametrize(
    "key", ["a" * 64, LONGEST_KEY, DEEPEST_KEY[:-2], "-", "_.-", "0", "history"]
)
def test_a_key_inside_the_grammar_can_be_used_everywhere(service: ServiceProcess, key: str) -> None:
    layer = f"service_name=keys{len(key)}{key[0]}{key[-1].strip('-')}_"
    at = f"/api/v1/config/{key}?{layer}"
    body = {"key": key, "value": 1, "service_name": layer.partition("=")[2]}

    created = service.request("POST", "/api/v1/config", body)
    replaced = service.request("PUT", at, {"value": 2, "is_encrypted": True})
    restored = service.request("POST", at.replace("?", "/rollback?"), {"version": 1})
    history = service.request("GET", at.replace("?", "/history?"))
    removed = service.request("DELETE", at)

    statuses = [answer.status for answer in (created, replaced, restored, history, removed)]
    assert statuses == [201, 200, 200, 200, 204]


def test_a_body_of_1_mib_is_read(service: ServiceProcess) -> None:
    keys = [f"{'k' * 60}{number:04}" for number in range(10_000)]
    body = json.dumps({"unset": keys, "comment": "c" * 1000}).encode()
    assert len(body) < 1024 * 1024
    padded = body[:-1] + b" " * (1024 * 1024 - len(body)) + b"}"

    answer = service.request("PATCH", "/api/v1/config?service_name=full", data=padded)

    assert answer.status == 200
    assert answer.json()["changed"] is False


def test_1000_keys_are_read_at_once(service: ServiceProcess) -> None:
    keys = [f"k{number}" for number in range(1000)]
    body = {"set": dict.fromkeys(keys, 1)}
    service.request("PATCH", "/api/v1/config?service_name=many", body)

    question = {"service_name": "many", "keys": keys}
    answer = service.request("POST", "/api/v1/config/bulk", question)

    assert len(answer.json()["items"]) == 1000
