"""Records an example of every operation from a real service: `make docs` writes them to the app."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from tests.proposals.release_launcher import FOLDER
from tests.proposals.releasing import ARGV
from tests.servers.answer import Answer
from tests.servers.service import ServiceProcess

FILE = Path(__file__).parents[2] / "app" / "web" / "examples.json"
ADMIN = "admin-token-of-the-recorded-examples"
# What differs with each run, and what stands for it.
_VOLATILE = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)": "2026-01-31T12:00:00Z",
    r"\b[0-9a-f]{64}\b": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    r"\b[0-9a-f]{32}\b": "0123456789abcdef0123456789abcdef",
    r'"token":"plh_[^"]*"': '"token":"TOKEN"',
    r'"(id)":"[A-Za-z0-9_-]{16}"': r'"\1":"XIpqpoVdUegVADZf"',
    r'"(latency_ms|milliseconds|log_last_contact_seconds)":[\d.]+': r'"\1":0.1',
    r"\bp-[0-9a-z]{10}\b": "p-7k2m9x4qd1",
    r"ticket=[A-Za-z0-9._~%-]+": "ticket=TICKET",
    r"http://127\.0\.0\.1:\d+": "https://pilothouse.example.org",
}
RELEASE = "r-7k2m9p4x5q"
BILLING = "environment=production&service_name=billing"
STAGING = "environment=staging&service_name=billing"


LAST_PROPOSAL = "{last}"  # in a target: the id of the proposal that was made last


class Call(NamedTuple):
    """One request; `operation` is its method and the template of its path, "" if it has none."""

    operation: str
    target: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


def _keys() -> Iterator[Call]:
    one = "/api/v1/config/{key}"
    host = "/api/v1/config/database.host"
    created = {
        "key": "database.host",
        "value": "db1.example.org",
        "environment": "production",
        "service_name": "billing",
        "comment": "first database",
    }
    changes = {
        "set": {"database.port": 5432, "features": {"invoices": True}},
        "unset": [],
        "encrypt": [],
        "comment": "more settings",
    }
    yield Call("POST /api/v1/config", "/api/v1/config", created)
    yield Call("PATCH /api/v1/config", f"/api/v1/config?{BILLING}", changes)
    yield Call("GET /api/v1/config", f"/api/v1/config?{BILLING}")
    yield Call(f"GET {one}", f"{host}?{BILLING}")
    replaced = {"value": "db2.example.org", "comment": "moved"}
    yield Call(f"PUT {one}", f"{host}?{BILLING}", replaced)
    yield Call(f"GET {one}/history", f"{host}/history?{BILLING}")
    yield Call(f"POST {one}/rollback", f"{host}/rollback?{BILLING}", {"version": 1})
    bulk = {
        "environment": "production",
        "service_name": "billing",
        "keys": ["database.host", "database.user"],
    }
    yield Call("POST /api/v1/config/bulk", "/api/v1/config/bulk", bulk)
    yield Call("GET /api/v1/effective", f"/api/v1/effective?{BILLING}")
    yield Call(f"DELETE {one}", f"/api/v1/config/database.port?{BILLING}")


def _documents() -> Iterator[Call]:
    one = "/api/configs/{service}"
    where = "/api/configs/orders?environment=production"
    document = {"config_data": {"workers": 4, "queue": {"url": "amqp://queue:5672"}}}
    yield Call(f"POST {one}", where, {**document, "comment": "first version"})
    document = {"config_data": {"workers": 8, "queue": {"url": "amqp://queue:5672"}}}
    yield Call(f"PUT {one}", where, {**document, "comment": "more workers"})
    yield Call(f"GET {one}", where)
    yield Call("GET /api/configs", "/api/configs?environment=production")
    yield Call(f"GET {one}/history", "/api/configs/orders/history?environment=production")
    yield Call(f"GET {one}/diff", "/api/configs/orders/diff?environment=production&old_version=1")
    back = {"version": 1, "comment": "too many workers"}
    yield Call(f"POST {one}/rollback", "/api/configs/orders/rollback?environment=production", back)
    yaml = {"Content-Type": "application/yaml"}
    yield Call("POST /api/v1/import", f"/api/v1/import?{STAGING}", "workers: 2\n", yaml)
    copied = {
        "from": {"environment": "staging", "service_name": "billing"},
        "to": {"environment": "production", "service_name": "billing"},
        "keys": ["workers"],
        "dry_run": True,
    }
    yield Call("POST /api/v1/copy", "/api/v1/copy", copied)
    yield Call("GET /api/v1/export", f"/api/v1/export?{STAGING}")
    yield Call(f"DELETE {one}", where)


def _schemas() -> Iterator[Call]:
    many, one = "/api/v1/schemas", "/api/v1/schemas/{name}"
    schema = {
        "type": "object",
        "properties": {
            "pool": {
                "type": "object",
                "properties": {
                    "min": {"type": "integer", "minimum": 1, "default": 1},
                    "max": {"type": "integer", "maximum": 100, "default": 10},
                },
            },
            "password": {"type": "string", "minLength": 12, "secret": True},
        },
        "x-rules": [
            {
                "id": "pool-order",
                "rule": "config.pool.min <= config.pool.max",
                "message": "the minimum is above the maximum",
            }
        ],
    }
    body = {"mode": "warn", "schema": schema, "comment": "first rules"}
    yield Call(f"PUT {one}", f"{many}/billing", body)
    yield Call(f"PUT {one}", f"{many}/billing", {**body, "mode": "enforce"})
    yield Call(f"GET {one}", f"{many}/billing")
    yield Call(f"GET {many}", many)
    yield Call(f"GET {many}/for", f"{many}/for?{BILLING}")
    yield Call(f"GET {one}/history", f"{many}/billing/history")
    yield Call(f"GET {one}/diff", f"{many}/billing/diff")
    change = {"environment": "production", "service_name": "billing", "set": {"pool.max": 101}}
    yield Call("POST /api/v1/validate", "/api/v1/validate", {"changes": [change]})
    yield Call("GET /api/v1/violations", "/api/v1/violations")
    yield Call(f"GET {many}/export", f"{many}/export")
    document = {"schemas": {"orders": {"schema": {"properties": {"workers": {"minimum": 1}}}}}}
    yield Call(f"POST {many}/import", f"{many}/import?dry_run=true", document)
    yield Call(f"POST {one}/rollback", f"{many}/billing/rollback", {"version": 1})
    yield Call(f"DELETE {one}", f"{many}/billing")


def _flags() -> Iterator[Call]:
    many, one = "/api/v1/feature-flags", "/api/v1/feature-flags/{name}"
    checkout = f"{many}/new-checkout?environment=production"
    segments, segment = "/api/v1/segments", "/api/v1/segments/{name}"
    testers = f"{segments}/testers?environment=production"
    named = {
        "name": "testers",
        "environment": "production",
        "description": "People of the test team",
        "when": {"attribute": "email", "op": "ends_with", "values": ["@example.org"]},
    }
    yield Call(f"POST {segments}", segments, named)
    edit = {"description": "People of the test team, and Ann"}
    yield Call(f"PATCH {segment}", testers, edit)
    yield Call(f"PUT {segment}", testers, {"when": named["when"], **edit})
    yield Call(f"GET {segment}", testers)
    yield Call(f"GET {segments}", f"{segments}?environment=production")
    yield Call(f"GET {segment}/history", f"{segments}/testers/history?environment=production")
    flag = {
        "name": "new-checkout",
        "environment": "production",
        "description": "The new checkout",
        "enabled": True,
        "rollout_percentage": 25,
        "target_users": ["ann"],
    }
    yield Call(f"POST {many}", many, flag)
    yield Call(f"PATCH {one}", checkout, {"rollout_percentage": 50, "comment": "half of all"})
    yield Call(f"PUT {one}", checkout, {**flag, "rollout_percentage": 60})
    yield Call(f"GET {one}", checkout)
    yield Call(f"GET {many}", f"{many}?environment=production")
    yield Call(f"GET {one}/history", f"{many}/new-checkout/history?environment=production")
    question = {"user_id": "ann", "environment": "production", "context": {"plan": "pro"}}
    yield Call(
        f"POST {many}/evaluate", f"{many}/evaluate", {"flag_name": "new-checkout", **question}
    )
    batch = {"flag_names": ["new-checkout"], **question}
    yield Call(f"POST {many}/evaluate/batch", f"{many}/evaluate/batch", batch)
    counts = {"environment": "production", "evaluations": {"new-checkout": {"on": 12, "off": 9}}}
    yield Call("POST /api/v1/flag-usage", "/api/v1/flag-usage", counts)
    yield Call(f"GET {one}/usage", f"{many}/new-checkout/usage?environment=production")
    stale = "/api/v1/stale-flags"
    yield Call(f"GET {stale}", f"{stale}?environment=production&days=0")
    yield Call("GET /api/v1/flag-set", "/api/v1/flag-set?environment=production")
    context = {"context": {"targetingKey": "ann", "plan": "pro"}}
    ofrep, where = "/ofrep/v1/evaluate/flags", {"X-Environment": "production"}
    yield Call(f"POST {ofrep}", ofrep, context, where)
    yield Call(f"POST {ofrep}/{{key}}", f"{ofrep}/new-checkout", context, where)
    document = {
        "flags": {
            "dark-mode": {
                "state": "ENABLED",
                "variants": {"on": True, "off": False},
                "defaultVariant": "off",
            }
        }
    }
    target = f"{many}/import?environment=staging&format=flagd"
    yield Call(f"POST {many}/import", target, document)
    yield Call(f"GET {many}/export", f"{many}/export?environment=staging&format=flagd")
    listed = f"{many}/new-checkout/targets?environment=production"
    yield Call(f"POST {one}/targets", listed, ["bob", "eve", 101])
    yield Call(f"DELETE {one}/targets", listed, ["eve"])
    yield Call(f"PUT {one}/targets", f"{listed}&comment=the%20test%20team", ["ann", "bob"])
    for action, body in (
        ("rollback", {"version": 2, "comment": "back to half of all"}),
        ("copy", {"to": "staging", "comment": "as in production"}),
        ("kill", {"reason": "errors at the payment provider"}),
        ("archive", {"comment": "all users have it"}),
        ("restore", {"comment": "not yet for all users"}),
    ):
        target = f"{many}/new-checkout/{action}?environment=production"
        yield Call(f"POST {one}/{action}", target, body)
    yield Call(f"DELETE {one}", checkout)
    yield Call(f"DELETE {segment}", testers)


def _templates() -> Iterator[Call]:
    one, path = "/api/v1/templates/{name}", "/api/v1/templates/http-service"
    body = {
        "description": "An HTTP service",
        "parameters": {
            "type": "object",
            "required": ["port"],
            "properties": {"port": {"type": "integer", "maximum": 65535}},
        },
        "data": {"http": {"port": {"$param": "port"}, "host": "0.0.0.0"}},
        "comment": "first services",
    }
    use = {
        "environment": "production",
        "service_name": "billing",
        "parameters": {"port": 8080},
        "comment": "as all others",
    }
    yield Call(f"PUT {one}", path, body)
    yield Call("GET /api/v1/templates", "/api/v1/templates")
    yield Call(f"GET {one}", path)
    yield Call(f"GET {one}/history", f"{path}/history")
    yield Call(f"GET {one}/diff", f"{path}/diff")
    yield Call(f"POST {one}/use", f"{path}/use", use)
    yield Call(f"GET {one}/uses", f"{path}/uses")
    yield Call(f"POST {one}/upgrade", f"{path}/upgrade", {"to": 1, "comment": "after a review"})
    yield Call(f"DELETE {one}", path)
    yield Call(
        f"POST {one}/rollback", f"{path}/rollback", {"version": 1, "comment": "still needed"}
    )


def _webhooks() -> Iterator[Call]:
    many, one, path = "/api/v1/webhooks", "/api/v1/webhooks/{name}", "/api/v1/webhooks/releases"
    body = {
        "url": "http://127.0.0.1:9/hooks/pilothouse",
        "kinds": ["config", "flag"],
        "environments": ["production"],
        "comment": "shown in the channel of the team",
    }
    yield Call(f"PUT {one}", path, body)
    yield Call(f"GET {many}", many)
    yield Call(f"GET {one}", path)
    yield Call(f"POST {one}/test", f"{path}/test")
    yield Call(f"GET {one}/deliveries", f"{path}/deliveries")
    yield Call(f"GET {one}/dead-letters", f"{path}/dead-letters")
    yield Call(f"POST {one}/dead-letters/resend", f"{path}/dead-letters/resend")
    yield Call(f"DELETE {one}", path)


def _proposals() -> Iterator[Call]:
    many, one = "/api/v1/proposals", "/api/v1/proposals/{proposal_id}"
    last = f"{many}/{LAST_PROPOSAL}"
    change = {
        "kind": "config",
        "environment": "production",
        "service_name": "billing",
        "set": {"database.pool.max": 40},
        "unset": [],
    }
    body = {"title": "A bigger pool", "on_failure": "stop", "items": [change]}
    smaller = {"items": [{**change, "set": {"database.pool.max": 30}}]}
    remark = {"round": 2, "verdict": "remark", "text": "30 is enough"}
    yield Call(f"POST {many}", many, body)
    yield Call(f"PATCH {one}", last, smaller)
    yield Call(f"POST {one}/reviews", f"{last}/reviews", remark)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    at_night = {"at": tomorrow.isoformat(), "comment": "at night"}
    yield Call(f"POST {one}/apply", f"{last}/apply", at_night)
    yield Call(f"POST {one}/unschedule", f"{last}/unschedule", {"comment": "not yet"})
    yield Call(f"GET {one}", last)
    yield Call(f"GET {many}", f"{many}?limit=1")
    yield Call(f"POST {one}/withdraw", f"{last}/withdraw", {"comment": "not needed any more"})


def _policies() -> Iterator[Call]:
    one, path = "/api/v1/policies/{name}", "/api/v1/policies/production"
    body = {
        "environments": ["live"],
        "kinds": ["config", "flag"],
        "approvals": 2,
        "valid_for": "7d",
        "closed": [{"days": ["sat", "sun"], "zone": "Europe/Berlin"}],
        "comment": "two see everything",
    }
    yield Call(f"PUT {one}", path, body)
    yield Call("GET /api/v1/policies", "/api/v1/policies")
    yield Call(f"GET {one}", path)
    yield Call(f"GET {one}/history", f"{path}/history")
    yield Call(f"GET {one}/diff", f"{path}/diff")
    bypass = {"Bypass-Reason": "the shop is down"}
    changes = {"set": {"database.pool": 5}}
    target = "/api/v1/config?environment=live&service_name=billing"
    yield Call("PATCH /api/v1/config", target, changes, bypass)
    yield Call("GET /api/v1/policies/bypasses", "/api/v1/policies/bypasses")
    yield Call(f"DELETE {one}", path)
    yield Call(
        f"POST {one}/rollback", f"{path}/rollback", {"version": 1, "comment": "still needed"}
    )


def _promotions() -> Iterator[Call]:
    base = "/api/v1/promotions"
    route = {"from": "staging", "to": "production", "services": ["billing"]}
    pin = {
        "environment": "production",
        "service_name": "billing",
        "key": "db.host",
        "comment": "each environment has its own",
    }
    patch = {"set": {"db.pool.max": 40}, "comment": "a bigger pool"}
    yield Call(
        "PATCH /api/v1/config",
        "/api/v1/config?environment=staging&service_name=billing",
        patch,
    )
    yield Call(f"POST {base}/pins", f"{base}/pins", pin)
    yield Call(f"GET {base}/pins", f"{base}/pins")
    yield Call(f"POST {base}/compare", f"{base}/compare", route)
    rows = [{"kind": "config", "service_name": "billing", "key": "db.pool.max"}]
    yield Call(f"POST {base}", base, {**route, "rows": rows, "comment": "tested in staging"})
    gone = "environment=production&service_name=billing&key=db.host"
    yield Call(f"DELETE {base}/pins", f"{base}/pins?{gone}")


def _instances() -> Iterator[Call]:
    base = "/api/v1/registry"
    service, instance = f"{base}/services/{{service}}", "/instances/{instance_id}"
    billing, first = f"{base}/services/billing", f"{base}/services/billing/instances/billing-1"
    registration = {
        "service_name": "billing",
        "service_url": "http://billing-1.example.org:8080",
        "instance_id": "billing-1",
        "zone": "zone-a",
        "version": "2.4.1",
        "tags": ["blue"],
        "metadata": {"environment": "production"},
        "ttl_seconds": 3600,
    }
    yield Call(f"POST {base}/register", f"{base}/register", registration)
    yield Call(f"PUT {service}{instance}/heartbeat", f"{first}/heartbeat", {"epoch": 1})
    yield Call(f"GET {base}/services", f"{base}/services")
    yield Call(f"GET {service}", billing)
    yield Call(
        f"GET {base}/discover/{{service}}",
        f"{base}/discover/billing?environment=production&zone=zone-a",
    )
    yield Call(f"GET {service}/url", f"{billing}/url?strategy=round_robin")
    yield Call(f"POST {service}/health", f"{billing}/health")
    yield Call(f"GET {base}/prometheus", f"{base}/prometheus")
    yield Call(f"POST {service}/release", f"{billing}/release")
    yield Call(f"POST {base}/release", f"{base}/release")
    yield Call(f"POST {service}{instance}/drain", f"{first}/drain", {"grace_seconds": 60})
    gone = {"service_name": "billing", "instance_id": "billing-1"}
    yield Call(f"POST {base}/deregister", f"{base}/deregister", gone)


def _releases() -> Iterator[Call]:
    many, one = "/api/v1/releases", "/api/v1/releases/{release_id}"
    first = f"{many}/{RELEASE}"
    document = {"environment": "production", "service_name": "mailer"}
    steps = [{"share": 5, "hold": "10m"}, {"share": 50, "hold": "30m"}]
    plan = {"steps": steps, "bake": "30m", "signals": [{"kind": "refused", "at_least": 1}]}
    start = {"id": RELEASE, **document, "set": {"batch": 200}, "plan": plan}
    yield Call("", "/test/releases", start)
    report = {"instance": "mailer-1", "arm": "candidate", "outcome": "adopted"}
    yield Call(f"POST {one}/reports", f"{first}/reports", report)
    yield Call(f"GET {many}", f"{many}?environment=production&state=running")
    yield Call(f"GET {one}", first)
    yield Call(f"POST {one}/next", f"{first}/next", {"comment": "no errors so far"})
    yield Call(f"POST {one}/hold", f"{first}/hold", {"comment": "until tomorrow"})
    yield Call(f"POST {one}/resume", f"{first}/resume", {"comment": "it is tomorrow"})
    yield Call(f"POST {one}/abort", f"{first}/abort", {"comment": "too many bounces"})
    reader = {"instance": "mailer-1", "outcome": "refused", "code": "ValueError"}
    yield Call("POST /api/v1/readers", "/api/v1/readers", {**document, **reader})
    yield Call("GET /api/v1/readers", "/api/v1/readers?service_name=mailer")


def _operators() -> Iterator[Call]:
    tokens = "/api/v1/tokens"
    token = {
        "name": "billing",
        "class": "service",
        "environments": ["production"],
        "services": ["billing"],
    }
    yield Call(f"POST {tokens}", tokens, token)
    yield Call(f"GET {tokens}", tokens)
    yield Call("GET /api/v1/changes", "/api/v1/changes?limit=2")
    yield Call("GET /api/v1/audit", "/api/v1/audit?limit=1")
    for page in ("/live", "/ready", "/health", "/stats"):
        yield Call(f"GET {page}", page)


def calls() -> Iterator[Call]:
    """Yield the requests in the order in which they work."""
    for part in (
        _keys,
        _documents,
        _schemas,
        _templates,
        _policies,
        _flags,
        _webhooks,
        _proposals,
        _promotions,
        _instances,
        _releases,
        _operators,
    ):
        yield from part()


def record_examples() -> dict[str, Any]:
    """Return the request and the answer of every call, by operation."""
    found: dict[str, Any] = {}
    access = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with (
        TemporaryDirectory() as folder,
        ServiceProcess({**access, FOLDER: folder}, ARGV) as service,
    ):
        last_proposal = ""
        for call in calls():
            method = call.operation.partition(" ")[0] or "POST"
            target = call.target.replace(LAST_PROPOSAL, last_proposal)
            answer = _send(service, method, call._replace(target=target))
            assert answer.status < 300, (call, answer.status, answer.body)
            if call.operation == "POST /api/v1/proposals":
                last_proposal = answer.json()["id"]
            if not call.operation:  # of the tests only
                continue
            found[call.operation] = {
                **({} if call.body is None else {"request": _request_members(call.body)}),
                **_answer_members(answer),
            }
    return found


def _send(service: ServiceProcess, method: str, call: Call) -> Answer:
    headers = {"Authorization": f"Bearer {ADMIN}", **call.headers}
    if isinstance(call.body, str):
        data = call.body.encode()
        return service.request(method, call.target, data=data, headers=headers)
    return service.request(method, call.target, call.body, headers=headers)


def _answer_members(answer: Answer) -> dict[str, Any]:
    if not answer.body:
        return {"status": answer.status}
    return {
        "status": answer.status,
        "response": _parse_text(_without_volatile(answer.body.decode())),
    }


def _request_members(body: Any) -> Any:
    return (
        _parse_text(body)
        if isinstance(body, str)
        else json.loads(_without_volatile(json.dumps(body)))
    )


def _without_volatile(text: str) -> str:
    """Return a text in which nothing differs from run to run."""
    for pattern, steady in _VOLATILE.items():
        text = re.sub(pattern, steady, text)
    return text


def _parse_text(body: Any) -> Any:
    """Read JSON and YAML, in whose place OpenAPI wants what they stand for."""
    return yaml.safe_load(body) if isinstance(body, str) else body


def shape(value: Any) -> Any:
    """Return what an example is made of: names and types, the items of a list as one."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "null" if value is None else type(value).__name__


def write() -> None:
    FILE.write_text(
        json.dumps(record_examples(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    write()
