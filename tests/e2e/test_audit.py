"""The audit over HTTP: who did what, when, from where, and what it changed."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.e2e.client import Layer, Service, body_of, fresh_name, fresh_secret
from tests.servers.service import ROOT

AUDIT = "/api/v1/audit"


def rows_of(service: Service, **filters: Any) -> list[Any]:
    return list(body_of(service.get(AUDIT, limit=1000, **filters))["items"])


def of_layer(layer: Layer) -> list[Any]:
    return rows_of(layer.of, environment=layer.environment, name=layer.service)


def last_seq(service: Service) -> int:
    rows = rows_of(service)
    while len(rows) == 1000:
        rows = rows_of(service, since_seq=rows[-1]["seq"])
    return int(rows[-1]["seq"]) if rows else 0


def flag(service: Service, name: str, environment: str) -> None:
    body = {
        "name": name,
        "type": "boolean",
        "environment": environment,
        "variants": {"on": True, "off": False},
        "default_variant": "on",
        "off_variant": "off",
        "enabled": True,
        "rules": [],
    }
    body_of(service.call("POST", "/api/v1/feature-flags", body), 201)


def test_each_change_says_what_it_changed_without_saying_it(layer: Layer) -> None:
    secret = fresh_secret()
    layer.create("a", 1)
    layer.put("a", secret)
    layer.patch(encrypt=["a"])
    layer.rollback("a", 1)
    layer.delete_document()

    rows = of_layer(layer)

    assert [row["action"] for row in rows] == [
        "created",
        "updated",
        "updated",
        "rolled_back",
        "deleted",
    ]
    before = [row["facts"]["before"] for row in rows]
    after = [row["facts"]["after"] for row in rows]
    assert before == [None, *after[:-1]]
    assert after[-1] is None
    assert len({*after[:3]}) == 3
    assert all(len(each) == 32 for each in after[:-1])
    assert secret not in json.dumps(rows)
    assert {row["source"] for row in rows} == {"127.0.0.1"}
    assert [row["version"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["kind"] == "config" and row["request_id"] for row in rows)


def test_the_same_content_has_the_same_fingerprint(layer: Layer) -> None:
    layer.create("a", 1)
    layer.put("a", 2)
    layer.rollback_document(1)

    facts = [row["facts"]["after"] for row in of_layer(layer)]

    assert facts[0] == facts[2] != facts[1]


def test_flags_and_instances_are_told_alike(service: Service) -> None:
    environment, name = fresh_name("environment"), fresh_name("flag")
    since = last_seq(service)
    flag(service, name, environment)
    path = f"/api/v1/feature-flags/{name}?environment={environment}"
    assert service.call("DELETE", path).status == 204
    body = {"service_name": name, "service_url": "http://10.0.0.7", "instance_id": "one"}
    body_of(service.call("POST", "/api/v1/registry/register", body), 201)
    again = {**body, "version": "2"}
    body_of(service.call("POST", "/api/v1/registry/register", again), 200)
    gone = {"service_name": name, "instance_id": "one"}
    body_of(service.call("POST", "/api/v1/registry/deregister", gone), 200)

    flags = rows_of(service, since_seq=since, kind="flag", name=name)
    instances = rows_of(service, since_seq=since, name=f"{name}/one")

    for rows in (flags, instances):
        before = [row["facts"]["before"] for row in rows]
        assert before == [None, *(row["facts"]["after"] for row in rows[:-1])]
        assert rows[-1]["facts"]["after"] is None
        assert {row["source"] for row in rows} == {"127.0.0.1"}
    assert [row["action"] for row in flags] == ["created", "deleted"]
    assert [row["action"] for row in instances] == ["created", "updated", "deleted"]


def test_a_reveal_names_its_keys_and_where_it_went(layer: Layer) -> None:
    layer.patch(set={"a": "x"}, encrypt=["a"])
    layer.get("a", reveal=True)

    row = of_layer(layer)[-1]

    assert (row["action"], row["facts"]) == ("revealed", {"keys": ["a"]})
    assert (row["source"], row["version"]) == ("127.0.0.1", None)


def test_pages_follow_each_other(layer: Layer) -> None:
    for number in range(5):
        layer.put("a", number) if number else layer.create("a", number)
    filters_of_layer: dict[str, Any] = {"environment": layer.environment, "name": layer.service}

    found: list[Any] = []
    cursor = None
    while True:
        page = body_of(layer.of.get(AUDIT, limit=2, cursor=cursor, **filters_of_layer))
        assert len(page["items"]) <= 2
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            break

    assert found == of_layer(layer)
    assert [row["version"] for row in found] == [1, 2, 3, 4, 5]
    assert rows_of(layer.of, since_seq=found[2]["seq"], **filters_of_layer) == found[3:]


def test_rows_are_found_by_what_they_say(layer: Layer) -> None:
    layer.create("a", 1)
    layer.put("a", 2)
    first, second = of_layer(layer)
    filters_of_layer: dict[str, Any] = {"environment": layer.environment, "name": layer.service}

    for filters, wanted in (
        ({"action": "updated"}, [second]),
        ({"actor": "nobody"}, []),
        ({"kind": "flag"}, []),
        ({"from": second["at"]}, [second]),
        ({"to": second["at"]}, [first]),
        ({"from": first["at"], "to": second["at"], "action": "created"}, [first]),
    ):
        assert rows_of(layer.of, **filters_of_layer, **filters) == wanted


def test_all_of_it_is_exported_a_line_a_row(layer: Layer) -> None:
    layer.create("a", 1)
    layer.put("a", 2)
    filters_of_layer: dict[str, Any] = {"environment": layer.environment, "name": layer.service}

    answer = layer.of.get(AUDIT, headers={"Accept": "application/x-ndjson"}, **filters_of_layer)

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.body.decode().splitlines()] == of_layer(layer)


def test_what_is_asked_badly_is_refused(service: Service) -> None:
    badly: list[dict[str, Any]] = [{"from": "yesterday"}, {"to": "2026-13-01T00:00:00Z"}]
    for question in badly:
        assert body_of(service.get(AUDIT, **question), 400)["code"] == "bad_moment"
    assert body_of(service.get(AUDIT, cursor="x"), 400)["code"] == "bad_cursor"


def test_what_a_running_service_has_written_is_verified(service: Service) -> None:
    found = subprocess.run(
        (sys.executable, "-m", "app", "audit", "verify"),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_DATA_DIR": str(service.process.data_folder),
            **service.settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stderr) == (0, "")
    assert "rows are as they were written" in found.stdout
