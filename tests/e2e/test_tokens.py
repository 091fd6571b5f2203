"""Tokens over HTTP: made, shown once, listed, revoked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.access.tokens.model import parse_token_id
from tests.e2e.administered import REQUIRED, Administered
from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.conftest import EITHER, embedded_service, real_service
from tests.servers.answer import Answer
from tests.servers.postgres import PostgresServer
from tests.servers.vault import VaultServer
from tests.servers.zookeeper import ZooKeeperServer

TOKENS = "/api/v1/tokens"
WANTED = {
    "class": "operator",
    "environments": ["staging", "test-*"],
    "services": ["*"],
    "roles": ["editor", "secrets:reveal"],
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


@pytest.fixture(scope="module", params=EITHER)
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    found.wait_until_ready()
    return found


def create(service: Service, **members: Any) -> Any:
    body = {"name": fresh_name("token"), **WANTED, **members}
    return body_of(service.call("POST", TOKENS, body), 201)


def one(service: Service, token_id: str) -> Any:
    return body_of(service.get(f"{TOKENS}/{token_id}"))


def refusal_code(answer: Answer, pointer: str) -> str:
    problem = body_of(answer, 422)
    [flaw] = problem["errors"]
    assert flaw["pointer"] == f"#{pointer}"
    return str(flaw["code"])


def test_a_token_is_shown_once(service: Service) -> None:
    later = (datetime.now(UTC) + timedelta(days=90)).isoformat(timespec="seconds")
    body = {"name": fresh_name("token"), **WANTED, "expires_at": later}

    answer = service.call("POST", TOKENS, body)

    made = body_of(answer, 201)
    token_id, text = made.pop("id"), made.pop("token")
    assert parse_token_id(text) == token_id
    assert text.startswith(f"plh_operator_{token_id}_")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"] == f"{TOKENS}/{token_id}"
    assert datetime.fromisoformat(made.pop("expires_at")) == datetime.fromisoformat(later)
    assert abs(datetime.fromisoformat(made.pop("created_at")) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    assert made == {"name": body["name"], **WANTED, "created_by": "token:admin"}


def test_a_secret_is_stored_nowhere(service: Service) -> None:
    made = create(service)
    text = made["token"]

    stored = service.backend.stored_bytes()

    assert made["name"].encode() in stored
    assert text.split("_")[3].encode() not in stored


def test_a_token_is_listed_and_read_without_its_secret(service: Service) -> None:
    made = [create(service) for _ in range(3)]
    text = "".join(token.pop("token") for token in made)
    listed: list[Any] = []
    cursor = None
    while True:
        page = body_of(service.get(TOKENS, limit=2, cursor=cursor))
        listed += page["items"]
        cursor = page["next"]
        if cursor is None:
            break

    ours = [token for token in listed if token["id"] in {token["id"] for token in made}]
    assert [token["id"] for token in ours] == [token["id"] for token in made]
    assert len(listed) == len({token["id"] for token in listed})
    state = {"state": "live", "revoked_at": None, "last_used_at": None}
    assert ours == [{**token, **state} for token in made]
    assert ours[0] == one(service, made[0]["id"])
    assert not any(value in text for value in ours[0].values() if value in text.split("_")[3::4])


def test_a_revoked_token_stays_in_the_list_and_can_be_revoked_again(service: Service) -> None:
    token_id = create(service)["id"]

    answer = service.call("DELETE", f"{TOKENS}/{token_id}")

    assert (answer.status, answer.body) == (204, b"")
    found = one(service, token_id)
    assert found["state"] == "revoked"
    assert service.call("DELETE", f"{TOKENS}/{token_id}").status == 204
    assert one(service, token_id) == found


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("token_id", ["0" * 16, "admin", "x" * 300, "plh_service"])
def test_what_was_never_made_is_not_found(service: Service, method: str, token_id: str) -> None:
    problem = body_of(service.call(method, f"{TOKENS}/{token_id}"), 404)

    assert problem["code"] == "token_not_found"


def test_a_token_is_audited_and_logged_without_its_secret(service: Service) -> None:
    request = fresh_name("request")
    body = {"name": "deploys", **WANTED}
    answer = service.call("POST", TOKENS, body, headers={"X-Request-Id": request})
    token_id = body_of(answer, 201)["id"]
    service.call("DELETE", f"{TOKENS}/{token_id}", headers={"X-Request-Id": request})

    created, deleted = service.backend.audit(request)

    assert (created["action"], created["kind"], created["name"]) == ("created", "token", token_id)
    assert created["facts"] == {**WANTED, "name": "deploys", "expires_at": None}
    assert created["source"]
    assert (deleted["action"], deleted["actor"]) == ("deleted", "token:admin#admin")
    assert deleted["facts"] == {"name": "deploys", "class": "operator"}
    revision = int(answer.headers["x-revision"])
    items = body_of(
        service.get("/api/v1/changes", since=revision - 1, kind="token", entity=token_id)
    )
    assert [item["action"] for item in items["items"]] == ["created", "deleted"]
    assert items["items"][0]["revision"] == revision


def test_a_repeated_request_makes_another_token(service: Service) -> None:
    body = {"name": fresh_name("token"), **WANTED}
    key = {"Idempotency-Key": fresh_name("key")}

    first, second = (
        body_of(service.call("POST", TOKENS, body, headers=key), 201) for _ in range(2)
    )

    assert first["token"] != second["token"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("members", "pointer", "code"),
    [
        ({"name": "a b"}, "/name", "bad_name"),
        ({"name": "x" * 64}, "/name", "bad_name"),
        ({"name": "admin"}, "/name", "reserved_name"),
        ({"name": "Admin"}, "/name", "reserved_name"),
        ({"name": "anonymous"}, "/name", "reserved_name"),
        ({"name": "system"}, "/name", "reserved_name"),
        ({"name": "token:admin"}, "/name", "reserved_name"),
        ({"name": "TOKEN:x"}, "/name", "reserved_name"),
        ({"environments": ["ok", "a/*"]}, "/environments/1", "bad_pattern"),
        ({"services": [""]}, "/services/0", "bad_pattern"),
        ({"services": ["a..*"]}, "/services/0", "bad_pattern"),
        ({"services": ["*" * 64]}, "/services/0", "bad_pattern"),
        ({"environments": []}, "/environments", "too_short"),
        ({"services": ["a"] * 101}, "/services", "too_long"),
        ({"roles": []}, "/roles", "no_role"),
        ({"roles": ["admin"]}, "/roles/0", "bad_role"),
        ({"roles": ["owner"]}, "/roles/0", "literal_error"),
        ({"class": "root"}, "/class", "literal_error"),
        ({"class": "client"}, "/roles/0", "bad_role"),
        ({"class": "admin"}, "/roles/0", "bad_role"),
        ({"class": "service", "roles": []}, "/environments", "several_environments"),
        (
            {"class": "service", "roles": [], "environments": ["test-*"]},
            "/environments",
            "several_environments",
        ),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "past"),
        ({"expires_at": "tomorrow"}, "/expires_at", "bad_time"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at", "bad_time"),
        ({"expires_at": "9999-12-31T23:59:59-23:00"}, "/expires_at", "bad_time"),
        ({"expires_at": 4_000_000_000}, "/expires_at", "string_type"),
        ({"token_class": "admin"}, "/token_class", "extra_forbidden"),
        ({"id": "0" * 16}, "/id", "extra_forbidden"),
        ({"created_by": "ana"}, "/created_by", "extra_forbidden"),
        ({"digest": ""}, "/digest", "extra_forbidden"),
    ],
)
def test_what_a_token_cannot_be_is_refused(
    service: Service, members: dict[str, Any], pointer: str, code: str
) -> None:
    answer = service.call("POST", TOKENS, {"name": "x", **WANTED, **members})

    assert refusal_code(answer, pointer) == code


@pytest.mark.parametrize("missing", ["name", "class", "environments", "services"])
def test_what_is_needed_is_named(service: Service, missing: str) -> None:
    body = {name: value for name, value in {"name": "x", **WANTED}.items() if name != missing}

    assert refusal_code(service.call("POST", TOKENS, body), f"/{missing}") == "missing"


def test_each_class_can_be_made(service: Service) -> None:
    assert create(service, **{"class": "service", "environments": ["staging"], "roles": []})
    assert create(service, **{"class": "client", "environments": ["*"], "roles": []})
    assert create(service, **{"class": "admin", "roles": ["admin", "secrets:reveal"]})
    assert create(service, services=["billing", "billing"])["services"] == ["billing"]


@pytest.mark.parametrize("cursor", ["x", "WyJhIiwiYiJd", "WyIyMDI2LTAxLTAxIiwiYiJd"])
def test_a_cursor_nobody_gave_out_is_refused(service: Service, cursor: str) -> None:
    assert body_of(service.get(TOKENS, cursor=cursor), 400)["code"] == "bad_cursor"


def test_who_copies_secrets_may_reveal_them_at_the_source(service: Service) -> None:
    """Else whoever may reveal at the target alone would read them there."""
    source, target = service.layer(), service.layer()
    body_of(source.patch(set={"plain": 1, "token": {"$secret": {"value": "hush"}}}))
    places = {"from": source.names, "to": target.names}
    rights = {
        "reader": ["viewer"],
        "editor": ["editor"],
        "revealer": ["editor", "secrets:reveal"],
    }
    everywhere = {"environments": ["*"], "services": ["*"]}
    headers = {}
    for name, roles in rights.items():
        made = create(service, **{"name": name, "class": "operator", "roles": roles, **everywhere})
        headers[name] = {"Authorization": f"Bearer {made['token']}"}

    def copy(who: str, **more: Any) -> Any:
        return service.call("POST", "/api/v1/copy", {**places, **more}, headers=headers[who])

    for refusal in (
        copy("reader"),
        copy("editor"),
        copy("editor", dry_run=True),
        copy("editor", keys=["token"]),
    ):
        assert body_of(refusal, 403)["code"] == "denied"
    assert target.document().status == 404
    assert body_of(copy("editor", keys=["plain"]))["status"] == "created"
    assert body_of(copy("revealer"))["status"] == "updated"
    scoped = create(
        service,
        **{"name": "elsewhere", "class": "operator", "roles": ["editor", "secrets:reveal"]},
        environments=[target.environment],
        services=["*"],
    )
    headers["elsewhere"] = {"Authorization": f"Bearer {scoped['token']}"}
    assert body_of(copy("elsewhere"), 403)["code"] == "denied"


def test_an_export_reveals_only_to_who_may(service: Service) -> None:
    layer = service.layer()
    body_of(layer.patch(set={"token": {"$secret": {"value": "hush"}}}))
    made = create(
        service,
        **{"name": "viewer", "class": "operator", "roles": ["viewer"]},
        environments=["*"],
        services=["*"],
    )
    headers = {"Authorization": f"Bearer {made['token']}"}

    refused_export = layer.export(headers=headers, secrets="revealed")

    assert body_of(refused_export, 403)["code"] == "denied"
    assert b"hush" not in layer.export(headers=headers, secrets="left-out").body
    assert b"hush" in layer.export(secrets="revealed").body
