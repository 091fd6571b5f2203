"""The flags of an environment as a file of our own: everything, and exactly."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.client import Service, body_of
from tests.e2e.flags import FLAGS, SEGMENTS, Flags
from tests.e2e.test_flag_lifecycle import act
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

USERS = [f"user-{number}" for number in range(60)]
JSON = {"Content-Type": "application/json"}
MIB = 1024 * 1024


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def export(flags: Flags) -> bytes:
    answer = flags.get("export", format="pilothouse")
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return answer.body


def load(flags: Flags, document: Any, **query: Any) -> Answer:
    parameters = {"format": "pilothouse", "environment": flags.environment, **query}
    return flags.of.call("POST", f"{FLAGS}/import", document, **parameters)


def fill(flags: Flags) -> None:
    """Make something of every kind."""
    where = {"environment": flags.environment}
    cidr = {"attribute": "ip", "op": "cidr", "values": ["10.0.0.0/8"]}
    for name, when in (
        (
            "z-inner",
            {
                "any": [
                    cidr,
                    {
                        "rollout": {
                            "by": "user_id",
                            "salt": "s",
                            "hash": "murmur3-1",
                            "percent": 12.345,
                        }
                    },
                ]
            },
        ),
        ("a-outer", {"not": {"segment": "z-inner"}}),
        ("unused", None),
    ):
        segment = {"name": name, "description": f"über {name}", "when": when, **where}
        body_of(flags.of.call("POST", SEGMENTS, segment), 201)
    body_of(
        flags.create("simple", rollout_percentage=33.333, target_users=["ann", 101, "\u2028"]), 201
    )
    body_of(flags.edit("PATCH", "simple", rollout_percentage=71.5))
    body_of(flags.create("off-by-name"), 201)
    objects = {"b": {"z": 1, "a": [1.0, None, "é"]}, "a": {}, "c": []}
    rules: list[dict[str, Any]] = [
        {"id": "w", "active": {"from": "2026-01-01T00:00:00Z"}, "when": {"segment": "a-outer"}},
        {"id": "r", "when": None},
    ]
    rollout = {"by": "org.id", "salt": "s", "weights": {"c": 0.001, "b": 49.999, "a": 50}}
    rules[0]["serve"] = {"rollout": rollout}
    ends: dict[str, Any] = {"from": {"at": "2026-01-01T00:00:00Z", "percent": 0.5}}
    ends["to"] = {"at": "2036-01-01T00:00:00Z", "percent": 100}
    rules[1]["serve"] = {"progressive": {"variant": "b", "otherwise": "a", **ends}}
    need = [{"flag": "simple", "variants": ["on"]}]
    body_of(
        flags.create(
            "objects",
            type="object",
            variants=objects,
            default_variant="c",
            rules=rules,
            prerequisites=need,
            tags=["z", "a"],
            owner="payments",
        ),
        201,
    )
    numbers = {"type": "number", "variants": {"one": 1, "tiny": 1e-7}, "default_variant": None}
    body_of(flags.create("numbers", enabled=False, **numbers), 201)
    split = {"fractional": [["red", 30], ["blue", 70]]}
    colour = {"variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"}
    flagd = {"flags": {"colour": {"state": "ENABLED", **colour, "targeting": split}}}
    body_of(load(flags, flagd, format="flagd"))
    body_of(flags.create("old", rollout_percentage=5, target_users=["bob"]), 201)
    body_of(act(flags, "old", "archive"))
    body_of(flags.create("gone"), 201)
    assert flags.edit("DELETE", "gone").status == 204


def test_what_is_exported_comes_back_exactly(flags: Flags, service: Service) -> None:
    there = Flags(service)
    fill(flags)
    first = export(flags)

    dry = body_of(load(there, json.loads(first), dry_run=True))
    assert body_of(there.get())["items"] == []
    made = body_of(load(there, json.loads(first)))

    assert {**made, "dry_run": True} == dry
    assert made["report"] == []
    statuses = {item["name"]: item["status"] for item in made["items"]}
    assert statuses.pop("old") == "archived"
    assert set(statuses.values()) == {"created"}
    assert export(there) == first.replace(flags.environment.encode(), there.environment.encode())
    for name in ("simple", "objects", "colour"):
        for user in USERS:
            context = {"org": {"id": user}, "ip": "192.0.2.1"}
            answers = [f.evaluate(name, user, context=context) for f in (flags, there)]
            kept = ("value", "variant", "bucket", "reason", "rule_id")
            assert [answers[0][k] for k in kept] == [answers[1][k] for k in kept]
    again = body_of(load(there, json.loads(first)))
    assert {item["status"] for item in again["items"]} == {"unchanged"}
    assert body_of(act(there, "old", "restore"))["target_users"] == ["bob"]


def test_the_same_flags_make_the_same_file_line_by_line(flags: Flags) -> None:
    fill(flags)

    first = export(flags)

    assert export(flags) == first
    assert first.endswith(b"\n")
    names = [
        json.loads(line.rstrip(b",")) for line in first.splitlines() if line[:8] == b'{"name":'
    ]
    assert [one["name"] for one in names] == [
        *sorted(["simple", "off-by-name", "objects", "numbers", "colour", "old"]),
        *sorted(["z-inner", "a-outer", "unused"]),
    ]
    assert export(Flags(flags.of)).count(b"\n") == 2


def test_an_import_replaces_what_it_names_and_leaves_the_rest(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=10), 201)
    body_of(flags.create("b", rollout_percentage=10), 201)
    body_of(act(flags, "b", "archive"))
    document = json.loads(export(flags))
    body_of(flags.edit("PATCH", "a", rollout_percentage=90))
    body_of(act(flags, "a", "archive"))
    body_of(act(flags, "b", "restore"))
    body_of(flags.create("c"), 201)

    made = body_of(load(flags, document))

    assert {item["name"]: item["status"] for item in made["items"]} == {
        "a": "created",
        "b": "archived",
    }
    assert [flag["name"] for flag in body_of(flags.get())["items"]] == ["a", "c"]
    assert body_of(flags.get("a"))["rollout_percentage"] == 10


FLAG = {"name": "a", "type": "boolean", "variants": {"on": True}, "default_variant": "on"}
GOOD = {"format": "pilothouse-flags", "version": 1, "environment": "e", "flags": [], "segments": []}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a file of flagd": ({"flags": {}, "format": None}, "/format"),
    "another version": ({"version": 2}, "/version"),
    "true as the version": ({"version": True}, "/version"),
    "an unknown member": ({"flag": []}, "/flag"),
    "flags as an object": ({"flags": {}}, "/flags"),
    "a flag that is none": ({"flags": [1]}, "/flags/0"),
    "a flag without a name": ({"flags": [{**FLAG, "enabled": True, "name": ""}]}, "/flags/0/name"),
    "a flag without a switch": ({"flags": [FLAG]}, "/flags/0/enabled"),
    "archived as text": (
        {"flags": [{**FLAG, "enabled": True, "archived": "yes"}]},
        "/flags/0/archived",
    ),
    "a flag twice": ({"flags": [{**FLAG, "enabled": True}] * 2}, "/flags/1/name"),
    "a segment twice": ({"segments": [{"name": "s"}] * 2}, "/segments/1/name"),
    "a segment with a flaw": ({"segments": [{"name": "s", "when": 1}]}, "/segments/0/when"),
    "what is needed is missing": (
        {
            "flags": [
                {**FLAG, "enabled": True, "prerequisites": [{"flag": "x", "variants": ["on"]}]}
            ]
        },
        "/prerequisites/0/flag",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_with_a_flaw_is_refused_whole_and_the_place_is_named(
    flags: Flags, what: str
) -> None:
    changes, pointer = BAD[what]
    document = {**GOOD, "flags": [{**FLAG, "name": "sound", "enabled": True}], **changes}

    for query in ({"dry_run": True}, {"leave_out": True}, {}):
        refused = body_of(load(flags, document, **query), 422)
        assert refused["code"] == "bad_flag"
        assert refused["errors"][0]["pointer"] == f"#{pointer}"
    assert body_of(flags.get())["items"] == []


def test_a_missing_member_is_named(flags: Flags) -> None:
    for name in ("format", "version", "flags", "segments"):
        document = {key: value for key, value in GOOD.items() if key != name}
        refused = body_of(load(flags, document), 422)
        assert refused["errors"][0]["pointer"] == f"#/{name}"


def test_a_large_environment_comes_back(flags: Flags, service: Service) -> None:
    users = [f"{number:08}-{'x' * 28}" for number in range(20_000)]
    for name in ("a", "b", "c"):
        body_of(flags.create(name, rollout_percentage=5, target_users=users), 201)
    there = Flags(service)
    first = export(flags)
    assert len(first) > 2 * MIB

    path = f"{FLAGS}/import?format=pilothouse&environment={there.environment}"
    key = {**JSON, "Idempotency-Key": there.environment}
    answers = [
        service.process.request("POST", path, data=first, headers=key, timeout=60) for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [200, 200], answers[0].body
    assert export(there) == first.replace(flags.environment.encode(), there.environment.encode())


ADMIN = "backup-admin-token-of-32-characters-or-more"


@pytest.fixture(scope="module")
def guarded_service() -> Iterator[ServiceProcess]:
    environment = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(environment) as service:
        yield service


def test_only_who_is_known_may_send_much(guarded_service: ServiceProcess) -> None:
    body = json.dumps({**GOOD, "padding": "x" * 2 * MIB}).encode()
    path = f"{FLAGS}/import?format=pilothouse&environment=staging"

    for headers, code in (
        ({}, "token_missing"),
        ({"Authorization": "Bearer plh_wrong"}, "token_refused"),
        ({"Authorization": f"Bearer {ADMIN}"}, "bad_flag"),
    ):
        answer = guarded_service.request("POST", path, data=body, headers={**JSON, **headers})
        assert answer.json()["code"] == code
        assert (answer.headers["Connection"] == "close") is (code != "bad_flag")

    known = {**JSON, "Authorization": f"Bearer {ADMIN}"}
    for larger in (path, f"{FLAGS}?environment=staging"):
        limit = 32 * MIB if "import" in larger else MIB
        headers = {**known, "Content-Length": str(limit + 1)}
        answer = guarded_service.request("POST", larger, data=b"{" * 10, headers=headers)
        assert (answer.status, answer.json()["limit_bytes"]) == (413, limit)
