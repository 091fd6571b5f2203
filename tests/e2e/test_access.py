"""Access control as callers meet it: which tokens are taken, and for how long."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import body_of
from tests.e2e.events import listening
from tests.servers.answer import Answer
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ROOT, ServiceProcess

ADMIN = "the-first-token-of-an-administrator"
REQUIRED = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
SHOP = "environment=staging&service_name=shop"
_SHOP = f"/api/v1/effective?{SHOP}"
_EVALUATE = "/ofrep/v1/evaluate/flags"


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    settings = {
        "PILOTHOUSE_ACCESS": "required",
        "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
        "CALLER_STREAM_LIMIT": "2",
        "CORS_ORIGINS": "https://console.example",
    }
    with ServiceProcess(settings) as service:
        headers = bearer(ADMIN)
        flag = {"name": "new-checkout", "environment": "staging"}
        body_of(service.request("POST", "/api/v1/feature-flags", flag, headers=headers), 201)
        document = {"config_data": {"host": "db1"}}
        way = "/api/configs/shop?environment=staging"
        body_of(service.request("POST", way, document, headers=headers), 201)
        yield service


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def create_token(service: ServiceProcess, name: str, **members: Any) -> Mapping[str, Any]:
    """Return a new token for `staging` and `shop`."""
    body = {"name": name, "environments": ["staging"], "services": ["shop"], **members}
    answer = service.request("POST", "/api/v1/tokens", body, headers=bearer(ADMIN))
    found: Mapping[str, Any] = body_of(answer, 201)
    return found


def status(service: ServiceProcess, path: str = _SHOP, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.request("GET", path, headers=named).status


def test_a_token_is_taken_from_either_header(service: ServiceProcess) -> None:
    token = create_token(service, "either", **{"class": "service"})["token"]

    assert status(service, Authorization=f"Bearer {token}") == 200
    assert status(service, Authorization=f"bearer  {token} ") == 200
    assert status(service, X_API_Key=token) == 200
    assert status(service, X_API_Key=token, Authorization=f"Bearer {token}") == 200


def test_a_token_is_taken_from_nowhere_else(service: ServiceProcess) -> None:
    token = create_token(service, "nowhere", **{"class": "service"})["token"]

    for way in ("token", "access_token", "api_key", "ticket", "X-API-Key"):
        assert status(service, f"{_SHOP}&{way}={token}") == 401
    assert status(service, Cookie=f"token={token}") == 401
    assert status(service, Authorization=f"Basic {token}") == 401
    assert status(service, Authorization=token) == 401


def test_two_tokens_that_differ_are_refused(service: ServiceProcess) -> None:
    token = create_token(service, "two", **{"class": "service"})["token"]

    answer = service.request("GET", _SHOP, headers={**bearer(token), "X-API-Key": ADMIN})

    assert (answer.status, answer.json()["code"]) == (401, "credentials_contradict")


@pytest.mark.parametrize("token", ["", "plh_", "a" * 9000, "plh_service_a_b_c", "é", "a.b.c"])
def test_what_is_no_token_is_refused(service: ServiceProcess, token: str) -> None:
    answer = service.request("GET", _SHOP, headers=bearer(token.encode().decode("latin-1")))

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_who_is_not_known_is_told_before_anything_is_waited_for(service: ServiceProcess) -> None:
    began = time.monotonic()

    assert status(service, f"{_SHOP}&min_revision=1000000") == 401
    assert time.monotonic() - began < 1 + SLACK_SECONDS


def test_who_is_not_known_is_told_before_a_body_is_judged(service: ServiceProcess) -> None:
    answer = service.request("POST", "/api/v1/config", data=b"{no JSON")
    known = service.request("POST", "/api/v1/config", data=b"{no JSON", headers=bearer(ADMIN))

    assert (answer.status, answer.json()["code"]) == (401, "token_missing")
    assert (known.status, known.json()["code"]) == (400, "bad_json")


def test_a_changed_secret_is_refused(service: ServiceProcess) -> None:
    found = create_token(service, "changed", **{"class": "service"})
    one, two, three, secret, checksum = found["token"].split("_")

    for changed in (secret[::-1], secret[:-1] + ("A" if secret[-1] != "A" else "B")):
        token = f"{one}_{two}_{three}_{changed}_{checksum}"
        assert status(service, Authorization=f"Bearer {token}") == 401


def test_who_is_denied_is_told_which_right_is_missing(service: ServiceProcess) -> None:
    token = create_token(service, "denied", **{"class": "client"})["token"]

    answer = service.request("GET", _SHOP, headers=bearer(token))

    assert (answer.status, answer.json()["code"]) == (403, "denied")
    assert answer.json()["right"] == "config:read"


def test_the_caller_stands_in_the_log_and_whom_they_name_in_the_comment(
    service: ServiceProcess,
) -> None:
    token = create_token(service, "pipeline", **{"class": "operator", "roles": ["editor"]})["token"]
    body = {"config_data": {"host": "db2"}, "created_by": "ana", "comment": "move"}

    put = service.request(
        "PUT", "/api/configs/shop?environment=staging", body, headers=bearer(token)
    )

    assert put.status == 200
    way = "/api/configs/shop/history?environment=staging"
    newest = body_of(service.request("GET", way, headers=bearer(ADMIN)))["items"][0]
    assert (newest["actor"], newest["comment"]) == ("token:pipeline", "move (by ana)")


def test_idempotency_keys_of_two_callers_do_not_meet(service: ServiceProcess) -> None:
    members = {"class": "operator", "roles": ["editor"]}
    tokens = [create_token(service, name, **members)["token"] for name in ("first", "second")]
    body = {"key": "once.only", "value": 1, "environment": "staging", "service_name": "shop"}

    answers = [
        service.request(
            "POST", "/api/v1/config", body, headers={**bearer(token), "Idempotency-Key": "k"}
        )
        for token in (*tokens, tokens[0])
    ]

    assert [answer.status for answer in answers] == [201, 409, 201]


def test_a_revoked_token_ends_at_once_and_so_does_its_stream(service: ServiceProcess) -> None:
    found = create_token(service, "revoked", **{"class": "service"})
    token = found["token"]
    headers = bearer(token)
    assert status(service, **headers) == 200

    way = "?environment=staging&service_name=shop"
    with listening(service.url, way, token=token) as events:
        revoked = service.request("DELETE", f"/api/v1/tokens/{found['id']}", headers=bearer(ADMIN))
        assert revoked.status == 204
        began = time.monotonic()
        assert [event.name for event in events if event.name] == ["drain"]
        assert time.monotonic() - began < 1 + SLACK_SECONDS

    assert status(service, **headers) == 401


def in_progress(service: ServiceProcess) -> int:
    """Return how many requests and streams there are beside this one."""
    answer = service.request("GET", "/metrics").body.decode()
    [found] = re.findall(r"^pilothouse_http_requests_in_progress (\S+)", answer, re.MULTILINE)
    return int(float(found)) - 1


def test_a_stream_that_waited_while_its_token_was_revoked_ends(service: ServiceProcess) -> None:
    found = create_token(service, "waiting", **{"class": "service"})
    wait_until(lambda: in_progress(service) == 0, "the streams of other tests have ended")
    revision = service.request("GET", _SHOP, headers=bearer(found["token"])).headers["X-Revision"]
    # The next change is the revocation itself.
    way = f"?environment=staging&service_name=shop&min_revision={int(revision) + 1}"

    with ThreadPoolExecutor(1) as thread:

        def event_names() -> tuple[int, list[str | None]]:
            with listening(service.url, way, token=found["token"]) as events:
                if events.status != 200:
                    return events.status, []
                return 200, [event.name for event in events if event.name]

        opened = thread.submit(event_names)
        wait_until(lambda: in_progress(service) == 1 or opened.done(), "the stream is asked for")
        service.request("DELETE", f"/api/v1/tokens/{found['id']}", headers=bearer(ADMIN))
        assert opened.result() == (200, ["drain"])


def test_a_read_that_waited_while_its_token_was_revoked_tells_nothing(
    service: ServiceProcess,
) -> None:
    found = create_token(service, "reading", **{"class": "service"})
    wait_until(lambda: in_progress(service) == 0, "the streams of other tests have ended")
    headers = bearer(found["token"])
    tag = service.request("GET", _SHOP, headers=headers).headers["ETag"]
    waiting = {**headers, "If-None-Match": tag, "Prefer": "wait=30"}

    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(service.request, "GET", _SHOP, headers=waiting, timeout=40)
        wait_until(lambda: in_progress(service) == 1, "the read is waiting")
        service.request("DELETE", f"/api/v1/tokens/{found['id']}", headers=bearer(ADMIN))
        wait_until(answer.done, "the read has ended with its token")
        assert answer.result().status == 401


def test_an_expired_token_ends_and_so_does_its_stream(service: ServiceProcess) -> None:
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    found = create_token(service, "short", **{"class": "service", "expires_at": until})
    token = found["token"]
    headers = bearer(token)
    assert status(service, **headers) == 200

    way = "?environment=staging&service_name=shop"
    with listening(service.url, way, token=token) as events:
        assert [event.name for event in events if event.name] == ["drain"]

    assert status(service, **headers) == 401


def test_a_caller_has_so_many_streams_and_no_more(service: ServiceProcess) -> None:
    token = create_token(service, "streams", **{"class": "service"})["token"]
    headers = bearer(token)
    way = "?environment=staging&service_name=shop"

    with (
        listening(service.url, way, token=token),
        listening(service.url, way, token=token),
    ):
        answer = service.request("GET", f"/api/v1/stream{way}", headers=headers)
        assert (answer.status, answer.json()["code"]) == (429, "too_many_streams_of_caller")
        assert int(answer.headers["Retry-After"]) > 0

    def is_opened() -> bool:
        with listening(service.url, way, token=token) as events:
            return events.status == 200

    wait_until(is_opened, "the streams that ended are forgotten")


@pytest.fixture(scope="module")
def narrow() -> Iterator[ServiceProcess]:
    """Let a caller send ten requests at once and five each second after: few on any machine."""
    settings = {
        "PILOTHOUSE_ACCESS": "required",
        "PILOTHOUSE_ADMIN_TOKEN": ADMIN,
        "CALLER_REQUEST_LIMIT": "5",
    }
    with ServiceProcess(settings) as service:
        yield service


@pytest.mark.parametrize("question", ["", "&reveal=false"])  # answered at the hot door, and behind
def test_a_caller_sends_so_many_requests_and_no_more(narrow: ServiceProcess, question: str) -> None:
    def token(name: str) -> dict[str, str]:
        body = {"name": name, "class": "service", "environments": ["staging"], "services": ["shop"]}
        made: list[Answer] = []

        def is_made() -> bool:
            made.append(narrow.request("POST", "/api/v1/tokens", body, headers=bearer(ADMIN)))
            return made[-1].status == 201

        wait_until(is_made, "the administrator may ask again")
        return bearer(made[-1].json()["token"])

    busy, quiet = token("alike"), token("alike")
    answers = [narrow.request("GET", _SHOP + question, headers=busy) for _ in range(200)]

    refused = [answer for answer in answers if answer.status == 429]
    assert [answer.status for answer in answers[:10]] == [200] * 10
    assert refused
    assert {answer.status for answer in answers} == {200, 429}
    assert refused[0].json()["code"] == "too_many_requests"
    assert int(refused[0].headers["Retry-After"]) > 0
    assert status(narrow, **quiet) == 200


def test_a_client_hears_of_flags_by_the_address_that_it_was_given(service: ServiceProcess) -> None:
    token = create_token(service, "browser", **{"class": "client"})["token"]

    answer = body_of(service.request("POST", _EVALUATE, {}, headers=bearer(token)))

    [stream] = answer["eventStreams"]
    assert [flag["key"] for flag in answer["flags"]] == ["new-checkout"]
    assert token not in stream["url"]
    path = stream["url"].removeprefix(service.url)
    assert path.startswith("/ofrep/v1/stream?environment=staging&ticket=")
    with listening(stream["url"].partition("/ofrep")[0], "", path=path) as events:
        change = {"description": "changed"}
        way = "/api/v1/feature-flags/new-checkout?environment=staging"
        body_of(service.request("PATCH", way, change, headers=bearer(ADMIN)))
        assert any(event.data["type"] == "refetchEvaluation" for event in events if event.data)


def test_a_client_does_not_hear_who_has_changed_a_flag(service: ServiceProcess) -> None:
    headers = bearer(create_token(service, "page", **{"class": "client"})["token"])
    way = "/api/v1/stream?environment=staging&service_name=shop"

    for kinds in ("", "&kinds=flag", "&kinds=segment,flag"):
        answer = service.request("GET", way + kinds, headers=headers)
        assert (answer.status, answer.json()["code"]) == (403, "denied")


def test_a_ticket_opens_nothing_else(service: ServiceProcess) -> None:
    token = create_token(service, "ticket", **{"class": "client"})
    answer = body_of(service.request("POST", _EVALUATE, {}, headers=bearer(token["token"])))
    ticket = answer["eventStreams"][0]["url"].rpartition("=")[2]
    other = "/ofrep/v1/stream?environment=production&ticket="

    assert service.request("GET", other + ticket).status == 403
    assert service.request("GET", f"{_SHOP}&ticket={ticket}").status == 401
    assert service.request("GET", f"/api/v1/stream?ticket={ticket}").status == 401
    assert service.request("GET", other + ticket[:-2] + "aa").status == 401
    gone = service.request("DELETE", f"/api/v1/tokens/{token['id']}", headers=bearer(ADMIN))
    assert gone.status == 204
    own = "/ofrep/v1/stream?environment=staging&ticket="
    assert service.request("GET", own + ticket).status == 401


def test_pages_of_named_sites_may_call_and_no_others(service: ServiceProcess) -> None:
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-API-Key",
    }
    site, other = {"Origin": "https://console.example"}, {"Origin": "https://evil.example"}

    allowed = service.request("OPTIONS", _EVALUATE, headers={**preflight, **site})
    refused = service.request("OPTIONS", _EVALUATE, headers={**preflight, **other})

    assert allowed.headers["Access-Control-Allow-Origin"] == site["Origin"]
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert refused.headers["Access-Control-Allow-Origin"] is None
    headers = {**bearer(ADMIN), **site}
    read = service.request("POST", _EVALUATE, {}, headers=headers)
    assert read.headers["Access-Control-Allow-Origin"] == site["Origin"]
    assert "ETag" in read.headers["Access-Control-Expose-Headers"]


def test_denials_stand_in_the_audit(service: ServiceProcess) -> None:
    token = create_token(service, "curious", **{"class": "client"})
    headers = {**bearer(token["token"]), "X-Request-Id": "curious-1"}
    service.request("GET", _SHOP, headers=headers)

    def audit_rows() -> dict[str, Mapping[str, Any]]:
        answer = service.request("GET", "/api/v1/audit?kind=access", headers=bearer(ADMIN))
        return {row["request_id"]: row for row in body_of(answer)["items"]}

    wait_until(lambda: "curious-1" in audit_rows(), "it is written")
    denied = audit_rows()["curious-1"]
    assert (denied["actor"], denied["action"]) == ("token:curious", "denied")
    assert denied["actor_id"] == token["id"]
    assert (denied["environment"], denied["name"]) == ("staging", "shop")
    assert denied["source"] == "127.0.0.1"
    assert denied["facts"] == {
        "code": "denied",
        "method": "GET",
        "right": "config:read",
        "route": "/api/v1/effective",
    }


def test_wrong_tokens_are_one_row_and_slowed_down_and_nobody_else_is() -> None:
    settings = {**REQUIRED, "UNKNOWN_CALLER_LIMIT": "20"}
    with ServiceProcess(settings) as service:
        answers = []
        for number in range(400):
            headers = {**bearer(f"plh_ghost_{number}"), "X-Request-Id": f"ghost-{number}"}
            answers.append(service.request("GET", _SHOP, headers=headers))
            if number % 20 == 0:  # not counted, and not refused
                assert service.request("GET", _SHOP, headers=bearer(ADMIN)).status == 200
                assert service.request("GET", "/live").status == 200
        nobody = service.request("GET", _SHOP)
        known = service.request("GET", _SHOP, headers=bearer(ADMIN))
        service.stop()
        service.restart()
        answer = service.request("GET", "/api/v1/audit?action=refused", headers=bearer(ADMIN))

    statuses = [each.status for each in answers]
    assert statuses[:40] == [401] * 40
    assert set(statuses) == {401, 429}
    limited = next(each for each in answers if each.status == 429)
    assert limited.json()["code"] == "too_many_refusals"
    assert int(limited.headers["Retry-After"]) >= 1
    assert (nobody.status, known.status) == (429, 200)
    rows = body_of(answer)["items"]
    # The clock may have come to the next minute in between.
    assert len(rows) in {1, 2, 3}
    assert sum(row["facts"]["count"] for row in rows) == 400
    assert all(row["facts"]["codes"].keys() == {"token_refused"} for row in rows)
    assert all((row["actor"], row["source"]) == ("anonymous", "127.0.0.1") for row in rows)
    assert rows[0]["request_id"] == "ghost-0"
    assert "plh_ghost" not in str(rows)


def test_who_has_read_the_audit_stands_in_it() -> None:
    with ServiceProcess(REQUIRED) as service:
        for way in ("/api/v1/audit", "/api/v1/audit?limit=1", "/api/v1/audit?environment=staging"):
            service.request("GET", way, headers=bearer(ADMIN))
        lines = {**bearer(ADMIN), "Accept": "application/x-ndjson"}
        service.request("GET", "/api/v1/audit", headers=lines)
        service.stop()
        service.restart()
        answer = service.request("GET", "/api/v1/audit?action=read", headers=bearer(ADMIN))

    rows = body_of(answer)["items"]
    counts = Counter[str]()
    for row in rows:
        assert (row["actor"], row["actor_id"], row["kind"]) == ("token:admin", "admin", "audit")
        counts.update(
            {f"{row['environment']} {code}": n for code, n in row["facts"]["codes"].items()}
        )
    assert counts == {"* page": 2, "* export": 1, "staging page": 1}


def test_a_token_is_told_from_another_of_its_name_in_every_row(service: ServiceProcess) -> None:
    members = {"class": "operator", "roles": ["editor"]}
    first, second = (create_token(service, "twin", **members) for _ in range(2))
    for number, token in enumerate((first, second)):
        flag = {"name": f"twin-{number}", "environment": "staging"}
        body_of(
            service.request("POST", "/api/v1/feature-flags", flag, headers=bearer(token["token"])),
            201,
        )
        key = {"key": f"twin{number}", "value": 1, "environment": "staging", "service_name": "shop"}
        body_of(service.request("POST", "/api/v1/config", key, headers=bearer(token["token"])), 201)
        instance = {"service_name": "shop", "service_url": f"http://192.0.2.1:{80 + number}"}
        way = "/api/v1/registry/register"
        body_of(service.request("POST", way, instance, headers=bearer(token["token"])), 201)

    questions = {
        "audit": "/api/v1/audit?actor=token:twin&limit=1000",
        "one of them": f"/api/v1/audit?actor=token:twin%23{first['id']}&limit=1000",
        "changes": "/api/v1/changes?limit=1000",
    }
    found = {
        what: [
            row
            for row in body_of(service.request("GET", way, headers=bearer(ADMIN)))["items"]
            if row["actor"] == "token:twin"
        ]
        for what, way in questions.items()
    }

    ids = [first["id"]] * 3 + [second["id"]] * 3
    assert [row["actor_id"] for row in found["audit"]] == ids
    assert [row["actor_id"] for row in found["changes"]] == ids
    assert found["one of them"] == found["audit"][:3]
    read = service.request("GET", f"/api/v1/config/twin0?{SHOP}", headers=bearer(ADMIN)).json()
    assert read["updated_by"] == "token:twin"
    way = f"/api/v1/config/twin0/history?{SHOP}"
    history = service.request("GET", way, headers=bearer(ADMIN)).json()["items"]
    assert [item["actor"] for item in history] == ["token:twin"]


def test_the_hash_of_a_row_is_for_those_who_read_all_rows(service: ServiceProcess) -> None:
    """Between two rows that one sees, it would let one test guesses of what one does not."""
    part = create_token(service, "of-a-part", **{"class": "admin"})["token"]
    way = "/api/v1/audit?environment=staging&name=shop&kind=config"

    seen, whole = (
        body_of(service.request("GET", way, headers=bearer(token)))["items"]
        for token in (part, ADMIN)
    )

    assert seen
    assert [row["hash"] for row in seen] == [None] * len(seen)
    assert all(re.fullmatch("[0-9a-f]{64}", row["hash"]) for row in whole)
    assert [row["seq"] for row in seen] == [row["seq"] for row in whole]


def test_guesses_find_no_secret_in_the_audit() -> None:
    """Nor what a secret was while it was plain, nor from rows that a revealer has caused."""
    with ServiceProcess(REQUIRED) as service:
        everything = {"environments": ["*"], "services": ["*"]}
        admin, revealer = (
            create_token(service, name, **{"class": "admin", "roles": roles, **everything})["token"]
            for name, roles in (("auditor", []), ("revealer", ["secrets:reveal"]))
        )
        way = f"/api/v1/config/pin?{SHOP}"

        def put(value: str, service_name: str = "shop", **more: Any) -> None:
            address = way.replace("service_name=shop", f"service_name={service_name}")
            body = {"value": value, **more}
            body_of(service.request("PUT", address, body, headers=bearer(admin)))

        for place in ("shop", "scratch"):
            body = {"key": "pin", "value": "0000", "environment": "staging", "service_name": place}
            body_of(service.request("POST", "/api/v1/config", body, headers=bearer(admin)), 201)
        put("4711")  # plain, once
        put("1234", is_encrypted=True)
        for guess in ("1233", "1234", "4711"):
            put(guess)
            put(guess, "scratch")
            put(guess, is_encrypted=False)
            put("1234", is_encrypted=True)

        seen = {
            caller: body_of(
                service.request("GET", "/api/v1/audit?kind=config", headers=bearer(caller))
            )["items"]
            for caller in (admin, revealer)
        }

    assert all(row["facts"] is None for row in seen[admin])
    for name in ("shop", "scratch"):
        facts = [row["facts"] for row in seen[revealer] if row["name"] == name]
        assert [fact["before"] for fact in facts] == [None, *(fact["after"] for fact in facts[:-1])]
    every = [row["facts"]["after"] for row in seen[revealer]]
    assert len(set(every)) == len(every)


def test_a_reveal_names_the_layers_of_what_was_inherited(service: ServiceProcess) -> None:
    layers = {"default": "_shared", "staging": "_shared"}
    for environment, name in layers.items():
        body = {"set": {f"of.{environment}": "x"}, "encrypt": [f"of.{environment}"]}
        way = f"/api/v1/config?environment={environment}&service_name={name}"
        body_of(service.request("PATCH", way, body, headers=bearer(ADMIN)))
    own = {"set": {"of.own": "x"}, "encrypt": ["of.own"]}
    place = "environment=staging&service_name=heir"
    body_of(service.request("PATCH", f"/api/v1/config?{place}", own, headers=bearer(ADMIN)))

    for way in (
        f"/api/v1/effective?{place}&reveal=true",
        f"/api/v1/config/of.default?{place}&reveal=true",
        f"/api/v1/config/of.own?{place}&reveal=true",
    ):
        body_of(service.request("GET", way, headers=bearer(ADMIN)))

    way = "/api/v1/audit?action=revealed&environment=staging&name=heir"
    rows = body_of(service.request("GET", way, headers=bearer(ADMIN)))["items"]
    inherited = {"default/_shared": ["of.default"], "staging/_shared": ["of.staging"]}
    assert [set(row["facts"].pop("keys")) for row in rows] == [
        {"of.default", "of.own", "of.staging"},
        {"of.default"},
        {"of.own"},
    ]
    assert [row["facts"] for row in rows] == [
        {"inherited": inherited},
        {"inherited": {"default/_shared": ["of.default"]}},
        {},
    ]


def test_a_folder_is_imported_with_a_token(service: ServiceProcess, tmp_path: Path) -> None:
    (tmp_path / "orders.yml").write_text("port: 8080\n")
    members = {"class": "operator", "roles": ["publisher"], "environments": ["*"]}
    token = create_token(service, "importer", **{**members, "services": ["orders"]})["token"]
    program = str(Path(sys.executable).with_name("pilothouse"))
    argv = (program, "config", "import", str(tmp_path), "--url", service.url)

    def import_exit_code(**variables: str) -> int:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
        return subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode

    assert import_exit_code() == 4
    assert import_exit_code(PILOTHOUSE_TOKEN=token) == 0
    assert status(service, "/api/configs/orders", Authorization=f"Bearer {token}") == 200
