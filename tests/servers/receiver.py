"""A receiver of webhooks, in this process: it remembers what arrives and answers as it is told."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, Self

from tests.servers.process import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, and the status that it was answered with."""

    path: str
    headers: Mapping[str, str]  # names in small letters
    body: bytes
    status: int
    at: float  # of `monotonic`

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def event(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """How to answer: after `seconds`, with a status and headers."""

    status: int = 204
    seconds: float = 0.0
    headers: Mapping[str, str] | None = None


ACCEPT = Reply()


class Receiver:
    """Listens on loopback while the block lasts; `reply` decides how each request is answered."""

    def __init__(self, reply: Callable[[Arrival], Reply] | None = None, port: int = 0) -> None:
        self.reply = reply or (lambda _: ACCEPT)
        self._arrived = threading.Condition()
        self._arrivals: list[Arrival] = []
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def arrivals(self) -> list[Arrival]:
        """Everything that arrived so far, in order."""
        with self._arrived:
            return list(self._arrivals)

    @property
    def successes(self) -> list[Arrival]:
        """What was answered with a success."""
        return [each for each in self.arrivals if 200 <= each.status < 300]

    def wait_for(
        self, is_enough: Callable[[list[Arrival]], bool], seconds: float = PATIENCE_SECONDS
    ) -> list[Arrival]:
        """Wait until what arrived is enough; raises AssertionError after `seconds`."""
        until = monotonic() + seconds
        with self._arrived:
            while not is_enough(self._arrivals):
                left = until - monotonic()
                assert left > 0, f"{len(self._arrivals)} requests arrived, and not enough"
                self._arrived.wait(left)
            return list(self._arrivals)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                arrival = Arrival(self.path, headers, body, 0, monotonic())
                reply = receiver.reply(arrival)
                if reply.seconds:
                    receiver._released.wait(reply.seconds)
                receiver._note(Arrival(self.path, headers, body, reply.status, arrival.at))
                with suppress(OSError):
                    self.send_response(reply.status)
                    for name, value in (reply.headers or {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Write nothing."""

        return Handler

    def _note(self, arrival: Arrival) -> None:
        with self._arrived:
            self._arrivals.append(arrival)
            self._arrived.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: the other side may have been killed."""
