"""Flags are archived and restored, rolled back, and copied to another environment."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.flags import EVALUATE, FLAGS, SEGMENTS, Flags
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

USERS = [f"user-{number}" for number in range(60)]


@pytest.fixture
def flags(service: Service) -> Flags:
    return Flags(service)


def act(flags: Flags, name: str, action: str, /, **body: Any) -> Answer:
    path = f"{FLAGS}/{name}/{action}"
    return flags.of.call("POST", path, body or None, environment=flags.environment)


def _where(flags: Flags) -> Any:
    return {"environment": flags.environment}


def cohort(flags: Flags, name: str) -> set[str]:
    return {user for user in USERS if flags.evaluate(name, user)["enabled"]}


def names(flags: Flags, **query: Any) -> list[str]:
    return [flag["name"] for flag in body_of(flags.get(**query))["items"]]


def newest_action(flags: Flags, name: str) -> str:
    found: str = body_of(flags.get(f"{name}/history"))["items"][0]["action"]
    return found


def test_an_archived_flag_is_served_to_nobody_and_restored_as_it_was(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=40, tags=["web"], owner="payments"), 201)
    before, users = body_of(flags.get("a")), cohort(flags, "a")

    archived = act(flags, "a", "archive", comment="over")

    assert body_of(archived)["archived"] is True
    assert archived.headers["ETag"] == '"2"'
    evaluation = {"flag_name": "a", "environment": flags.environment, "user_id": "ann"}
    assert body_of(flags.of.call("POST", EVALUATE, evaluation), 404)["code"] == "flag_not_found"
    assert body_of(flags.ofrep("/a", context={"targetingKey": "ann"}), 404)["errorCode"] == (
        "FLAG_NOT_FOUND"
    )
    assert body_of(flags.ofrep(context={"targetingKey": "ann"}))["flags"] == []
    local = body_of(flags.of.get("/api/v1/flag-set", environment=flags.environment))
    assert local["flags"] == []
    assert (names(flags), names(flags, archived=True)) == ([], ["a"])
    assert names(flags, archived=True, tag="web", enabled=True) == ["a"]
    assert newest_action(flags, "a") == "archived"
    shown = body_of(flags.get("a"))
    assert {**shown, **dict.fromkeys(MOVING, 0)} == {
        **before,
        **dict.fromkeys(MOVING, 0),
        "archived": True,
    }

    restored = body_of(act(flags, "a", "restore"))

    assert (restored["version"], restored["archived"]) == (3, False)
    assert restored["rules"] == before["rules"]
    assert cohort(flags, "a") == users
    assert (names(flags), names(flags, archived=True)) == (["a"], [])
    assert newest_action(flags, "a") == "restored"


MOVING = ("version", "updated_at", "updated_by", "last_evaluated_at")


def test_archiving_twice_changes_nothing_and_restoring_twice_is_refused(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    first = act(flags, "a", "archive")
    again = act(flags, "a", "archive")
    assert (body_of(first)["version"], body_of(again)["version"]) == (2, 2)

    body_of(act(flags, "a", "restore"))
    refused = body_of(act(flags, "a", "restore"), 409)

    assert refused["code"] == "flag_not_archived"
    for action in ("archive", "restore", "rollback"):
        body = {"version": 1} if action == "rollback" else {}
        assert body_of(act(flags, "ghost", action, **body), 404)["code"] == "flag_not_found"


def test_if_match_and_idempotency_keys_hold_for_archiving(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    path, query = f"{FLAGS}/a/archive", _where(flags)

    stale = flags.of.call("POST", path, headers={"If-Match": '"7"'}, **query)
    key = {"Idempotency-Key": fresh_name("key"), "If-Match": '"1"'}
    first = flags.of.call("POST", path, headers=key, **query)
    again = flags.of.call("POST", path, headers=key, **query)

    assert body_of(stale, 412)["current_version"] == 1
    assert body_of(first)["version"] == body_of(again)["version"] == 2
    assert body_of(act(flags, "a", "archive", environment="elsewhere"), 422)["code"] == "bad_flag"


@pytest.mark.parametrize(
    ("method", "body"),
    [("PUT", {"enabled": True}), ("PATCH", {"enabled": True}), ("PUT", {"variants": {}})],
)
def test_an_archived_flag_is_not_written(flags: Flags, method: str, body: Any) -> None:
    body_of(flags.create("a"), 201)
    body_of(act(flags, "a", "archive"))

    refused = flags.edit(method, "a", **body)

    expected = "flag_archived" if "enabled" in body else "bad_flag"
    assert refused.status in {409, 422}
    assert body_of(refused, refused.status)["code"] in {expected, "flag_archived"}
    assert body_of(flags.create("a"), 409)["code"] == "flag_archived"
    assert body_of(act(flags, "a", "rollback", version=1), 409)["code"] == "flag_archived"
    document = {"flags": {"a": {"state": "ENABLED", "variants": {"on": True}}}}
    imported = flags.of.call(
        "POST", f"{FLAGS}/import", document, format="flagd", environment=flags.environment
    )
    assert body_of(imported, 409)["code"] == "flag_archived"


def test_an_archived_flag_is_deleted_for_good(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    body_of(act(flags, "a", "archive"))

    assert flags.edit("DELETE", "a").status == 204

    assert body_of(flags.get("a"), 404)["code"] == "flag_not_found"
    assert body_of(act(flags, "a", "restore"), 404)["code"] == "flag_not_found"
    assert body_of(flags.create("a"), 201)["version"] == 4


def test_a_flag_that_others_need_is_not_archived_and_an_archived_one_is_not_needed(
    flags: Flags,
) -> None:
    body_of(flags.create("base", enabled=True), 201)
    need = [{"flag": "base", "variants": ["on"]}]
    body_of(flags.create("top", enabled=True, prerequisites=need), 201)

    refused = body_of(act(flags, "base", "archive"), 409)
    assert (refused["code"], refused["users"]) == ("flag_in_use", ["flag top"])

    body_of(act(flags, "top", "archive"))
    body_of(act(flags, "base", "archive"))
    lost = body_of(act(flags, "top", "restore"), 422)
    assert "archived" in lost["errors"][0]["detail"]
    assert lost["errors"][0]["pointer"] == "#/prerequisites/0/flag"
    created = body_of(flags.create("other", enabled=True, prerequisites=need), 422)
    assert (created["code"], created["errors"][0]["code"]) == ("bad_flag", "archived_flag")


def test_the_audit_and_the_log_tell_of_archiving(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    answers = [act(flags, "a", "archive"), act(flags, "a", "restore")]

    rows = [
        flags.of.backend.audit(answer.headers["X-Request-Id"])[0]["facts"] for answer in answers
    ]
    changes = body_of(flags.of.get("/api/v1/changes", environment=flags.environment, kind="flag"))[
        "items"
    ]

    assert [row["state"] for row in rows] == ["archived", "restored"]
    assert len({row[side] for row in rows for side in ("before", "after")}) == 1
    assert [change["action"] for change in changes] == ["created", "deleted", "created"]


def test_a_rollback_brings_back_the_buckets_of_its_version(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=30, description="first"), 201)
    users = cohort(flags, "a")
    body_of(flags.edit("PATCH", "a", rollout_percentage=90, description="second"))
    body_of(flags.edit("PATCH", "a", rollout_percentage=10))

    rolled = act(flags, "a", "rollback", version=1, comment="back")

    assert body_of(rolled)["version"] == 4
    assert body_of(rolled)["description"] == "first"
    assert cohort(flags, "a") == users
    newest = body_of(flags.get("a/history"))["items"][0]
    assert (newest["action"], newest["comment"]) == ("rolled_back", "back")
    assert body_of(act(flags, "a", "rollback", version=1))["version"] == 4


def test_a_rollback_brings_back_a_deleted_flag_but_no_deletion(flags: Flags) -> None:
    body_of(flags.create("a", rollout_percentage=30), 201)
    assert flags.edit("DELETE", "a").status == 204

    deletion = body_of(act(flags, "a", "rollback", version=2), 409)
    missing = body_of(act(flags, "a", "rollback", version=3), 404)
    back = body_of(act(flags, "a", "rollback", version=1))

    assert (deletion["code"], deletion["version"]) == ("flag_version_is_deletion", 2)
    assert (missing["code"], missing["version"]) == ("flag_version_not_found", 3)
    assert (back["version"], back["rollout_percentage"]) == (3, 30)
    assert body_of(act(flags, "a", "rollback", version=0), 422)["code"] == "invalid"
    assert body_of(act(flags, "a", "rollback", version=True), 422)["code"] == "invalid"


def test_a_rollback_needs_what_its_version_needs(flags: Flags) -> None:
    segment = {"name": "staff", "environment": flags.environment, "when": None}
    body_of(flags.of.call("POST", SEGMENTS, segment), 201)
    rule = {"id": "staff", "when": {"segment": "staff"}, "serve": {"variant": "on"}}
    body_of(flags.create("a", rules=[rule]), 201)
    body_of(flags.edit("PATCH", "a", rules=[]))
    query = _where(flags)
    assert flags.of.call("DELETE", f"{SEGMENTS}/staff", **query).status == 204

    refused = body_of(act(flags, "a", "rollback", version=1), 422)

    assert refused["errors"][0]["code"] == "unknown_segment"


def test_a_rollback_to_another_type_of_a_flag_in_use_is_forced(flags: Flags) -> None:
    body_of(flags.create("a", enabled=True), 201)
    number = {"type": "integer", "variants": {"one": 1}, "default_variant": "one"}
    body_of(flags.edit("PUT", "a", enabled=True, off_variant=None, **number))
    flags.evaluate("a", "ann")

    refused = body_of(act(flags, "a", "rollback", version=1), 409)
    path = f"{FLAGS}/a/rollback"
    query = {**_where(flags), "force": True}
    forced = body_of(flags.of.call("POST", path, {"version": 1}, **query))

    assert refused["code"] == "flag_type_in_use"
    assert forced["type"] == "boolean"


def test_a_copy_keeps_everybodys_bucket(flags: Flags, service: Service) -> None:
    there = Flags(service)
    body_of(flags.create("a", rollout_percentage=30, target_users=["ann"], tags=["web"]), 201)
    body_of(flags.edit("PATCH", "a", rollout_percentage=60))

    dry = body_of(act(flags, "a", "copy", to=there.environment, dry_run=True))
    assert names(there) == []
    copied = act(flags, "a", "copy", to=there.environment)
    again = body_of(act(flags, "a", "copy", to=there.environment))

    assert {**body_of(copied), "dry_run": True} == dry
    assert (dry["status"], dry["version"], dry["missing"]) == ("created", 1, [])
    assert int(copied.headers["X-Revision"]) > 0
    assert (again["status"], again["version"]) == ("unchanged", 1)
    assert cohort(there, "a") == cohort(flags, "a")
    assert body_of(there.get("a"))["rules"] == body_of(flags.get("a"))["rules"]


def test_a_copy_replaces_nothing_unless_it_is_told_to(flags: Flags, service: Service) -> None:
    there = Flags(service)
    body_of(flags.create("a", rollout_percentage=30), 201)
    body_of(there.create("a", rollout_percentage=10), 201)
    to = there.environment

    for dry_run in (True, False):
        refused = body_of(act(flags, "a", "copy", to=to, dry_run=dry_run), 409)
        assert refused["code"] == "flag_exists"
    body_of(act(there, "a", "archive"))
    archived = body_of(act(flags, "a", "copy", to=to), 409)
    replaced = body_of(act(flags, "a", "copy", to=to, overwrite=True))

    assert archived["code"] == "flag_archived"
    assert (replaced["status"], replaced["version"]) == ("created", 3)
    body_of(flags.edit("PATCH", "a", rollout_percentage=70))
    replaced = body_of(act(flags, "a", "copy", to=to, overwrite=True))
    assert (replaced["status"], replaced["version"]) == ("updated", 4)


def test_a_copy_names_all_that_is_missing_there(flags: Flags, service: Service) -> None:
    there = Flags(service)
    for name in ("s1", "s2"):
        segment = {"name": name, "environment": flags.environment, "when": None}
        body_of(service.call("POST", SEGMENTS, segment), 201)
    for name in ("p1", "p2"):
        body_of(flags.create(name, enabled=True), 201)
    body_of(there.create("p2", enabled=True), 201)
    body_of(act(there, "p2", "archive"))
    rules = [
        {"id": name, "when": {"segment": name}, "serve": {"variant": "on"}} for name in ("s1", "s2")
    ]
    needs = [{"flag": name, "variants": ["on"]} for name in ("p1", "p2")]
    body_of(flags.create("a", rules=rules, prerequisites=needs), 201)
    to = there.environment

    refused = body_of(act(flags, "a", "copy", to=to), 422)
    dry = body_of(act(flags, "a", "copy", to=to, dry_run=True))

    assert refused["code"] == "flag_references_missing"
    assert [flaw["pointer"] for flaw in refused["errors"]] == [
        "#/rules/0/when",
        "#/rules/1/when",
        "#/prerequisites/0/flag",
        "#/prerequisites/1/flag",
    ]
    assert [(one["kind"], one["name"], one["archived"]) for one in dry["missing"]] == [
        ("segment", "s1", False),
        ("segment", "s2", False),
        ("flag", "p1", False),
        ("flag", "p2", True),
    ]
    assert names(there) == []


def test_what_cannot_be_copied_is_refused(flags: Flags) -> None:
    body_of(flags.create("a"), 201)
    body_of(flags.create("b"), 201)
    body_of(act(flags, "b", "archive"))
    other = fresh_name("e")

    assert body_of(act(flags, "a", "copy", to=flags.environment), 422)["code"] == "bad_flag"
    assert body_of(act(flags, "a", "copy", to="no name"), 422)["code"] == "bad_environment"
    assert body_of(act(flags, "ghost", "copy", to=other), 404)["code"] == "flag_not_found"
    assert body_of(act(flags, "b", "copy", to=other), 409)["code"] == "flag_archived"


@pytest.fixture(scope="module")
def guarded_service() -> Iterator[ServiceProcess]:
    environment = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(environment) as service:
        yield service


ADMIN = "lifecycle-admin-token-of-32-characters-or-more"


def test_a_copy_needs_to_read_here_and_to_write_there(guarded_service: ServiceProcess) -> None:
    def ask(token: str, path: str, **body: Any) -> Answer:
        return guarded_service.request(
            "POST", path, body, headers={"Authorization": f"Bearer {token}"}
        )

    def token(name: str, role: str, *environments: str) -> str:
        wanted = {"name": name, "class": "operator", "roles": [role], "services": ["*"]}
        made = ask(ADMIN, "/api/v1/tokens", **wanted, environments=list(environments))
        found: str = body_of(made, 201)["token"]
        return found

    for environment in ("staging", "production"):
        body_of(ask(ADMIN, FLAGS, name=f"of-{environment}", environment=environment), 201)
    up = f"{FLAGS}/of-staging/copy?environment=staging", "production"
    down = f"{FLAGS}/of-production/copy?environment=production", "staging"
    may = {
        token("t1", "editor", "staging", "production"): (False, True),
        token("t2", "editor", "staging"): (False, False),
        token("t3", "publisher", "production"): (False, False),
        token("t4", "viewer", "*"): (False, False),
        token("t5", "publisher", "staging", "production"): (True, True),
    }

    for holder, expected in may.items():
        answers = [ask(holder, path, to=to, dry_run=True) for path, to in (up, down)]
        assert [answer.status for answer in answers] == [
            200 if is_allowed else 403 for is_allowed in expected
        ]
