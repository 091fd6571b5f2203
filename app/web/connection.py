"""The HTTP protocol: limits of requests, and control of the connection for streams."""

import asyncio
import re
import socket
from collections import deque
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.errors import PilothouseError
from app.web.boundary import MAX_HEADER_BYTES
from app.web.problem import HeadersTooLarge, RequestTooSlow
from app.web.raw_http import BadHttp, ReadFlow, TrailersRefused, refusal_bytes, without_upgrade

# The largest piece that is parsed at once: some 3,000 chunks or fields, or 900 requests.
_PIECE = 16 * 1024
# A chunk of one byte has five bytes of framing; twice that is allowed.
_FRAMING_OF_A_BYTE = 1 + 10
# For a request from its first byte to its last, and for a new connection until its first byte.
ARRIVAL_SECONDS = 30.0
_LAST_READ_SECONDS = 2.0
_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_EXTENSION = "pilothouse.connection"
_SEND_BUFFER = 16 * 1024  # the kernel doubles it
_WRITE_BUFFER = 8 * 1024


class Connection:
    """The connection of a client: limits its buffers, writes directly, aborts."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        self._transport: Any = protocol.transport

    def keep_small(self) -> None:
        """Limit the send buffers for a client that stops reading; the default is megabytes."""
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def push(self, piece: bytes) -> bool:
        """Write a piece of the current body directly; False if it would have to wait.

        This is ten times as fast as the tasks and layers of ASGI.
        """
        if self._protocol.flow.write_paused or self._transport.is_closing():
            return False
        self._transport.write(_chunk(piece))
        return True

    def cut(self) -> None:
        """Abort the connection; closing it would wait until the client has read everything."""
        self._transport.abort()


@lru_cache(maxsize=8)
def _chunk(body: bytes) -> bytes:
    """Return a piece of a body as a chunk, as uvicorn does without a Content-Length."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class ServingState(ServerState):
    """State of all connections, and whether they close after their responses."""

    is_leaving = False


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also passes the connection to the application.

    It adds limits that uvicorn lacks: on the size of a head and of the framing of a body, on the
    time for a request to arrive, and on the bytes parsed in one turn of the loop. Trailer fields
    are rejected: uvicorn would append them to headers that are already checked. Upgrades to other
    protocols are ignored.
    """

    _in_head = False
    _in_body = False
    _head = 0  # bytes of the current head, from the piece in which it began
    _framing = 0  # bytes of framing, less the allowance for the body
    _deadline: asyncio.TimerHandle | None = None
    _turn: asyncio.Handle | None = None  # the next parsing of waiting bytes
    _final_response: bytes | None = None  # sent after the responses to earlier requests
    flow: ReadFlow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = ReadFlow(transport, self._parse_soon)
        self._deadline = self.loop.call_later(ARRIVAL_SECONDS, self._refuse_slow_request)

    def data_received(self, data: bytes) -> None:
        if self._final_response is not None:
            return
        if len(data) <= _PIECE and not self._waiting:
            self._parse(data)
            return
        self._waiting += data
        self.flow.hold()
        if self._turn is None:
            self._parse_waiting()

    def _parse_soon(self) -> None:
        if self._turn is None:
            self._turn = self.loop.call_soon(self._parse_waiting)

    def _parse_waiting(self) -> None:
        """Parse one piece of the waiting bytes, and yield to the loop before the next.

        Of pipelined requests at most one piece is parsed: earlier responses come first.
        """
        self._turn = None
        if self.transport.is_closing() or self._final_response is not None:
            self._waiting.clear()
            return
        if self.flow.read_paused or self.pipeline:
            return  # continues when uvicorn reads again, or has responded
        piece = bytes(self._waiting[:_PIECE])
        del self._waiting[:_PIECE]
        self._parse(piece)
        if self._waiting:
            self._parse_soon()
        elif not self.transport.is_closing():
            self.flow.let_go()

    def _parse(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head += len(piece)
        elif self._in_body:
            self._framing += len(piece)
        try:
            self._feed(piece)
        except httptools.HttpParserError as error:
            cause = error.__context__
            named = cause if isinstance(cause, PilothouseError) else None
            self._refuse(named or BadHttp("this is not a valid HTTP/1.1 request"))
            return
        if self._in_head and self._head > MAX_HEADER_BYTES:
            self._refuse(HeadersTooLarge(f"the headers may have at most {MAX_HEADER_BYTES} bytes"))
        elif self._in_body and self._framing > MAX_HEADER_BYTES:
            self._refuse(
                BadHttp(f"the framing of a body may have at most {MAX_HEADER_BYTES} bytes")
            )
        else:
            self._watch_arrival()

    def _feed(self, piece: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser expects the other protocol next: continue with a new parser.
                piece = piece[upgrade.args[0] :]
                head = without_upgrade(self.scope["method"], self.url, self.headers)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
            else:
                return

    def _watch_arrival(self) -> None:
        """Start or stop the deadline for an arriving request."""
        has_answered = self.cycle is None or self.cycle.response_complete
        if self._in_head or self._in_body or has_answered:
            if self._deadline is None:
                self._deadline = self.loop.call_later(ARRIVAL_SECONDS, self._refuse_slow_request)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": Connection(self)}}

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            raise TrailersRefused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            method = self.scope["method"] = self.parser.get_method().decode()
            if method == "CONNECT":
                raise BadHttp("this is not a proxy: CONNECT is not supported")
            return  # the head is parsed once more, see `_feed`
        self._in_head, self._in_body, self._framing = False, True, 0
        if not self.url.startswith((b"/", b"*")):
            self._take_host_of_target()
        super().on_headers_complete()
        if isinstance(self.server_state, ServingState) and self.server_state.is_leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._framing = max(0, self._framing - _FRAMING_OF_A_BYTE * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        has_next = bool(self.pipeline)
        super().on_response_complete()
        if self.transport.is_closing() or has_next:
            return
        if self._final_response is not None:
            self._hang_up(self._final_response)
        elif self._waiting:
            self._parse_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._waiting.clear()
        super().connection_lost(exc)

    def close_after_answers(self) -> None:
        """Close the connection after the current responses; an idle connection stays."""
        for cycle in (self.cycle, *(queued for queued, _ in self.pipeline)):
            if cycle is not None:
                cycle.keep_alive = False

    def _take_host_of_target(self) -> None:
        """Replace `Host` by the host of an absolute target (`GET http://host/path`).

        RFC 9112, section 3.2.2; otherwise `Host` would be checked instead of the effective host.
        """
        authority = _AUTHORITY.match(self.url)
        if authority is not None:
            named = (b"host", authority[1].rpartition(b"@")[2])
            kept = [header for header in self.headers if header[0] != b"host"]
            # A repeated header stays repeated, to be rejected later.
            self.headers[:] = [*kept, *[named] * max(len(self.headers) - len(kept), 1)]

    def _refuse_slow_request(self) -> None:
        """Reject a request that has not arrived in time, or close an idle connection."""
        self._deadline = None
        if self._waiting or self.pipeline:  # the service is slow, not the client
            self._watch_arrival()
        elif self._in_head or self._in_body:
            seconds = f"{ARRIVAL_SECONDS:g} seconds"
            self._refuse(RequestTooSlow(f"the request did not arrive within {seconds}"))
        else:
            self.transport.close()

    def _refuse(self, error: PilothouseError) -> None:
        """Answer the arriving request with a problem after earlier responses, and close."""
        self._waiting.clear()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        refused = self.cycle if self._in_body else None
        if refused is not None and refused.response_complete:
            self._hang_up(b"")
            return
        if refused is not None and refused.response_started:
            self.transport.close()
            return
        words = refusal_bytes(error, self.server_state.default_headers)
        earlier = self.cycle if refused is None else None
        if refused is not None:
            refused.disconnected = True  # its response is not sent any more
            refused.message_event.set()
            queued = [entry for entry in self.pipeline if entry[0] is not refused]
            if len(queued) < len(self.pipeline):
                self.pipeline = deque(queued)
                self._final_response = words  # sent after the earlier response
                return
        if earlier is not None and not earlier.response_complete:
            self._final_response = words
        else:
            self._hang_up(words)

    def _hang_up(self, words: bytes) -> None:
        """Send the final response, and close after the client has stopped sending.

        Closing with unread bytes resets the connection, and the client would lose the response.
        """
        self._final_response = words
        self._unset_keepalive_if_required()
        self.transport.write(words)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.let_go()
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(_LAST_READ_SECONDS, self.transport.close)


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Return the connection of a request, None under another server."""
    extension = scope.get("extensions", {}).get(_EXTENSION, {})
    connection: Connection | None = extension.get("connection")
    return connection
