"""What a client can do wrong, sent byte by byte: it is told so, and nothing is written."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import cache
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest

from tests.docs.generate import openapi
from tests.e2e import bad_bodies, bad_files, bad_names, bad_questions, bad_schemas
from tests.e2e.bad_requests import VALUE, BadRequest, json_bytes, sending
from tests.servers.answer import Answer
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS
from tests.servers.service import ServiceProcess

pytestmark = pytest.mark.slow

CORPUS = [
    *bad_names.cases(),
    *bad_bodies.cases(),
    *bad_files.cases(),
    *bad_questions.cases(),
    *bad_schemas.cases(),
]
SEEDS = (
    ("PATCH", "/api/v1/config", {"set": {"database.host": "db1"}}),
    ("POST", "/api/configs/large", {"config_data": {"text": "x" * 500_000}}),
    ("POST", "/api/configs/orders", {"config_data": {"size": 1}}),
)
# What is no HTTP never reaches the application: the server answers in plain text, and hangs up.
NO_HTTP = {
    "no request": b"hunter2\r\n\r\n",
    "an unknown method": b"HUNTER2 /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown version": b"GET /live HTTP/7.1\r\nHost: x\r\n\r\n",
    "a raw newline in a path": b"GET /li\nve HTTP/1.1\r\nHost: x\r\n\r\n",
    "a raw control character in a path": b"GET /live\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a raw NUL in a header": b"GET /live HTTP/1.1\r\nX-A: a\x00b\r\n\r\n",
    "a header without a colon": b"GET /live HTTP/1.1\r\nhunter2\r\n\r\n",
    "a length that is no number": b"POST /live HTTP/1.1\r\nContent-Length: hunter2\r\n\r\n",
    "a negative length": b"POST /live HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /live HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length and chunks": (
        b"POST /live HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
}


class Watched:
    """The service, and a connection on which its log is asked for after every request."""

    def __init__(self, service: ServiceProcess) -> None:
        self.process = service
        self.address = ("127.0.0.1", urlsplit(service.url).port or 0)
        self._connection = HTTPConnection(*self.address, timeout=PATIENCE_SECONDS)
        for method, target, body in SEEDS:
            self.write(method, target, body)

    def write(self, method: str, target: str, body: object, **headers: str) -> Answer:
        """Send what is no bad request, and take what it writes for granted from here on."""
        answer = self.process.request(method, target, body, headers=headers)
        assert answer.status in {200, 201}
        revision = answer.headers["X-Revision"]
        self._connection.request("GET", f"/api/v1/effective?min_revision={revision}")
        self._connection.getresponse().read()
        self.seeded = self.log_and_revision()
        return answer

    def log_and_revision(self) -> tuple[bytes, str | None]:
        self._connection.request("GET", "/api/v1/changes")
        log = self._connection.getresponse()
        return log.read(), log.headers["X-Revision"]

    def send_bytes(self, wire: bytes, method: str = "GET") -> Answer:
        """Send these bytes on a connection of their own and read one answer."""
        with socket.create_connection(self.address, timeout=PATIENCE_SECONDS) as connection:
            with suppress(ConnectionError):  # a refusal may come before all is sent
                connection.sendall(wire)
            response = HTTPResponse(connection, method=method)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Watched]:
    operations()  # takes longer the first time than a connection may be idle
    with (
        ServiceProcess({"ALLOWED_HOSTS": "pilothouse"}) as process,
        closing(Watched(process)) as watched,
    ):
        yield watched


@cache
def operations() -> list[tuple[str, str, frozenset[str]]]:
    """Return every operation: its method, the pattern of its path and the codes it names."""
    return [
        (method.upper(), re.sub(r"\{\w+\}", "[^/]+", path), frozenset(operation["x-problem-codes"]))
        for path, methods in json.loads(openapi())["paths"].items()
        for method, operation in methods.items()
    ]


def documented_codes(bad: BadRequest) -> frozenset[str]:
    """Return the codes that the operation asked for names; of no operation, any."""
    path = bad.target.partition("?")[0]
    found = [
        codes
        for method, pattern, codes in operations()
        if method == bad.method and re.fullmatch(pattern, path)
    ]
    return frozenset().union(*found) if found else frozenset({bad.code})


def check_refusal(service: Watched, bad: BadRequest) -> Answer:
    """Send a request and check everything that holds for each that is refused."""
    answer = service.send_bytes(bad.wire(), bad.method)
    problem = json.loads(answer.body)
    assert (answer.status, problem.get("code")) == (bad.status, bad.code)
    assert problem["status"] == bad.status
    assert answer.headers.get_content_type() == "application/problem+json"
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert bad.code in documented_codes(bad) | {"no_such_route"}
    assert VALUE not in f"{answer.headers}{answer.body!r}"
    assert service.log_and_revision() == service.seeded
    return answer


@pytest.mark.parametrize("bad", CORPUS, ids=[bad.title for bad in CORPUS])
def test_a_bad_request_is_refused_and_changes_nothing(service: Watched, bad: BadRequest) -> None:
    check_refusal(service, bad)


def test_a_revision_to_come_is_waited_for_and_then_refused(service: Watched) -> None:
    started = time.monotonic()

    future = f"/api/v1/effective?min_revision={2**63 - 1}"
    answer = check_refusal(service, BadRequest("", 503, "revision_not_reached", "GET", future))

    assert 1.9 < time.monotonic() - started < 2 + SLACK_SECONDS
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_method_that_is_not_allowed_is_told_which_are(service: Watched, method: str) -> None:
    target = "/api/v1/config/bulk/history" if method == "PUT" else "/api/v1/import"

    answer = check_refusal(service, BadRequest("", 405, "method_not_allowed", method, target))

    assert answer.headers["Allow"] == ("GET, HEAD" if method == "PUT" else "POST")


@pytest.mark.parametrize("what", NO_HTTP)
def test_what_is_no_http_is_answered_without_an_echo(service: Watched, what: str) -> None:
    answer = service.send_bytes(NO_HTTP[what])

    assert answer.status == 400
    assert VALUE not in f"{answer.headers}{answer.body!r}"
    assert answer.headers["Connection"] == "close"
    assert service.log_and_revision() == service.seeded


@pytest.mark.parametrize("part", [b"x" * 65_536, b"x: y\r\n" * 10_000])
def test_a_head_without_end_is_not_listened_to(service: Watched, part: bytes) -> None:
    with socket.create_connection(service.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"GET /api/v1/config/database.host HTTP/1.1\r\nX-A: ")

        with suppress(ConnectionError):  # it may be refused before all is sent
            connection.sendall(part * 1000)  # 64 MiB
        response = HTTPResponse(connection)
        response.begin()
        problem = json.loads(response.read())

        assert (response.status, problem["code"]) == (431, "headers_too_large")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("header", ['"1', "1", ",", '"99"', 'W/"7"', "hunter2", "ä", "", '"1 2"'])
def test_tags_that_mean_nothing_get_the_full_answer(service: Watched, header: str) -> None:
    headers = {"If-None-Match": header}
    question = BadRequest("", 200, "", "GET", "/api/v1/config/database.host", b"", headers)

    assert service.send_bytes(question.wire()).status == 200


@pytest.mark.parametrize(
    "wish",
    [
        "wait",
        "wait=",
        "wait=-1",
        "wait=1.5",
        "wait=abc",
        "wait=" + "9" * 5000,
        'wait="30',
        "wait=0",
    ],
)
def test_a_wish_that_cannot_be_read_is_no_reason_to_wait(service: Watched, wish: str) -> None:
    target = "/api/configs/orders"
    tag = service.process.request("GET", target).headers["ETag"]
    headers = {"If-None-Match": tag, "Prefer": wish}
    started = time.monotonic()

    answer = service.send_bytes(BadRequest("", 304, "", "GET", target, b"", headers).wire())

    assert answer.status == 304
    assert time.monotonic() - started < SLACK_SECONDS


def test_an_idempotency_key_stands_for_one_request(service: Watched) -> None:
    once = {"Idempotency-Key": "once"}
    body = {"config_data": {"a": VALUE}}
    first = service.write("POST", "/api/configs/once", body, **once)
    seeded = service.seeded

    again = service.write("POST", "/api/configs/once", body, **once)

    assert again.body == first.body
    assert service.seeded == seeded
    bad = sending(
        "", 422, "idempotency_key_reused", "POST", "/api/configs/once", {"config_data": {}}
    )
    other = replace(bad, headers={**bad.headers, **once})
    check_refusal(service, other)
    check_refusal(service, replace(other, target="/api/configs/once?environment=default"))
    check_refusal(service, replace(other, body=json_bytes({**body, "comment": "another"})))


def test_nothing_that_was_sent_stands_in_the_log(service: Watched) -> None:
    bad = sending(
        "", 422, "bad_member", "PUT", "/api/v1/config/database.host", {"value": {"$value": 1}}
    )
    secret = replace(bad, body=json_bytes({"value": [{"$value": VALUE}]}))
    check_refusal(service, secret)

    log = service.process.log()

    assert VALUE not in log
    assert '"level": "error"' not in log
