"""Requests that are made to hold the service up, or to say something past its checks."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.e2e.client import Service
from tests.e2e.conftest import embedded_service
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS

pytestmark = pytest.mark.slow
ADMIN = "an-admin-token-of-32-characters-or-more"
MIB = 1024 * 1024
POST = (
    b"POST /api/v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
ASK = b"GET /api/v1/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
LIVE = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def guarded_service() -> Iterator[Service]:
    settings = {"PILOTHOUSE_ACCESS": "required", "PILOTHOUSE_ADMIN_TOKEN": ADMIN}
    with embedded_service(settings) as service:
        yield service


def answer_to(service: Service, sent: bytes) -> bytes:
    """Send this, and return all that comes until the connection ends."""
    port = int(service.process.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as wire:
        with suppress(ConnectionError):  # who is refused may be cut off before all is sent
            wire.sendall(sent)
        received = b""
        while piece := wire.recv(MIB):
            received += piece
    return received


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        (POST + b"2\r\n{}\r\n0\r\nX-A: " + b"a" * 48 * MIB, b"400"),
        (POST + b"2\r\n{}\r\n0\r\n" + b"x: b\r\n" * 2_000_000, b"400"),
        (POST + b"2\r\n{}\r\n0\r\n" + b"x: b\r\n" * 20_000 + b"\r\n", b"400"),
        (POST + b"2;a=" + b"a" * 48 * MIB, b"400"),
        (POST + b"0" * 48 * MIB, b"400"),
        (b"GET /live HTTP/1.1\r\nX-A: " + b"a" * 48 * MIB, b"431"),
        (b"GET /live HTTP/1.1\r\n" + b"x: b\r\n" * 2_000_000, b"431"),
        (b"GET /live?" + b"a" * 48 * MIB, b"431"),
    ],
    ids=[
        "a long field after the body",
        "two million fields after the body",
        "20,000 fields after the body",
        "an endless extension of a chunk",
        "an endless size of a chunk",
        "a long field",
        "two million fields",
        "a long query",
    ],
)
def test_what_has_no_end_is_refused_before_it_costs(
    guarded_service: Service, attack: bytes, status: bytes
) -> None:
    before = guarded_service.metric("process_cpu_seconds_total")

    answer = answer_to(guarded_service, attack)

    assert answer.startswith(b"HTTP/1.1 " + status)
    # A field of 48 MiB took five seconds.
    spent = guarded_service.metric("process_cpu_seconds_total") - before
    assert spent < 0.5 + SLACK_SECONDS / 4


def test_a_token_after_the_body_lets_nobody_in(guarded_service: Service) -> None:
    late = b"0\r\nAuthorization: Bearer " + ADMIN.encode() + b"\r\n\r\n"

    answer = answer_to(guarded_service, ASK + late)

    # A GET is looked at before its body has come: then as one without a token.
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    assert b'"items"' not in answer


def test_nothing_after_the_body_is_taken_for_a_header(guarded_service: Service) -> None:
    head = ASK.replace(b"Host", b"Authorization: Bearer " + ADMIN.encode() + b"\r\nHost", 1)

    answer = answer_to(guarded_service, head + b"0\r\nX-Request-Id: from-behind\r\n\r\n")

    assert b"from-behind" not in answer


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_who_wants_another_protocol_is_answered_and_let_go(
    guarded_service: Service, protocol: bytes
) -> None:
    body = b'{"key": "a.b", "value": 1}'
    head = (
        b"POST /api/v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        b"Upgrade: %b\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    ) % (protocol, ADMIN.encode(), len(body))

    answer = answer_to(guarded_service, head + body + LIVE)

    assert answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 409 "))
    assert answer.count(b"HTTP/1.1 200 ") == 1
