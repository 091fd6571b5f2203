"""What can be wrong with instances: it is told by its place, and nothing changes."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.drawn import json_values
from tests.core.drawn_instances import registrations
from tests.e2e.bad_registry import BODIES, FLAWS, GOOD, HERE, SERVICE, cases
from tests.e2e.bad_requests import VALUE, BadRequest, json_bytes
from tests.e2e.registry import REGISTRY
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.service import ServiceProcess
from tests.trials import trials

pytestmark = pytest.mark.slow

CORPUS = list(cases())
PLACES = [(member, what) for member, flaws in FLAWS.items() for what in flaws]
many = settings(max_examples=trials(40), suppress_health_check=list(HealthCheck))


class Stand:
    """The service with one instance, and all that is known of it."""

    def __init__(self, process: ServiceProcess) -> None:
        self.process = process
        body = {"service_name": SERVICE, "service_url": "http://10.0.0.7", "instance_id": "i-1"}
        assert self.register({**body, "ttl_seconds": 86_400}).status == 201
        self.seeded = self.registry_state()

    def register(self, body: Any) -> Answer:
        return self.process.request("POST", f"{REGISTRY}/register", body)

    def registry_state(self) -> tuple[bytes, ...]:
        paths = ("/api/v1/changes?kind=instance", f"{REGISTRY}/services", HERE)
        return tuple(self.process.request("GET", path).body for path in paths)

    def send_request(self, request: BadRequest) -> Answer:
        """Send the very bytes on a connection of their own."""
        address = ("127.0.0.1", urlsplit(self.process.url).port or 0)
        with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
            with suppress(ConnectionError):  # a refusal may come before all is sent
                connection.sendall(request.wire())
            response = HTTPResponse(connection, method=request.method)
            response.begin()
            return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with closing(ServiceProcess({"ALLOWED_HOSTS": "pilothouse"})) as process:
        yield Stand(process)


@pytest.mark.parametrize("bad", CORPUS, ids=[bad.title for bad in CORPUS])
def test_a_bad_request_is_refused_and_changes_nothing(stand: Stand, bad: BadRequest) -> None:
    answer = stand.send_request(bad)

    problem = answer.json()
    assert (answer.status, problem["code"]) == (bad.status, bad.code), problem
    assert answer.headers.get_content_type() == "application/problem+json"
    assert VALUE not in answer.body.decode()
    assert stand.registry_state() == stand.seeded


@pytest.mark.parametrize(("member", "what"), PLACES, ids=map(" ".join, PLACES))
def test_a_flaw_of_a_registration_is_told_by_its_place(
    stand: Stand, member: str, what: str
) -> None:
    value, pointer = FLAWS[member][what]

    answer = stand.register({**GOOD, member: value})

    problem = answer.json()
    assert (answer.status, problem["code"]) == (422, "bad_instance"), problem
    assert [flaw["pointer"] for flaw in problem["errors"]] == [f"#{pointer}"]
    assert VALUE not in answer.body.decode()
    assert stand.registry_state() == stand.seeded


def test_an_answer_names_what_is_forbidden(stand: Stand) -> None:
    url = "http://[::ffff:169.254.169.254]/latest"

    problem = stand.register({**GOOD, "health_check_url": url}).json()

    assert problem["errors"][0]["code"] == "forbidden_address"
    assert "may not be probed" in problem["errors"][0]["detail"]


@pytest.mark.parametrize(("method", "target"), BODIES)
@many
@given(body=json_values)
def test_json_of_any_kind_is_refused(stand: Stand, method: str, target: str, body: Any) -> None:
    takes_nothing = not BODIES[method, target][0]
    if takes_nothing and body in (None, {}):
        return

    answer = stand.process.request(method, target, data=encoded_loosely(body), headers=AS_JSON)

    assert answer.status in {400, 422}, answer.body
    assert stand.registry_state() == stand.seeded


@many
@given(registrations, st.sampled_from(sorted(FLAWS)), json_values)
def test_a_registration_is_refused_at_its_place_or_stands_as_it_was_sent(
    stand: Stand, drawn: dict[str, Any], member: str, value: Any
) -> None:
    drawn = {**drawn, "service_name": "drawn", "health_check_url": None, member: value}

    answer = stand.process.request(
        "POST", f"{REGISTRY}/register", data=encoded_loosely(drawn), headers=AS_JSON
    )

    assert answer.status in {200, 201, 400, 422}, answer.body
    if answer.status == 422:
        assert all(flaw["pointer"].startswith(f"#/{member}") for flaw in answer.json()["errors"])
    if answer.status in {200, 201}:
        made = answer.json()
        shown = stand.process.request("GET", f"{REGISTRY}/services/{made['service_name']}").json()
        (own,) = [one for one in shown["items"] if one["instance_id"] == made["instance_id"]]
        for name in ("service_url", "tags", "weight", "zone", "version", "metadata"):
            if drawn.get(name) is not None:
                assert own[name] == drawn[name]
        ended = {"service_name": made["service_name"], "instance_id": made["instance_id"]}
        assert stand.process.request("POST", f"{REGISTRY}/deregister", ended).status == 200
        stand.seeded = stand.registry_state()
    assert stand.registry_state() == stand.seeded


AS_JSON = {"Content-Type": "application/json"}


def encoded_loosely(body: Any) -> bytes:
    """Write what Hypothesis draws, halves of surrogate pairs as escapes."""
    try:
        return json_bytes(body)
    except UnicodeEncodeError:
        return json.dumps(body).encode()
