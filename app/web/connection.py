"""What a stream must be able to do to its connection, which ASGI has no words for."""

import asyncio
import socket
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.web.middleware import LARGEST_HEADERS

_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
# From its first byte to its last; what connects has as long to say anything.
ARRIVAL_SECONDS = 30.0
_EXTENSION = "pilothouse.connection"
_SEND_BUFFER = 16 * 1024  # the kernel doubles it
_WRITE_BUFFER = 8 * 1024


class Connection:
    """One client's connection: it can be kept small, pushed to, and cut without waiting."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._transport: Any = protocol.transport

    def keep_small(self) -> None:
        """Bound what a client that stops reading can park here: megabytes by default."""
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        found = self._transport.get_extra_info("socket")
        if found is not None and found.family != getattr(socket, "AF_UNIX", None):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def push(self, piece: bytes) -> bool:
        """Write a piece of the body under way now; False if it would have to wait.

        A thousand streams are reached so in the time in which a hundred are through their tasks
        and ASGI's layers.
        """
        if self._protocol.flow.write_paused or self._transport.is_closing():
            return False
        self._transport.write(_chunked(piece))
        return True

    def cut(self) -> None:
        """End the connection now; closing it would wait until the client has read everything."""
        self._transport.abort()


@lru_cache(maxsize=8)
def _chunked(body: bytes) -> bytes:
    """Frame a piece of a body, as uvicorn does wherever no length was stated."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that hands the connection to the application.

    It also bounds what uvicorn leaves open: how long a header may be, and how long a request may
    take to arrive.
    """

    _in_head = False
    _in_body = False
    _head = 0  # bytes received since the read in which the head of the request began
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(ARRIVAL_SECONDS, self._too_slow)

    def data_received(self, data: bytes) -> None:
        goes_on = self._in_head
        super().data_received(data)
        if goes_on and self._in_head and not self.transport.is_closing():
            self._head += len(data)
            if self._head > LARGEST_HEADERS:
                self._refuse(_HEAD_TOO_LARGE)
        if self._in_head or self._in_body:
            if self._deadline is None:
                self._deadline = self.loop.call_later(ARRIVAL_SECONDS, self._too_slow)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": Connection(self)}}

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        """Let go of a client that sends its request bit by bit, or not at all."""
        self._deadline = None
        is_answering = self._in_body and self.cycle is not None and self.cycle.response_started
        if is_answering or not (self._in_head or self._in_body):
            self.transport.close()
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Return the connection of a request, None under another server than ours."""
    extension = scope.get("extensions", {}).get(_EXTENSION, {})
    found: Connection | None = extension.get("connection")
    return found
