"""The server process: its port, its signals, and its shutdown."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI

from app.main import announce_shutdown, begin_shutdown
from app.production_checks import StartRefused
from app.settings import Settings
from app.web.connection import Protocol, ServingState

_GRACE_SECONDS = 2
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with
_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """uvicorn with our protocol and a shutdown in two steps.

    On SIGTERM `/ready` reports that this replica is stopping and connections close after their
    responses, while requests are served until load balancers have noticed. Then it accepts nothing
    more, and requests in progress end. SIGINT, and a second SIGTERM, stop at once.
    """

    def __init__(self, app: FastAPI, settings: Settings, greet: Callable[[], None]) -> None:
        """Call `greet` once it serves."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http=Protocol,
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)
        self.server_state = self._state = ServingState()
        self._app = app
        self._settings = settings
        self._greet = greet
        self._stops_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raise StartRefused if another process listens on the port."""
        try:
            await super().startup(sockets)
        except OSError as error:
            await self.lifespan.shutdown()
            raise StartRefused([_explain_bind_failure(error, self._settings)]) from error
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, _log.info, "hangup_ignored")
        _log.info("serving", url=local_url(self._settings))
        self._greet()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        delay = self._settings.shutdown_delay_seconds
        if sig == signal.SIGTERM and self.started and delay and self._stops_at is None:
            self._stops_at = monotonic() + delay
            announce_shutdown(self._app)
            self._state.is_leaving = True
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.close_after_answers()
            return
        begin_shutdown(self._app)
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # raised again at the end, they would be its exit code

    async def on_tick(self, counter: int) -> bool:
        if self._stops_at is not None and monotonic() >= self._stops_at:
            begin_shutdown(self._app)
            self.should_exit = True
        return await super().on_tick(counter)


def bind_sockets(settings: Settings) -> list[socket.socket]:
    """Listen on every address of the host; raises StartRefused, naming the setting."""
    bound: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(
            settings.host or None,
            settings.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            try:
                bound.append(_bind_socket(family, kind, protocol, address))
            except OSError as error:
                # A name such as localhost may have an address that this machine lacks.
                if error.errno != errno.EADDRNOTAVAIL or (
                    address is addresses[-1][4] and not bound
                ):
                    raise
    except OSError as error:
        for taken in bound:
            taken.close()
        raise StartRefused([_explain_bind_failure(error, settings)]) from error
    return bound


def local_url(settings: Settings) -> str:
    """Return the URL of the service on this machine."""
    host = _ANY.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _bind_socket(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    server_socket = socket.socket(family, kind, protocol)
    try:
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # the other family has a socket of its own
            server_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server_socket.bind(address)
    except BaseException:
        server_socket.close()
        raise
    return server_socket


def _explain_bind_failure(error: OSError, settings: Settings) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"PORT: {settings.port} is in use: stop its listener, or choose another"
        case errno.EACCES:
            return f"PORT: this user may not listen on {settings.port}"
        case _:
            why = error.strerror or error
            return f"HOST: cannot listen on {settings.host!r} here: {why}"
