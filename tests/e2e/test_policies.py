"""Policies: no door leads past them, whoever comes, except for a reason that the audit keeps."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.administered import REQUIRED, Administered
from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.conftest import SERVERS, embedded_service, real_service
from tests.servers.answer import Answer
from tests.servers.postgres import PostgresServer
from tests.servers.service import ServiceProcess
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

POLICIES, FLAGS, KEYS = "/api/v1/policies", "/api/v1/feature-flags", "/api/v1/config"
EVERY_KIND = ["config", "flag", "segment", "schema", "template"]
REASON = {"Bypass-Reason": "the shop is down"}
ALL = {"environments": ["*"], "services": ["*"]}
CALLERS: Mapping[str, Mapping[str, Any]] = {
    "viewer": {"class": "operator", "roles": ["viewer"], **ALL},
    "editor": {"class": "operator", "roles": ["editor"], **ALL},
    "publisher": {"class": "operator", "roles": ["publisher"], **ALL},
    "admin": {"class": "admin", **ALL},
    "bypasser": {"class": "admin", "roles": ["change:bypass"], **ALL},
}


@pytest.fixture(scope="module")
def service_embedded() -> Iterator[Service]:
    with embedded_service(REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module")
def real(
    vault_server: VaultServer, postgres_server: PostgresServer, zookeeper_server: ZooKeeperServer
) -> Iterator[Service]:
    with real_service(vault_server, postgres_server, zookeeper_server, REQUIRED) as found:
        yield Administered(found.process, found.backend, found.settings)


@pytest.fixture(scope="module", params=["service_embedded", pytest.param("real", marks=SERVERS)])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    found.wait_until_ready()
    return found


@pytest.fixture(scope="module")
def tokens(service: Service) -> Mapping[str, Mapping[str, str]]:
    """The headers of each caller."""
    made = {
        name: body_of(
            service.call("POST", "/api/v1/tokens", {"name": fresh_name(name), **wanted}), 201
        )
        for name, wanted in CALLERS.items()
    }
    return {name: {"Authorization": f"Bearer {one['token']}"} for name, one in made.items()}


def put(service: Service, name: str, /, headers: Any = None, **members: Any) -> Answer:
    return service.call("PUT", f"{POLICIES}/{name}", members, headers=headers)


def protect(service: Service, environment: str, **members: Any) -> str:
    name = fresh_name("p")
    body = {"environments": [environment], "kinds": EVERY_KIND, **members}
    body_of(put(service, name, **body), 201)
    return name


def assert_refused(answer: Answer, pointer: str) -> None:
    [flaw] = body_of(answer, 422)["errors"]
    assert (flaw["code"], flaw["pointer"]) == ("bad_policy", f"#{pointer}")


# What is there before the policy: a document, a flag, a segment, a schema and a template.
def furnish(service: Service, environment: str) -> None:
    at: dict[str, Any] = {"environment": environment, "service_name": "shop"}
    scopes = [{"environments": [environment], "services": ["shop"]}]
    for value in (1, 2):
        body_of(service.call("PATCH", KEYS, {"set": {"pool": value}}, **at))
    body_of(service.call("PATCH", KEYS, {"set": {"a": 1}}, **{**at, "service_name": "spare"}))
    for name in ("live", "doomed", "on"):
        flag = {"name": name, "environment": environment, "enabled": True}
        body_of(service.call("POST", FLAGS, flag), 201)
    body_of(service.call("PATCH", f"{FLAGS}/live", {"owner": "web"}, environment=environment))
    body_of(service.call("POST", f"{FLAGS}/doomed/archive", {}, environment=environment))
    segment = {"name": "testers", "environment": environment, "when": None}
    body_of(service.call("POST", "/api/v1/segments", segment), 201)
    for kind, body in (("schemas", {"schema": {}}), ("templates", {"data": {"t": 1}})):
        path = f"/api/v1/{kind}/{environment}"
        body_of(service.call("PUT", path, {**body, "applies_to": scopes}), 201)
        body_of(service.call("PUT", path, {**body, "applies_to": scopes, "description": "2"}))


Sender = Callable[[str, Any], tuple[str, str, Any]]


@dataclass(frozen=True)
class Door:
    """A way to change something; `writers`: who may without a policy."""

    send: Sender
    writers: frozenset[str] = frozenset({"editor", "publisher", "admin", "bypasser"})
    is_bulk: bool = False  # a refusal is reported in the answer


_RULERS = frozenset({"publisher", "admin", "bypasser"})


def key(method: str, rest: str, body: Any) -> Door:
    query = "{mark}environment={env}&service_name=shop"

    def send(environment: str, fresh: Any) -> tuple[str, str, Any]:
        mark = "&" if "?" in rest else "?"
        asked = query.format(mark=mark, env=environment)
        return method, f"{rest}{asked}", body(fresh) if callable(body) else body

    return Door(send)


def flag(method: str, path: str, body: Any) -> Door:
    def send(environment: str, fresh: Any) -> tuple[str, str, Any]:
        stated = body(fresh) if callable(body) else body
        return method, f"{path}{'&' if '?' in path else '?'}environment={environment}", stated

    return Door(send)


def definition(method: str, kind: str, rest: str, body: Any) -> Door:
    def send(environment: str, fresh: Any) -> tuple[str, str, Any]:
        scopes = [{"environments": [environment], "services": ["shop"]}]
        stated = body(fresh, scopes) if callable(body) else body
        return method, f"/api/v1/{kind}/{environment}{rest}", stated

    return Door(send, _RULERS)


DOORS: Mapping[str, Door] = {
    "key": key("PUT", f"{KEYS}/pool", lambda fresh: {"value": fresh}),
    "new key": Door(
        lambda env, fresh: (
            "POST",
            KEYS,
            {"environment": env, "service_name": "shop", "key": f"k{fresh}", "value": 1},
        )
    ),
    "keys": key("PATCH", KEYS, lambda fresh: {"set": {"x": fresh}}),
    "deleted key": key("DELETE", f"{KEYS}/pool", None),
    "rollback of a key": key("POST", f"{KEYS}/pool/rollback", {"version": 1}),
    "document": Door(
        lambda env, fresh: (
            "PUT",
            f"/api/configs/shop?environment={env}",
            {"config_data": {"a": fresh}},
        )
    ),
    "document of a user": Door(
        lambda env, fresh: (
            "PATCH",
            f"{KEYS}?environment={env}&service_name=shop&user=ann",
            {"set": {"pool": fresh}},
        )
    ),
    "new document": Door(
        lambda env, fresh: (
            "POST",
            f"/api/configs/s{fresh}?environment={env}",
            {"config_data": {"a": 1}},
        )
    ),
    "deleted document": Door(
        lambda env, _: ("DELETE", f"/api/configs/spare?environment={env}", None)
    ),
    "rollback of a document": Door(
        lambda env, _: (
            "POST",
            f"/api/configs/shop/rollback?environment={env}",
            {"version": 1},
        )
    ),
    "flag": flag("PATCH", f"{FLAGS}/live", lambda fresh: {"description": f"d{fresh}"}),
    "replaced flag": flag("PUT", f"{FLAGS}/live", lambda fresh: {"description": f"e{fresh}"}),
    "new flag": Door(lambda env, fresh: ("POST", FLAGS, {"name": f"n{fresh}", "environment": env})),
    "deleted flag": flag("DELETE", f"{FLAGS}/on", None),
    "archived flag": flag("POST", f"{FLAGS}/on/archive", {}),
    "restored flag": flag("POST", f"{FLAGS}/doomed/restore", {}),
    "rollback of a flag": flag("POST", f"{FLAGS}/live/rollback", {"version": 1}),
    "targets": flag("PUT", f"{FLAGS}/live/targets", ["ann"]),
    "segment": flag("PATCH", "/api/v1/segments/testers", lambda f: {"description": f"d{f}"}),
    "deleted segment": flag("DELETE", "/api/v1/segments/testers", None),
    "schema": definition(
        "PUT", "schemas", "", lambda f, scopes: {"schema": {"title": str(f)}, "applies_to": scopes}
    ),
    "deleted schema": definition("DELETE", "schemas", "", None),
    "rollback of a schema": definition("POST", "schemas", "/rollback", {"version": 1}),
    "template": definition(
        "PUT", "templates", "", lambda f, scopes: {"data": {"t": f}, "applies_to": scopes}
    ),
    "deleted template": definition("DELETE", "templates", "", None),
    "rollback of a template": definition("POST", "templates", "/rollback", {"version": 1}),
    "use of a template": Door(
        lambda env, _: (
            "POST",
            f"/api/v1/templates/{env}/use",
            {"environment": env, "service_name": "shop"},
        )
    ),
    "copied layer": Door(
        lambda env, _: (
            "POST",
            "/api/v1/copy",
            {
                "from": {"environment": env, "service_name": "spare"},
                "to": {"environment": env, "service_name": "shop"},
            },
        )
    ),
}


@pytest.fixture(scope="module")
def guarded_environment(service: Service) -> tuple[str, str]:
    """An environment with one of everything, and the policy of it."""
    environment = fresh_name("env")
    furnish(service, environment)
    return environment, protect(service, environment)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("door", DOORS)
def test_no_door_leads_past_a_policy(
    service: Service,
    tokens: Mapping[str, Mapping[str, str]],
    guarded_environment: tuple[str, str],
    door: str,
    caller: str,
) -> None:
    environment, policy = guarded_environment
    method, path, body = DOORS[door].send(environment, 7)

    problem = body_of(service.call(method, path, body, headers=tokens[caller]), 403)

    if caller in DOORS[door].writers:
        assert (problem["code"], problem["policy"]) == ("proposal_needed", policy)
    else:  # what they lack is said first
        assert problem["code"] == "denied"


@pytest.mark.parametrize("door", DOORS)
def test_a_reason_opens_every_door_to_those_who_may_bypass(
    service: Service, tokens: Mapping[str, Mapping[str, str]], door: str
) -> None:
    environment = fresh_name("env")
    furnish(service, environment)
    policy = protect(service, environment)
    method, path, body = DOORS[door].send(environment, 8)

    for caller in ("editor", "publisher", "admin"):
        problem = body_of(
            service.call(method, path, body, headers={**tokens[caller], **REASON}), 403
        )
        assert problem["code"] == "denied", caller
    passed = service.call(method, path, body, headers={**tokens["bypasser"], **REASON})

    assert passed.status in {200, 201, 204}, passed.body
    rows = service.backend.audit(str(passed.headers["X-Request-Id"]))
    facts = [
        json.loads(row["facts"]) if isinstance(row["facts"], str) else row["facts"] for row in rows
    ]
    bypass = {"bypass_reason": "the shop is down", "bypassed": policy}
    assert any(bypass.items() <= (each or {}).items() for each in facts), facts


def test_an_import_is_refused_too(service: Service) -> None:
    environment = fresh_name("env")
    policy = protect(service, environment)

    path = f"/api/v1/import?format=json&environment={environment}&service_name=shop"

    assert body_of(service.call("POST", path, {"a": 1}), 403)["policy"] == policy
    assert body_of(service.call("POST", f"{path}&dry_run=true", {"a": 1}))["dry_run"] is True


def test_what_changes_nothing_needs_no_proposal(service: Service) -> None:
    environment = fresh_name("env")
    furnish(service, environment)
    protect(service, environment)
    scopes = [{"environments": [environment], "services": ["shop"]}]
    same = {"schema": {}, "applies_to": scopes, "description": "2"}
    at: dict[str, Any] = {"environment": environment, "service_name": "shop"}

    body_of(service.call("PATCH", KEYS, {"set": {"pool": 2}}, **at))
    body_of(service.call("PATCH", f"{FLAGS}/live", {"owner": "web"}, environment=environment))
    assert body_of(service.call("PUT", f"/api/v1/schemas/{environment}", same))["changed"] is False


def test_a_repeated_request_is_answered_though_a_policy_came_since(service: Service) -> None:
    environment = fresh_name("env")
    at: dict[str, Any] = {"environment": environment, "service_name": "shop"}
    headers = {"Idempotency-Key": fresh_name("key")}
    flag = {"name": "a", "environment": environment}
    body_of(service.call("PATCH", KEYS, {"set": {"a": 1}}, headers=headers, **at))
    body_of(service.call("POST", FLAGS, flag, headers=headers), 201)
    protect(service, environment)

    body_of(service.call("PATCH", KEYS, {"set": {"a": 1}}, headers=headers, **at))
    body_of(service.call("POST", FLAGS, flag, headers=headers), 201)
    body_of(service.call("PATCH", KEYS, {"set": {"a": 2}}, **at), 403)


def test_a_flag_is_turned_off_and_rolled_back_freely_where_the_policy_says_so(
    service: Service,
) -> None:
    environment = fresh_name("env")
    furnish(service, environment)
    name = protect(service, environment, rollback="free")
    at: dict[str, Any] = {"environment": environment, "service_name": "shop"}

    body_of(service.call("POST", f"{FLAGS}/on/kill", {"reason": "errors"}, environment=environment))
    body_of(service.call("POST", f"{FLAGS}/live/rollback", {"version": 1}, environment=environment))
    body_of(service.call("POST", f"{KEYS}/pool/rollback", {"version": 1}, **at))
    path = f"/api/configs/shop/rollback?environment={environment}"
    body_of(service.call("POST", path, {"version": 1}))
    body_of(service.call("PATCH", f"{FLAGS}/on", {"enabled": True}, environment=environment), 403)
    assert service.call("DELETE", f"{POLICIES}/{name}").status == 204
    body_of(service.call("PATCH", f"{FLAGS}/on", {"enabled": True}, environment=environment))


def test_previews_say_that_a_proposal_is_needed(service: Service) -> None:
    environment = fresh_name("env")
    furnish(service, environment)
    before = {"set": {"pool": 9}}
    at: dict[str, Any] = {"environment": environment, "service_name": "shop", "dry_run": True}
    assert body_of(service.call("PATCH", KEYS, before, **at))["proposal_needed"] is None
    policy = protect(service, environment)

    assert body_of(service.call("PATCH", KEYS, before, **at))["proposal_needed"] == policy
    preview = service.call(
        "PATCH", f"{FLAGS}/live", {"owner": "x"}, environment=environment, dry_run=True
    )
    assert body_of(preview)["proposal_needed"] == policy
    body = {
        "schema": {"title": "x"},
        "applies_to": [{"environments": [environment], "services": ["shop"]}],
    }
    tried = service.call("PUT", f"/api/v1/schemas/{environment}", body, dry_run=True)
    assert body_of(tried)["proposal_needed"] == policy


def test_a_policy_guards_policies_where_it_says_so(service: Service) -> None:
    environment = fresh_name("env")
    name = protect(service, environment, kinds=["policy"])

    body_of(service.call("PATCH", KEYS, {"set": {"a": 1}}, environment=environment))
    assert body_of(service.call("DELETE", f"{POLICIES}/{name}"), 403)["policy"] == name
    assert body_of(put(service, name, environments=[environment], kinds=["config"]), 403)
    other = fresh_name("p")
    assert (
        body_of(put(service, other, environments=["env-*"], kinds=["flag"]), 403)["policy"] == name
    )
    assert body_of(put(service, other, environments=["elsewhere"], kinds=["flag"]), 201)
    tried = put_dry(service, other, environments=[environment], kinds=["flag"])
    assert body_of(tried)["proposal_needed"] == name


def put_dry(service: Service, name: str, /, **members: Any) -> Answer:
    return service.call("PUT", f"{POLICIES}/{name}", members, dry_run=True)


def test_a_policy_is_created_read_changed_rolled_back_and_deleted(service: Service) -> None:
    name = fresh_name("p")
    path = f"{POLICIES}/{name}"
    body: dict[str, Any] = {
        "environments": ["nowhere"],
        "kinds": ["config"],
        "approvals": 2,
        "valid_for": "7d",
        "closed": [{"days": ["sat"], "zone": "Europe/Berlin", "from": "18:00", "to": "06:00"}],
        "comment": "as agreed",
    }
    assert put_dry(service, name, **body).status == 200
    body_of(service.get(path), 404)
    created = put(service, name, **body)
    shown = body_of(created, 201)
    assert (shown["version"], shown["approvals"], shown["closed"]) == (1, 2, body["closed"])
    assert (created.headers["ETag"], created.headers["Location"]) == ('"1"', path)
    assert body_of(put(service, name, **body))["changed"] is False
    body_of(put(service, name, headers={"If-Match": '"9"'}, **{**body, "approvals": 3}), 412)
    body_of(put(service, name, headers={"If-Match": '"1"'}, **{**body, "approvals": 3}))
    assert body_of(service.get(path))["approvals"] == 3
    assert body_of(service.get(path, version=1))["approvals"] == 2
    assert body_of(service.get(f"{path}/diff"))["changed"]["approvals"] == {"old": 2, "new": 3}
    body_of(service.call("POST", f"{path}/rollback", {"version": 1}))
    assert service.call("DELETE", path, comment="no longer").status == 204
    body_of(service.get(path), 404)
    versions = body_of(service.get(f"{path}/history"))["items"]
    assert [each["action"] for each in versions] == ["deleted", "rolled_back", "updated", "created"]
    assert name not in {each["name"] for each in body_of(service.get(POLICIES))["items"]}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"kinds": []}, "/kinds"),
        ({"kinds": ["token"]}, "/kinds/0"),
        ({"kinds": ["config", "config"]}, "/kinds/1"),
        ({"approvals": 0}, "/approvals"),
        ({"approvals": 6}, "/approvals"),
        ({"of": ["editor"]}, "/of/0"),
        ({"environments": []}, "/environments"),
        ({"environments": ["a b"]}, "/environments/0"),
        ({"services": ["*", "-"]}, "/services/1"),
        ({"valid_for": "7w"}, "/valid_for"),
        ({"valid_for": "0s"}, "/valid_for"),
        ({"rollback": "never"}, "/rollback"),
        ({"people_only": True}, "/people_only"),  # there is no issuer
        ({"closed": [{"days": [], "zone": "UTC"}]}, "/closed/0/days"),
        ({"closed": [{"days": ["sat"], "zone": "Mars/Olympus"}]}, "/closed/0/zone"),
        ({"closed": [{"days": ["sat"], "zone": "../etc"}]}, "/closed/0/zone"),
        ({"closed": [{"days": ["sat"], "zone": "UTC", "from": "24:00"}]}, "/closed/0/from"),
        (
            {"closed": [{"days": ["sat"], "zone": "UTC", "from": "10:00", "to": "10:00"}]},
            "/closed/0/to",
        ),
    ],
)
def test_a_bad_policy_is_refused_with_the_place(
    service: Service, members: Mapping[str, Any], pointer: str
) -> None:
    assert_refused(put(service, fresh_name("p"), **{"kinds": ["config"], **members}), pointer)


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\tb"])
def test_a_bad_reason_is_refused(service: Service, reason: str) -> None:
    answer = service.call(
        "PATCH", KEYS, {"set": {"a": 1}}, headers={"Bypass-Reason": reason}, environment="e-r"
    )
    assert body_of(answer, 422)["code"] == "bad_bypass_reason"


def test_only_admins_of_the_place_write_policies(
    service: Service, tokens: Mapping[str, Mapping[str, str]]
) -> None:
    body: dict[str, Any] = {"kinds": ["config"], "environments": ["test-x"]}
    for caller in ("viewer", "editor", "publisher"):
        answer = service.call("PUT", f"{POLICIES}/mine", body, headers=tokens[caller])
        assert body_of(answer, 403)["code"] == "denied"
    wanted = {"name": "narrow", "class": "admin", "environments": ["test-*"], "services": ["*"]}
    made = body_of(service.call("POST", "/api/v1/tokens", wanted), 201)
    mine = {"Authorization": f"Bearer {made['token']}"}
    name = fresh_name("p")
    body_of(put(service, name, headers=mine, **body), 201)
    body_of(put(service, name, headers=mine, **{**body, "environments": ["*"]}), 403)
    body_of(put(service, fresh_name("p"), headers=mine, kinds=["config"]), 403)
    assert service.call("DELETE", f"{POLICIES}/{name}", headers=mine).status == 204


def test_where_access_is_open_there_are_no_policies_and_no_start_with_some() -> None:
    with ServiceProcess({}) as process:
        answer = process.request("PUT", f"{POLICIES}/a", {"kinds": ["config"]})
        assert body_of(answer, 409)["code"] == "access_is_open"


def test_a_new_policy_binds_each_writer_that_comes_after(service: Service) -> None:
    """Writers race the policy: what begins once it is answered is refused, by every door."""
    environment = fresh_name("env")
    furnish(service, environment)
    at: dict[str, Any] = {"environment": environment, "service_name": "shop"}
    created: list[float] = []
    passed: list[tuple[float, str]] = []

    def write(number: int) -> None:
        for step in range(40):
            began = time.monotonic()
            if number % 2:
                answer = service.call("PATCH", KEYS, {"set": {f"k{number}": step}}, **at)
            else:
                body = {"description": f"{number}-{step}"}
                answer = service.call("PATCH", f"{FLAGS}/live", body, environment=environment)
            if answer.status == 200:
                passed.append((began, str(answer.headers["X-Revision"])))
            elif answer.status == 403:
                return

    with ThreadPoolExecutor(8) as threads:
        writers = [threads.submit(write, number) for number in range(8)]
        protect(service, environment)
        created.append(time.monotonic())
        for writer in writers:
            writer.result()

    assert [each for each in passed if each[0] > created[0]] == []


def test_a_policy_for_webhooks_is_met_and_bypassed_with_a_reason(
    service: Service, tokens: Mapping[str, Mapping[str, str]]
) -> None:
    hook = {"url": "http://127.0.0.1:9/", "kinds": ["config"], "enabled": False}
    path = f"/api/v1/webhooks/{fresh_name('w')}"
    guard = fresh_name("p")
    body_of(put(service, guard, environments=["default"], kinds=["webhook"]), 201)
    try:
        refused = service.call("PUT", path, hook, headers=tokens["admin"])
        passed = service.call("PUT", path, hook, headers={**tokens["bypasser"], **REASON})
        removed = service.call("DELETE", path, headers=tokens["admin"])
    finally:
        service.call("DELETE", f"{POLICIES}/{guard}")

    assert body_of(refused, 403)["policy"] == guard
    body_of(passed, 201)
    assert body_of(removed, 403)["code"] == "proposal_needed"
    assert service.call("DELETE", path, headers=tokens["admin"]).status == 204
