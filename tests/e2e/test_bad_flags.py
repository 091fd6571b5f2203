"""What can be wrong with flags and segments: it is told by its place, and nothing changes."""

import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.bad_flag_requests import OFREP_CONTEXTS, OFREP_PATHS, cases
from tests.e2e.bad_flags import BAD_CONDITIONS, BAD_FLAGS, BAD_SEGMENTS, SIMPLE_FLAWS, Members
from tests.e2e.bad_requests import VALUE, BadRequest, sending
from tests.e2e.client import Service, body_of, fresh_name
from tests.e2e.flags import FLAGS, OFREP, SEGMENTS, Flags
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

CORPUS = list(cases())
NEED = {"flag": "base", "variants": ["on"]}
CREW = {"when": {"segment": "crew"}, "serve": {"variant": "on"}}
SEEDS: tuple[tuple[str, Members], ...] = (
    (SEGMENTS, {"name": "staff"}),
    (SEGMENTS, {"name": "crew", "when": {"segment": "staff"}}),
    (FLAGS, {"name": "base"}),
    (FLAGS, {"name": "top", "rules": [CREW], "prerequisites": [NEED]}),
    (FLAGS, {"name": "spare", "rules": [{"serve": {"variant": "on"}}]}),
    (FLAGS, {"name": "simple", "rollout_percentage": 10, "target_users": ["ann"]}),
)


@dataclass(frozen=True)
class Stand:
    """An environment in which something stands, and what its flag set was then."""

    flags: Flags
    seeded: bytes

    @property
    def query(self) -> str:
        return f"?environment={self.flags.environment}"

    def flag_set(self) -> bytes:
        return self.flags.of.get(f"/api/v1/flag-set{self.query}").body

    def send_request(self, request: BadRequest) -> Answer:
        """Send the very bytes on a connection of their own."""
        port = urlsplit(self.flags.of.process.url).port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
            with suppress(ConnectionError):  # a refusal may come before all is sent
                connection.sendall(request.wire())
            response = HTTPResponse(connection, method=request.method)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def require_refusal(self, request: BadRequest) -> Any:
        """Send what has to be refused, and return the problem; nothing has changed then."""
        answer = self.send_request(request)
        assert answer.status == request.status, answer.body[:300]
        problem = answer.json()
        assert problem["code"] == request.code, problem
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        assert self.flag_set() == self.seeded
        return problem

    def refuses_at(self, pointer: str, method: str, target: str, body: Members) -> None:
        answer = self.send_request(sending("", 422, "", method, target, dict(body)))
        problem = answer.json()
        assert answer.status == 422, answer.body[:300]
        assert problem["code"] in {"bad_flag", "invalid"}
        assert problem["errors"][0]["pointer"] == f"#{pointer}", problem["errors"][:3]
        assert self.flag_set() == self.seeded


def seed_flags(service: Service) -> Stand:
    flags = Flags(service)
    for path, members in SEEDS:
        body = {**members, "environment": flags.environment}
        made = service.call("POST", path, body)
        body_of(made, 201)
    revision = made.headers["X-Revision"]
    there = service.get("/api/v1/flag-set", environment=flags.environment, min_revision=revision)
    return Stand(flags, there.body)


@pytest.fixture(scope="module")
def stands() -> dict[int, Stand]:
    return {}


@pytest.fixture
def stand(service: Service, stands: dict[int, Stand]) -> Stand:
    if id(service) not in stands:
        stands[id(service)] = seed_flags(service)
    return stands[id(service)]


@pytest.mark.parametrize("what", BAD_FLAGS)
def test_a_flaw_of_a_flag_is_told_by_its_place(stand: Stand, what: str) -> None:
    members, pointer = BAD_FLAGS[what]
    new = {"name": "new", "environment": stand.flags.environment, **members}

    stand.refuses_at(pointer, "POST", FLAGS, new)
    stand.refuses_at(pointer, "PUT", f"{FLAGS}/spare{stand.query}", members)
    stand.refuses_at(pointer, "PATCH", f"{FLAGS}/spare{stand.query}", members)


@pytest.mark.parametrize("what", BAD_CONDITIONS)
def test_a_flaw_of_a_rule_is_told_by_its_place(stand: Stand, what: str) -> None:
    when, pointer = BAD_CONDITIONS[what]
    ruled = [{"serve": {"variant": "on"}}, {"when": when, "serve": {"variant": "on"}}]
    new = {"name": "new", "environment": stand.flags.environment, "rules": ruled}

    stand.refuses_at(f"/rules/1/when{pointer}", "POST", FLAGS, new)


@pytest.mark.parametrize("what", SIMPLE_FLAWS)
def test_a_flaw_of_the_simple_form_is_told_by_its_place(stand: Stand, what: str) -> None:
    members, pointer = SIMPLE_FLAWS[what]
    new = {"name": "new", "environment": stand.flags.environment, **members}

    stand.refuses_at(pointer, "POST", FLAGS, new)
    stand.refuses_at(pointer, "PUT", f"{FLAGS}/simple{stand.query}", members)
    stand.refuses_at(pointer, "PATCH", f"{FLAGS}/simple{stand.query}", members)


@pytest.mark.parametrize("what", BAD_SEGMENTS)
def test_a_flaw_of_a_segment_is_told_by_its_place(stand: Stand, what: str) -> None:
    members, pointer = BAD_SEGMENTS[what]
    new = {"name": "new", "environment": stand.flags.environment, **members}

    if "circle" not in what:
        stand.refuses_at(pointer, "POST", SEGMENTS, new)
    stand.refuses_at(pointer, "PUT", f"{SEGMENTS}/staff{stand.query}", members)
    stand.refuses_at(pointer, "PATCH", f"{SEGMENTS}/staff{stand.query}", members)


def with_environment(request: BadRequest, environment: str) -> BadRequest:
    """Put the environment's name where the table has E."""
    target = request.target.replace("environment=E", f"environment={environment}")
    body = request.body.replace(b'"environment": "E"', f'"environment": "{environment}"'.encode())
    return replace(request, target=target, body=body)


@pytest.mark.parametrize("bad", CORPUS, ids=[bad.title for bad in CORPUS])
def test_a_bad_request_is_refused_and_changes_nothing(stand: Stand, bad: BadRequest) -> None:
    problem = stand.require_refusal(with_environment(bad, stand.flags.environment))

    assert VALUE not in str(problem)


@pytest.mark.parametrize("path", OFREP_PATHS)
@pytest.mark.parametrize("what", OFREP_CONTEXTS)
def test_a_bad_request_of_openfeature_is_refused_in_its_form(
    stand: Stand, path: str, what: str
) -> None:
    body, code = OFREP_CONTEXTS[what]
    headers = {"X-Environment": stand.flags.environment, "Content-Type": "application/json"}

    answer = stand.send_request(BadRequest("", 400, code, "POST", path, body, headers))

    refusal = answer.json()
    assert (answer.status, refusal["errorCode"]) == (400, code)
    assert refusal.get("key") == (None if path == OFREP else path.rpartition("/")[2])
    assert VALUE not in refusal["errorDetails"]


@pytest.mark.parametrize("name", ["", "a b", "..", "a" * 64])
@pytest.mark.parametrize("path", OFREP_PATHS)
def test_openfeature_is_told_of_a_bad_environment_in_its_form(
    stand: Stand, path: str, name: str
) -> None:
    headers = {"X-Environment": name, "Content-Type": "application/json"}

    answer = stand.send_request(BadRequest("", 400, "GENERAL", "POST", path, b"{}", headers))

    assert (answer.status, answer.json()["errorCode"]) == (400, "GENERAL")


def test_an_idempotency_key_stands_for_one_write(service: Service) -> None:
    stand = seed_flags(service)
    key = {"Idempotency-Key": fresh_name("k")}
    body = {"name": "once", "environment": stand.flags.environment}
    made = stand.flags.of.call("POST", FLAGS, body, headers=key)

    for other in ({**body, "name": "twice"}, {**body, "enabled": False}):
        again = stand.flags.of.call("POST", FLAGS, other, headers=key)
        assert body_of(again, 422)["code"] == "idempotency_key_reused"

    same = stand.flags.of.call("POST", FLAGS, body, headers=key)
    assert (body_of(made, 201), made.headers["X-Revision"]) == (
        body_of(same, 201),
        same.headers["X-Revision"],
    )
    assert body_of(stand.flags.get("once/history"))["items"][0]["version"] == 1
