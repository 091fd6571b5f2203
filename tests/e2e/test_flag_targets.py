"""The users that a flag names, in lists of up to 100,000: replaced, appended and removed."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from benchmarks.shares import PROBED
from tests.e2e.client import Service, body_of, fresh_name, query_of
from tests.e2e.flags import FLAGS, Flags
from tests.e2e.test_flag_lifecycle import act
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
MIB = 1024 * 1024
MOST = 100_000
UUIDS = [str(UUID(int=number * 2**64 + number, version=4)) for number in range(MOST)]


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def send(flags: Flags, method: str, users: Any, /, name: str = "a", **query: Any) -> Answer:
    """Send a list as JSON, or a text as lines."""
    headers = {**(TEXT if isinstance(users, str) else JSON), **query.pop("headers", {})}
    data = (users if isinstance(users, str) else json.dumps(users)).encode()
    path = f"{FLAGS}/{name}/targets" + query_of({"environment": flags.environment, **query})
    return flags.of.process.request(method, path, data=data, headers=headers, timeout=60)


def counts(answer: Answer) -> tuple[int, int, int, int]:
    found = body_of(answer)
    return found["version"], found["count"], found["added"], found["removed"]


def target_users(flags: Flags, name: str = "a") -> list[str]:
    found: list[str] = body_of(flags.get(name))["target_users"]
    return found


def test_users_are_replaced_appended_and_removed(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=10, description="kept"), 201)
    rollout = body_of(flags.get("a"))["rules"]

    assert counts(send(flags, "PUT", ["ann", "bob"])) == (2, 2, 2, 0)
    assert counts(send(flags, "POST", ["bob", 101, "eve", "eve"])) == (3, 4, 2, 0)
    assert target_users(flags) == ["ann", "bob", "101", "eve"]
    assert counts(send(flags, "DELETE", ["bob", "ghost", 101])) == (4, 2, 0, 2)
    assert counts(send(flags, "PUT", ["zoe", "ann"])) == (5, 2, 1, 1)
    assert flags.evaluate("a", "zoe")["rule_id"] == "targeted-users"
    assert flags.evaluate("a", "eve")["rule_id"] != "targeted-users"
    assert counts(send(flags, "PUT", [])) == (6, 0, 0, 2)
    shown = body_of(flags.get("a"))
    assert (shown["rules"], shown["description"]) == (rollout, "kept")


def test_what_is_so_already_changes_nothing(flags: Flags) -> None:
    body_of(flags.create("a", target_users=["ann", "bob"]), 201)

    for method, users in (("PUT", ["bob", "ann"]), ("POST", ["ann"]), ("DELETE", ["eve"])):
        answer = send(flags, method, users)
        assert counts(answer) == (1, 2, 0, 0)
        assert "X-Revision" not in answer.headers
        assert answer.headers["ETag"] == '"1"'
    assert len(body_of(flags.get("a/history"))["items"]) == 1


def test_a_dry_run_counts_and_writes_nothing(flags: Flags) -> None:
    body_of(flags.create("a", target_users=["ann", "bob"]), 201)

    for method, users in (("PUT", ["eve"]), ("POST", ["eve"]), ("DELETE", ["ann"])):
        dry = body_of(send(flags, method, users, dry_run=True))
        assert dry["dry_run"] is True
        assert target_users(flags) == ["ann", "bob"]
        made = body_of(send(flags, method, users))
        assert {**made, "dry_run": True} == dry
        body_of(send(flags, "PUT", ["ann", "bob"]))


def test_a_text_has_one_user_a_line(flags: Flags) -> None:
    body_of(flags.create("a"), 201)

    text = "\ufeffann\r\n  bob smith \n\n101\nå\u2028b\x0bc\nann"
    assert counts(send(flags, "PUT", text)) == (2, 4, 4, 0)
    assert target_users(flags) == ["ann", "bob smith", "101", "å\u2028b\x0bc"]
    octets = {"Content-Type": "application/octet-stream"}
    assert counts(send(flags, "DELETE", "101\n", headers=octets)) == (3, 3, 0, 1)


BAD: dict[str, tuple[Any, int, str, str]] = {
    "an object": ({"users": ["ann"]}, 422, "bad_flag", "#"),
    "null": (None, 422, "bad_flag", "#"),
    "true": (["ann", True], 422, "bad_flag", "#/1"),
    "a fraction": ([1.5], 422, "bad_flag", "#/0"),
    "null in it": (["ann", None], 422, "bad_flag", "#/1"),
    "a list in it": ([["ann"]], 422, "bad_flag", "#/0"),
    "an empty id": ([""], 422, "bad_flag", "#/0"),
    "a long id": (["x" * 1001], 422, "bad_flag", "#/0"),
    "a long number": ([10**1001], 422, "bad_flag", "#/0"),
    "half of a pair": (["\ud800"], 400, "bad_json", ""),
    "NUL": (["a\0"], 400, "bad_json", ""),
    "too many": (list(range(MOST + 1)), 422, "bad_flag", "#"),
    "a long line": ("ann\n" + "x" * 1001, 422, "bad_flag", "#"),
    "NUL in a text": ("a\0b", 400, "bad_text", ""),
    "no line": (" \n\r\n", 422, "bad_flag", "#"),
    "nothing": ("", 422, "bad_flag", "#"),
}


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_bad_list_is_refused_and_the_place_is_named(flags: Flags, method: str) -> None:
    body_of(flags.create("a", target_users=["ann"]), 201)

    for what, (users, status, code, pointer) in BAD.items():
        if (method, what) == ("DELETE", "too many"):
            continue  # of them, one is removed and none is left over
        refused = body_of(send(flags, method, users), status)
        assert refused["code"] == code, what
        assert [flaw["pointer"] for flaw in refused.get("errors", ())] == [pointer] * (
            status == 422
        )
    assert target_users(flags) == ["ann"]


def test_a_form_is_no_list(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    assert counts(send(flags, "PUT", ["ann"], headers=form)) == (2, 1, 1, 0)  # what `curl -d` says
    assert send(flags, "PUT", "ann", headers=form).status == 415
    assert send(flags, "PUT", "ann", headers={"Content-Type": "text/csv"}).status == 415
    foreign = {**TEXT, "Origin": "http://127.0.0.1"}
    assert send(flags, "PUT", "ann", headers=foreign).status in {403, 415}
    assert target_users(flags) == ["ann"]


def test_if_match_and_idempotency_keys_hold(flags: Flags) -> None:
    body_of(flags.create("a"), 201)

    for method in ("PUT", "POST", "DELETE"):
        stale = send(flags, method, ["ann"], headers={"If-Match": '"7"'})
        assert body_of(stale, 412)["current_version"] == 1
    key = {"Idempotency-Key": fresh_name("key"), "If-Match": '"1"'}
    first, again = (send(flags, "POST", ["ann"], headers=key) for _ in range(2))
    other = send(flags, "POST", ["bob"], headers=key)

    assert counts(first) == counts(again) == (2, 1, 1, 0)
    assert body_of(other, 422)["code"] == "idempotency_key_reused"


def test_who_is_served_what_is_stated_where_it_is_not_clear(flags: Flags) -> None:
    kinds = {"type": "string", "variants": {"a": "A", "b": "B"}, "default_variant": "a"}
    rules = [{"id": "r", "when": None, "serve": {"variant": "a"}}]
    body_of(flags.create("a", rules=rules, **kinds), 201)

    unclear = body_of(send(flags, "PUT", ["ann"]), 422)
    unknown = body_of(send(flags, "PUT", ["ann"], variant="c"), 422)
    made = body_of(send(flags, "PUT", ["ann"], variant="b"))
    more = body_of(send(flags, "POST", ["bob"]))
    other = body_of(send(flags, "POST", ["eve"], variant="a"), 422)

    assert (unclear["errors"][0]["code"], unknown["errors"][0]["code"]) == (
        "missing",
        "unknown_variant",
    )
    assert (made["variant"], more["count"]) == ("b", 2)
    assert other["errors"][0]["code"] == "contradiction"
    assert [rule["id"] for rule in body_of(flags.get("a"))["rules"]] == ["targeted-users", "r"]
    assert flags.evaluate("a", "bob")["value"] == "B"
    assert flags.evaluate("a", "eve")["value"] == "A"


def test_a_rule_of_the_same_id_that_is_no_list_is_left_alone(flags: Flags) -> None:
    when = {"attribute": "country", "op": "in", "values": ["DE"]}
    rules = [{"id": "targeted-users", "when": when, "serve": {"variant": "on"}}]
    body_of(flags.create("a", rules=rules), 201)

    refused = body_of(send(flags, "PUT", ["ann"]), 422)

    assert refused["errors"][0] | {"detail": ""} == {
        "pointer": "#/rules/0",
        "detail": "",
        "code": "no_targets",
    }


def test_a_flag_that_is_on_for_all_stays_so(flags: Flags) -> None:
    body_of(flags.create("a", enabled=True), 201)
    body_of(flags.create("by-name"), 201)

    assert body_of(send(flags, "PUT", ["ann"]))["enabled"] is True
    assert body_of(send(flags, "PUT", ["ann"], "by-name"))["enabled"] is False

    assert flags.evaluate("a", "bob")["enabled"] is True
    shown = body_of(flags.get("a"))
    assert (shown["rollout_percentage"], shown["target_users"]) == (100, ["ann"])
    assert body_of(flags.get("by-name"))["enabled"] is False


def test_what_has_no_targets_is_refused(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    body_of(act(flags, "a", "archive"))

    assert body_of(send(flags, "PUT", ["ann"], "ghost"), 404)["code"] == "flag_not_found"
    assert body_of(send(flags, "PUT", ["ann"]), 409)["code"] == "flag_archived"
    assert send(flags, "PUT", ["ann"], environment="no name").status == 422
    assert send(flags, "PUT", ["ann"], env="x").status == 422
    assert flags.of.get(f"{FLAGS}/a/targets").status == 405


def test_a_hundred_thousand_uuids_fit_as_json_and_as_text(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=5), 201)

    answer = send(flags, "PUT", UUIDS, comment="all of them")
    assert counts(answer) == (2, MOST, MOST, 0)
    assert len(answer.body) < 1000
    assert counts(send(flags, "DELETE", "\n".join(UUIDS[: MOST // 2]))) == (
        3,
        MOST // 2,
        0,
        MOST // 2,
    )
    assert counts(send(flags, "POST", "\n".join(UUIDS))) == (4, MOST, MOST // 2, 0)
    one_more = body_of(send(flags, "POST", ["one more"]), 422)

    assert one_more["errors"][0]["code"] == "too_many"
    for user in (UUIDS[0], UUIDS[-1]):
        assert flags.evaluate("a", user)["rule_id"] == "targeted-users"
    assert flags.evaluate("a", "one more")["rule_id"] == "rollout"
    rows = flags.of.backend.audit(answer.headers["X-Request-Id"])
    assert [(row["action"], row["name"]) for row in rows] == [("updated", "a")]
    assert len(json.dumps(rows[0], default=str)) < 2000
    changes = body_of(flags.of.get("/api/v1/changes", environment=flags.environment))["items"]
    assert len(json.dumps(changes)) < 5000
    body_of(flags.edit("PATCH", "a", enabled=False))
    assert flags.evaluate("a", UUIDS[0])["enabled"] is False


def test_a_list_beyond_its_own_bound_is_refused(flags: Flags) -> None:
    body_of(flags.create("a"), 201)

    for method in ("PUT", "POST", "DELETE"):
        refused = send(flags, method, ["ann"], headers={"Content-Length": str(8 * MIB + 1)})
        found = body_of(refused, 413)
        assert (found["code"], found["limit_bytes"]) == ("too_large", 8 * MIB)
    assert len(body_of(flags.get("a/history"))["items"]) == 1


@pytest.fixture(scope="module")
def probed_service() -> Iterator[ServiceProcess]:
    with ServiceProcess({"LOG_LEVEL": "warning"}, PROBED) as service:
        yield service


# Milliseconds of the loop's thread; see test_shares.py.
LONGEST_STEP = 100.0


def test_no_list_holds_the_others(probed_service: ServiceProcess) -> None:
    made = probed_service.request("POST", FLAGS, {"name": "a", "rollout_percentage": 5})
    assert made.status == 201
    body = json.dumps(UUIDS).encode()
    half = "\n".join(UUIDS[: MOST // 2]).encode()
    path = f"{FLAGS}/a/targets"
    copied = json.dumps({"to": "other", "overwrite": True}).encode()
    held = {}
    for method, where, data, headers in (
        ("PUT", path, body, JSON),
        ("DELETE", path, half, TEXT),
        ("POST", path, body, {**JSON, "Idempotency-Key": "k"}),
        ("GET", f"{FLAGS}/a", None, {}),
        ("GET", FLAGS, None, {}),
        ("GET", f"{FLAGS}/a/history", None, {}),
        ("GET", "/api/v1/flag-set", None, {}),
        ("PATCH", f"{FLAGS}/a", b'{"enabled": true, "description": "x"}', JSON),
        ("POST", f"{FLAGS}/a/copy", copied, JSON),
        ("POST", f"{FLAGS}/a/archive", None, {}),
        ("POST", f"{FLAGS}/a/restore", None, {}),
        ("POST", f"{FLAGS}/a/rollback", b'{"version": 2}', JSON),
        ("GET", f"{FLAGS}/export?format=pilothouse", None, {}),
        ("GET", f"{FLAGS}/export?format=flagd&leave_out=true", None, {}),
        ("DELETE", f"{FLAGS}/a", None, {}),
    ):
        probed_service.request("GET", "/probe")
        answer = probed_service.request(method, where, data=data, headers=headers, timeout=60)
        assert answer.status < 300, (method, where, answer.body[:300])
        probe = probed_service.request("GET", "/probe").json()
        held[f"{method} {where}"] = probe["processor_ms"], probe["what"]

    assert {what: held[what] for what, (took, _) in held.items() if took > LONGEST_STEP} == {}
