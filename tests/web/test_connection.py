"""Clients that send their request slowly, without end, or as no request should be."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.web import connection
from tests.servers.process import PATIENCE_SECONDS

MIB = 1024 * 1024
CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and the length of the body once it is there, or to `/at-once` at once.

    What stands in the headers then is told as well.
    """
    assert scope["type"] == "http"
    length = 0
    while scope["path"] != "/at-once":
        message = await receive()
        if message["type"] != "http.request":
            return
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    names = b",".join(name for name, _ in scope["headers"])
    body = b"%b %d %b" % (scope["raw_path"], length, names)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.3)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        reading, http=connection.Protocol, log_config=None, lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving
    listening.close()


async def answer_to(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one by one, and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            received = asyncio.create_task(reader.read())
            with suppress(ConnectionError):  # who is refused may be cut off before all is sent
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            return await received
    finally:
        writer.close()


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET / HT",),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", b"123"),
    ],
    ids=["half a line", "half a head", "half a body"],
)
async def test_half_a_request_is_refused_in_time(port: int, pieces: tuple[bytes, ...]) -> None:
    assert (await answer_to(port, *pieces)).startswith(b"HTTP/1.1 408 ")


async def test_who_says_nothing_is_let_go(port: int) -> None:
    assert await answer_to(port) == b""


async def test_a_second_request_has_its_own_time(port: int) -> None:
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"

    received = await answer_to(port, whole, whole, b"GET /")

    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 408 " in received


async def test_who_sends_only_empty_lines_is_let_go(port: int) -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    assert (await answer_to(port, b"\r\n\r\n")) == b""
    assert (await answer_to(port, whole, b"\r\n")).count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize(
    "head",
    [CHUNKED, CHUNKED.replace(b"POST /a", b"GET /a"), CHUNKED.replace(b"/a", b"/at-once")],
    ids=["with a body", "by GET", "answered at once"],
)
@pytest.mark.parametrize(
    "fields",
    [
        (b"Authorization: Bearer secret\r\n\r\n",),
        (b"X-Short: a\r\n", b"\r\n"),
        (b"X-Long: ", *[b"a" * MIB] * 8, b"\r\n\r\n"),
        (b"x: b\r\n" * 20_000, b"\r\n"),
        (b"x" * MIB, b": b\r\n\r\n"),
    ],
    ids=["credentials", "one", "a long value", "many", "a long name"],
)
async def test_fields_after_the_body_are_refused(
    port: int, head: bytes, fields: tuple[bytes, ...]
) -> None:
    received = await answer_to(port, head + b"2\r\n{}\r\n0\r\n" + fields[0], *fields[1:])

    # What is answered before its body has come may be answered before it is refused.
    assert received.startswith(b"HTTP/1.1 400 ") or b"/at-once 0 " in received
    assert b"authorization" not in received
    assert b"x-short" not in received


async def test_a_refusal_is_a_problem_and_ends_the_connection(port: int) -> None:
    whole = CHUNKED + b"0\r\nX-A: b\r\n\r\n"

    head, _, body = (await answer_to(port, whole, whole)).partition(b"\r\n\r\n")

    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert json.loads(body)["code"] == "trailers_refused"


@pytest.mark.parametrize(
    "pieces",
    [
        (b"2;a=", *[b"a" * MIB] * 2, b"\r\n{}\r\n0\r\n\r\n"),
        (*[b"0" * MIB] * 2, b"2\r\n{}\r\n0\r\n\r\n"),
        ((b"1;" + b"a" * 2_000 + b"\r\nx\r\n") * 200,),
    ],
    ids=["an endless extension", "an endless size", "more frame than body"],
)
async def test_what_frames_a_body_is_bounded(port: int, pieces: tuple[bytes, ...]) -> None:
    received = await answer_to(port, CHUNKED, *pieces)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"bad_http" in received


async def test_a_body_in_tiny_chunks_arrives(port: int) -> None:
    received = await answer_to(port, CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n", LAST)

    assert b"/a 100000 " in received
    assert b"/last 0 " in received


async def test_a_large_body_arrives(port: int) -> None:
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MIB

    received = await answer_to(port, head + b"x" * MIB + LAST)

    assert b"/a %d " % MIB in received
    assert b"/last 0 " in received


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET / HTTP/1.1\r\nX-A: ", *[b"a" * MIB] * 2),
        (b"GET / HTTP/1.1\r\n", b"x: b\r\n" * 300_000),
        (b"GET /?", *[b"a" * MIB] * 2),
        (b"GET / HTTP/1.1\r\n", b"x" * MIB),
    ],
    ids=["a long value", "many fields", "a long query", "a long name"],
)
async def test_a_head_without_end_is_refused(port: int, pieces: tuple[bytes, ...]) -> None:
    assert (await answer_to(port, *pieces)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0, HTTP/2"])
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\n\r\nabcde",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    ],
    ids=["by length", "in chunks"],
)
@pytest.mark.parametrize("step", [10_000, 1], ids=["at once", "byte by byte"])
async def test_who_wants_another_protocol_is_answered_in_this_one(
    port: int, protocol: str, rest: bytes, step: int
) -> None:
    wish = f"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n"
    sent = b"PUT /a HTTP/1.1\r\n" + wish.encode() + rest
    sent += b"GET /b HTTP/1.1\r\n" + wish.encode() + b"Sec-WebSocket-Key: a\r\n\r\n" + LAST

    received = await answer_to(port, *[sent[at : at + step] for at in range(0, len(sent), step)])

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.index(b"/a 5 ") < received.index(b"/b 0 ") < received.index(b"/last 0 ")
    assert b"upgrade" not in received


async def test_many_who_want_another_protocol_are_answered(port: int) -> None:
    wish = b"GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"

    assert (await answer_to(port, wish * 2_000 + LAST)).count(b"HTTP/1.1 200 OK") == 2_001


async def test_who_closes_and_wants_another_protocol_is_closed(port: int) -> None:
    wish = b"GET /a HTTP/1.1\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n"

    assert (await answer_to(port, wish)).count(b"connection: close") == 1


async def test_this_is_no_proxy(port: int) -> None:
    received = await answer_to(port, b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 400 ")


async def test_requests_sent_ahead_are_answered_in_their_order(port: int) -> None:
    ahead = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3_000)]

    received = await answer_to(port, b"".join(ahead) + LAST)

    numbers = [int(found) for found in re.findall(rb"\r\n\r\n/(\d+) 0 ", received)]
    assert numbers == list(range(3_000))
    assert b"/last 0 " in received


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"no request\r\n\r\n", 400),
        (CHUNKED + b"0\r\nX-A: b\r\n\r\n", 400),
        (b"GET /?" + b"a" * MIB, 431),
        (b"GET /unfinished", 408),
    ],
    ids=["no HTTP", "fields after a body", "a long head", "half a line"],
)
async def test_what_was_asked_before_is_answered_before_a_refusal(
    port: int, bad: bytes, status: int
) -> None:
    ahead = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(100)]

    received = await answer_to(port, b"".join(ahead) + bad)

    statuses = [int(found) for found in re.findall(rb"HTTP/1.1 (\d+) ", received)]
    assert statuses == [200] * 100 + [status]
