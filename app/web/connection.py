"""What a stream must be able to do to its connection, which ASGI has no words for."""

import socket
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "pilothouse.connection"
_SEND_BUFFER = 16 * 1024  # the kernel doubles it
_WRITE_BUFFER = 8 * 1024


class Connection:
    """One client's connection: it can be kept small, and cut without waiting for the client."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def keep_small(self) -> None:
        """Bound what a client that stops reading can park here: megabytes by default."""
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        found = self._transport.get_extra_info("socket")
        if found is not None and found.family != getattr(socket, "AF_UNIX", None):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def cut(self) -> None:
        """End the connection now; closing it would wait until the client has read everything."""
        self._transport.abort()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that hands the connection to the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": Connection(self.transport)}}


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Return the connection of a request, None under another server than ours."""
    extension = scope.get("extensions", {}).get(_EXTENSION, {})
    found: Connection | None = extension.get("connection")
    return found
