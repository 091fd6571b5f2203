"""`dry_run=true` on every write of flags and segments: it shows the write, and writes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.flags import EVALUATE, FLAGS, SEGMENTS, Flags
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

FULL = {
    "type": "string",
    "variants": {"a": "x", "b": "y"},
    "default_variant": "a",
    "rules": [{"id": "staff", "when": {"segment": "staff"}, "serve": {"variant": "b"}}],
}
PLAN = {"attribute": "plan", "op": "in", "values": ["pro"]}
ON = {"on": True, "off": False}
FLAGD = {"flags": {"new": {"state": "ENABLED", "variants": ON, "defaultVariant": "on"}}}
ITEMS = {FLAGS: ("first", "kept", "old", "gone", "new"), SEGMENTS: ("staff", "beta", "new")}


@dataclass(frozen=True)
class Write:
    """One write to an environment, which is E in its query and its body."""

    method: str
    path: str
    body: Any = None
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, flags: Flags, **more: Any) -> Answer:
        query, body = {**self.query, **more}, self.body
        if (self.method, self.path) in {("POST", FLAGS), ("POST", SEGMENTS)}:
            body = {**body, "environment": flags.environment}
        else:
            query.setdefault("environment", flags.environment)
        if self.path.endswith("/copy"):
            body = {**body, "to": f"{flags.environment}-b"}
        headers = {**self.headers}
        if "Idempotency-Key" in headers:
            headers["Idempotency-Key"] += flags.environment
        return flags.of.call(self.method, self.path, body, headers=headers, **query)


KEY = {"Idempotency-Key": "key-"}
OVER_1 = {"If-Match": '"1"'}
# Each of its writes is one of a single flag or segment: the item, and the write.
WRITES: dict[str, tuple[str, Write]] = {
    "create a flag": ("new", Write("POST", FLAGS, {"name": "new", **FULL}, headers=KEY)),
    "create a deleted flag": ("gone", Write("POST", FLAGS, {"name": "gone"})),
    "replace a flag": ("first", Write("PUT", f"{FLAGS}/first", FULL, headers=OVER_1)),
    "replace by the simple form": ("first", Write("PUT", f"{FLAGS}/first", {"enabled": False})),
    "change a flag": ("first", Write("PATCH", f"{FLAGS}/first", {"rollout_percentage": 60})),
    "change nothing": ("first", Write("PATCH", f"{FLAGS}/first", {"rollout_percentage": 20})),
    "delete a flag": ("first", Write("DELETE", f"{FLAGS}/first", headers=OVER_1)),
    "delete an archived flag": ("old", Write("DELETE", f"{FLAGS}/old")),
    "archive a flag": ("first", Write("POST", f"{FLAGS}/first/archive", headers=KEY)),
    "archive an archived flag": ("old", Write("POST", f"{FLAGS}/old/archive")),
    "restore a flag": ("old", Write("POST", f"{FLAGS}/old/restore", headers=KEY)),
    "turn a flag off": (
        "first",
        Write("POST", f"{FLAGS}/first/kill", {"reason": "r"}, headers=KEY),
    ),
    "turn a flag off that is off": (
        "needing",
        Write("POST", f"{FLAGS}/needing/kill", {"reason": "r"}),
    ),
    "roll a flag back": ("kept", Write("POST", f"{FLAGS}/kept/rollback", {"version": 1})),
    "roll a deleted flag back": (
        "gone",
        Write("POST", f"{FLAGS}/gone/rollback", {"version": 1}, headers=KEY),
    ),
    "create a segment": ("new", Write("POST", SEGMENTS, {"name": "new"}, headers=KEY)),
    "replace a segment": ("staff", Write("PUT", f"{SEGMENTS}/staff", {"description": "we"})),
    "change a segment": ("staff", Write("PATCH", f"{SEGMENTS}/staff", {"when": {"not": PLAN}})),
    "delete a segment": ("beta", Write("DELETE", f"{SEGMENTS}/beta", headers=OVER_1)),
}
# Those whose answers have a form of their own, which is the same in a dry run.
OTHERS: dict[str, Write] = {
    "replace users": Write("PUT", f"{FLAGS}/first/targets", ["ann"]),
    "append users": Write("POST", f"{FLAGS}/first/targets", ["ann"], headers=KEY),
    "remove users": Write("DELETE", f"{FLAGS}/kept/targets", ["ann"]),
    "copy a flag": Write("POST", f"{FLAGS}/first/copy", {}, headers=KEY),
    "import flags": Write("POST", f"{FLAGS}/import", FLAGD, {"format": "flagd"}, KEY),
}


@pytest.fixture
def flags(service: Service) -> Flags:
    """An environment with flags and segments in every state."""
    flags = Flags(service)
    when = {"name": "staff", "environment": flags.environment, "when": PLAN}
    body_of(service.call("POST", SEGMENTS, when), 201)
    body_of(service.call("POST", SEGMENTS, {**when, "name": "beta"}), 201)
    body_of(flags.create("first", rollout_percentage=20), 201)
    rule = {"when": {"segment": "staff"}, "serve": {"variant": "on"}}
    body_of(flags.create("kept", target_users=["ann"]), 201)
    body_of(flags.edit("PATCH", "kept", rollout_percentage=50, owner="web"))
    body_of(flags.create("needing", prerequisites=[{"flag": "kept", "variants": ["on"]}]), 201)
    body_of(flags.create("using", rules=[rule]), 201)
    for name, method, path in (("old", "POST", "old/archive"), ("gone", "DELETE", "gone")):
        body_of(flags.create(name, owner="web"), 201)
        answer = service.call(method, f"{FLAGS}/{path}", environment=flags.environment)
        assert answer.status in {200, 204}
    return flags


def traces(flags: Flags) -> Any:
    """Return all that a write leaves behind: changes, items with their ETags, histories."""
    of = flags.of
    where: dict[str, Any] = {"environment": flags.environment}
    items = [
        (answer.status, answer.headers.get("ETag"), _without_request_id(answer.json()))
        for path, names in ITEMS.items()
        for name in names
        for answer in (of.get(f"{path}/{name}", **where), of.get(f"{path}/{name}/history", **where))
    ]
    there: dict[str, Any] = {"environment": f"{flags.environment}-b"}
    return items, [body_of(of.get("/api/v1/changes", **one))["items"] for one in (where, there)]


def _without_request_id(body: Any) -> Any:
    return {name: value for name, value in body.items() if name != "request_id"}


def newest(flags: Flags, path: str, name: str) -> Any:
    history = flags.of.get(f"{path}/{name}/history", environment=flags.environment, limit=1)
    return body_of(history)["items"][0] if history.status == 200 else {"version": 0}


@pytest.mark.parametrize(("name", "write"), WRITES.values(), ids=WRITES)
def test_a_preview_is_what_the_write_then_does(flags: Flags, name: str, write: Write) -> None:
    path = SEGMENTS if write.path.startswith(SEGMENTS) else FLAGS
    before, former = traces(flags), newest(flags, path, name)

    dry = write.send(flags, dry_run=True)
    shown = body_of(dry)

    assert traces(flags) == before
    assert flags.of.backend.audit(dry.headers["X-Request-Id"]) == []
    assert "X-Revision" not in dry.headers
    assert body_of(write.send(flags, dry_run=True)) == shown
    made = write.send(flags)
    assert made.status in {200, 201, 204}
    entry = newest(flags, path, name)
    is_there = former.get("definition") is not None
    assert shown == {
        "dry_run": True,
        "environment": flags.environment,
        "name": name,
        "kind": "segment" if path == SEGMENTS else "flag",
        "version": former["version"] if is_there else 0,
        "changed": entry["version"] == former["version"] + 1,
        "buckets": shown["buckets"],  # counted in test_a_preview_counts_the_buckets_that_move
        "diff": entry["diff"] if entry != former else {"added": {}, "removed": {}, "changed": {}},
        "definition": entry["definition"],
        "proposal_needed": None,
    }
    if "Idempotency-Key" in write.headers:  # the dry run has not used it up
        assert write.send(flags).headers["ETag"] == made.headers["ETag"]
        assert newest(flags, path, name) == entry


@pytest.mark.parametrize("write", OTHERS.values(), ids=OTHERS)
def test_what_has_an_answer_of_its_own_has_it_in_a_dry_run(flags: Flags, write: Write) -> None:
    before = traces(flags)

    dry = write.send(flags, dry_run=True)

    assert body_of(dry)["dry_run"] is True
    assert traces(flags) == before
    assert flags.of.backend.audit(dry.headers["X-Request-Id"]) == []
    assert {**body_of(write.send(flags)), "dry_run": True} == body_of(dry)
    assert traces(flags) != before


def test_a_preview_counts_the_buckets_that_move(flags: Flags) -> None:
    query: Any = {"environment": flags.environment, "dry_run": "true"}

    def buckets(method: str, path: str, body: Any = None) -> Any:
        return body_of(flags.of.call(method, f"{FLAGS}/{path}", body, **query))["buckets"]

    grown = buckets("PATCH", "first", {"rollout_percentage": 60})
    moves = [{"from": "off", "to": "on", "buckets": 40_000}]
    counts = {"total": 100_000, "moved": 40_000, "exact": True, "moves": moves}
    assert grown == {**counts, "rules": [{**counts, "rule_id": "rollout"}]}
    assert buckets("PATCH", "first", {"owner": "web"})["moved"] == 0
    assert buckets("POST", "first/kill", {"reason": "r"})["moved"] == 20_000
    assert buckets("POST", "first/archive") is None
    assert buckets("POST", "old/restore") is None
    assert buckets("DELETE", "first") is None


def test_every_write_of_flags_and_segments_takes_a_dry_run(service: Service) -> None:
    paths = body_of(service.get("/openapi.json"))["paths"]
    reading = {EVALUATE, f"{EVALUATE}/batch"}

    writes = {
        f"{method} {path}": [one["name"] for one in operation["parameters"]]
        for path, operations in paths.items()
        if path.startswith((FLAGS, SEGMENTS)) and path not in reading
        for method, operation in operations.items()
        if method != "get"
    }

    assert len(writes) == 17
    assert [write for write, names in writes.items() if "dry_run" not in names] == []


STALE = {"If-Match": '"7"'}
OF_NO_SEGMENT = [{"when": {"segment": "nobody"}, "serve": {"variant": "on"}}]
REFUSED: dict[str, tuple[int, Write]] = {
    "a flag that exists": (409, Write("POST", FLAGS, {"name": "first"})),
    "a segment that exists": (409, Write("POST", SEGMENTS, {"name": "staff"})),
    "an archived flag": (409, Write("POST", FLAGS, {"name": "old"})),
    "no such flag": (404, Write("PATCH", f"{FLAGS}/ghost", {"enabled": True})),
    "no such segment": (404, Write("DELETE", f"{SEGMENTS}/ghost")),
    "another version": (412, Write("PUT", f"{FLAGS}/first", {"enabled": True}, headers=STALE)),
    "another version to delete": (412, Write("DELETE", f"{FLAGS}/first", headers=STALE)),
    "another version to archive": (412, Write("POST", f"{FLAGS}/first/archive", headers=STALE)),
    "another version of a segment": (412, Write("PATCH", f"{SEGMENTS}/beta", {}, headers=STALE)),
    "a needed flag to delete": (409, Write("DELETE", f"{FLAGS}/kept")),
    "a needed flag to archive": (409, Write("POST", f"{FLAGS}/kept/archive")),
    "a segment in use": (409, Write("DELETE", f"{SEGMENTS}/staff")),
    "a flag to restore that is not archived": (409, Write("POST", f"{FLAGS}/first/restore")),
    "a missing version": (404, Write("POST", f"{FLAGS}/kept/rollback", {"version": 99})),
    "a missing reference": (422, Write("PATCH", f"{FLAGS}/first", {"rules": OF_NO_SEGMENT})),
    "a bad definition": (422, Write("PUT", f"{FLAGS}/first", {"variants": {"on": 1}})),
    "a bad segment": (422, Write("PUT", f"{SEGMENTS}/staff", {"when": {"nobody": []}})),
    "another name": (422, Write("PUT", f"{FLAGS}/first", {"name": "second"})),
    "a bad environment": (
        422,
        Write("PATCH", f"{FLAGS}/first", {"enabled": True}, {"environment": "no name"}),
    ),
}


@pytest.mark.parametrize(("status", "write"), REFUSED.values(), ids=REFUSED)
def test_a_dry_run_is_refused_as_the_write_is(flags: Flags, status: int, write: Write) -> None:
    dry, made = write.send(flags, dry_run=True), write.send(flags)

    assert _without_request_id(body_of(dry, status)) == _without_request_id(body_of(made, status))


def test_another_type_of_a_flag_in_use_is_refused_unless_it_is_forced(flags: Flags) -> None:
    flags.evaluate("first", "ann")
    write = Write("PUT", f"{FLAGS}/first", FULL)

    assert body_of(write.send(flags, dry_run=True), 409)["code"] == "flag_type_in_use"
    assert body_of(write.send(flags, dry_run=True, force=True))["changed"] is True
    assert body_of(flags.get("first"))["version"] == 1


ADMIN = "preview-admin-token-of-32-characters-or-more"


@pytest.fixture(scope="module")
def guarded_service() -> Iterator[ServiceProcess]:
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with ServiceProcess(settings) as service:
        yield service


def test_a_dry_run_needs_the_right_of_the_write(guarded_service: ServiceProcess) -> None:
    def ask(token: str, method: str, path: str, body: Any = None) -> Answer:
        return guarded_service.request(
            method, path, body, headers={"Authorization": f"Bearer {token}"}
        )

    def token(role: str, environment: str) -> str:
        wanted = {"name": fresh_name("t"), "class": "operator", "roles": [role], "services": ["*"]}
        made = ask(ADMIN, "POST", "/api/v1/tokens", {**wanted, "environments": [environment]})
        found: str = body_of(made, 201)["token"]
        return found

    holders = {token("viewer", "staging"): 403, token("editor", "staging"): 200}
    holders[token("editor", "other")] = 403
    body_of(ask(ADMIN, "POST", FLAGS, {"name": "a", "environment": "staging"}), 201)
    query = "environment=staging&dry_run=true"

    for holder, status in holders.items():
        for method, path, body in (
            ("POST", f"{FLAGS}?dry_run=true", {"name": "b", "environment": "staging"}),
            ("PATCH", f"{FLAGS}/a?{query}", {"enabled": True}),
            ("DELETE", f"{FLAGS}/a?{query}", None),
            ("POST", f"{FLAGS}/a/archive?{query}", None),
        ):
            body_of(ask(holder, method, path, body), status)
