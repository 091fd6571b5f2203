"""Clients that send their request slowly, or nothing at all."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.web import connection

_READ_SECONDS = 5


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body, once it is there."""
    assert scope["type"] == "http"
    length = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(connection, "ARRIVAL_SECONDS", 0.3)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        reading, http=connection.Protocol, log_config=None, lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving
    listening.close()


async def answered(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one by one, and return all that comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(_READ_SECONDS):
            return await reader.read()
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
    assert (await answered(port, *pieces)).startswith(b"HTTP/1.1 408 ")


async def test_who_says_nothing_is_let_go(port: int) -> None:
    assert await answered(port) == b""


async def test_a_second_request_has_its_own_time(port: int) -> None:
    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"

    told = await answered(port, whole, whole, b"GET /")

    assert told.count(b"HTTP/1.1 200 OK") == 2
    assert b"HTTP/1.1 408 " in told
