"""A flag is turned off at once, in one environment, with a reason."""

from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.flags import FLAGS, Flags
from tests.servers.answer import Answer


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def kill(flags: Flags, name: str, /, headers: Any = None, **body: Any) -> Answer:
    path = f"{FLAGS}/{name}/kill"
    return flags.of.call("POST", path, body, headers=headers, environment=flags.environment)


def test_a_flag_is_turned_off_and_nothing_else_of_it_changes(flags: Flags) -> None:
    elsewhere = f"{flags.environment}-b"
    members: dict[str, Any] = {"rollout_percentage": 100, "owner": "web", "tags": ["t"]}
    body_of(flags.create("a", **members), 201)
    other = {**members, "name": "a", "environment": elsewhere}
    body_of(flags.of.call("POST", FLAGS, other), 201)
    before = body_of(flags.get("a"))
    assert flags.evaluate("a", "ann")["enabled"] is True

    killed = kill(flags, "a", reason="errors at the till")

    shown = body_of(killed)
    moving = dict.fromkeys(("version", "updated_at", "updated_by", "last_evaluated_at"))
    assert {**shown, **moving} == {**before, **moving, "enabled": False}
    assert (shown["version"], killed.headers["ETag"]) == (2, '"2"')
    evaluation = flags.evaluate("a", "ann")
    assert (evaluation["enabled"], evaluation["reason"]) == (False, "DISABLED")
    newest = body_of(flags.get("a/history"))["items"][0]
    assert (newest["action"], newest["comment"]) == ("updated", "errors at the till")
    assert newest["diff"]["changed"].keys() == {"enabled"}
    assert body_of(flags.of.get(f"{FLAGS}/a", environment=elsewhere))["enabled"] is True


def test_the_audit_has_the_reason_among_the_facts(flags: Flags) -> None:
    body_of(flags.create("a", enabled=True), 201)
    body_of(kill(flags, "a", reason="errors at the till"))

    rows = body_of(flags.of.get("/api/v1/audit", environment=flags.environment))["items"]

    created, killed = [row["facts"] for row in rows if row["name"] == "a"]
    assert killed == {**killed, "reason": "errors at the till"}
    assert killed.keys() == {*created, "reason"}


def test_a_flag_that_is_off_stays_as_it_is(flags: Flags) -> None:
    body_of(flags.create("a", enabled=True), 201)
    key = {"Idempotency-Key": fresh_name("key"), "If-Match": '"1"'}

    first = body_of(kill(flags, "a", key, reason="r"))
    again = body_of(kill(flags, "a", key, reason="r"))
    other = body_of(kill(flags, "a", reason="another"))

    assert (first["version"], again["version"], other["version"]) == (2, 2, 2)
    assert body_of(kill(flags, "a", {"If-Match": '"1"'}, reason="r"), 412)["current_version"] == 2


def test_flags_that_need_it_see_it_as_off(flags: Flags) -> None:
    body_of(flags.create("base", enabled=True), 201)
    need = [{"flag": "base", "variants": ["on"]}]
    body_of(flags.create("top", enabled=True, prerequisites=need), 201)
    assert flags.evaluate("top", "ann")["enabled"] is True

    body_of(kill(flags, "base", reason="r"))

    evaluation = flags.evaluate("top", "ann")
    assert (evaluation["enabled"], evaluation["prerequisite"]) == (False, "base")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": ""},
        {"reason": " \t"},
        {"reason": None},
        {"reason": 1},
        {"reason": "x" * 1001},
        {"reason": "r", "enabled": True},
        {"reason": "r", "comment": "c"},
        {"reason": "r", "rules": []},
    ],
    ids=lambda body: str(body)[:30],
)
def test_nothing_passes_but_a_reason(flags: Flags, body: dict[str, Any]) -> None:
    body_of(flags.create("a", enabled=True), 201)

    assert body_of(kill(flags, "a", **body), 422)["code"] == "invalid"

    assert body_of(flags.get("a"))["version"] == 1


def test_no_flag_and_archived_flags_are_not_turned_off(flags: Flags) -> None:
    body_of(flags.create("old", enabled=True), 201)
    path = f"{FLAGS}/old/archive"
    body_of(flags.of.call("POST", path, None, environment=flags.environment))

    assert body_of(kill(flags, "old", reason="r"), 409)["code"] == "flag_archived"
    assert body_of(kill(flags, "ghost", reason="r"), 404)["code"] == "flag_not_found"
    contradiction = kill(flags, "old", reason="r", environment="elsewhere")
    assert body_of(contradiction, 422)["code"] == "bad_flag"
