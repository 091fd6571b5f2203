"""A real HTTP server that answers what a test tells it to: for answers that no service gives."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HTML = "<!doctype html><title>Sign in</title>"


@dataclass(frozen=True)
class ReceivedRequest:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """`body` may be an iterator: its chunks are sent as they come, and then the connection ends."""

    status: int = 200
    body: bytes | Iterator[bytes] = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def of_json(value: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, json.dumps(value).encode(), headers=named)


def problem(status: int, code: str, **headers: str) -> Reply:
    reply = of_json({"status": status, "code": code, "detail": f"the detail of {code}"}, status)
    return Reply(status, reply.body, "application/problem+json", headers)


def html(status: int = 200) -> Reply:
    return Reply(status, HTML.encode(), "text/html; charset=utf-8")


def configuration(data: Mapping[str, Any], revision: int = 1) -> Reply:
    """Answer as the service does, with an ETag per revision."""
    body = {"data": data, "revision": revision, "layers": []}
    return of_json(body, ETag=f'"{revision}"')


def flag_set(*flags: Any, segments: Sequence[Any] = (), revision: int = 1) -> Reply:
    """Answer as the service does, with an ETag per revision."""
    body = {"environment": "default", "revision": revision, "flags": flags, "segments": segments}
    return of_json(body, ETag=f'"{revision}"')


def unless_known(reply: Reply) -> Callable[[ReceivedRequest], Reply]:
    """Answer 304 to a caller that has it: as the service does, but never waiting."""
    return lambda request: (
        Reply(304, headers=reply.headers)
        if request.headers.get("if-none-match") == reply.headers["ETag"]
        else reply
    )


class Line:
    """A stream of events whose end a test holds; None ends it."""

    def __init__(self) -> None:
        self._chunks: Queue[bytes | None] = Queue()

    def say(self, text: str) -> None:
        self._chunks.put(text.encode())

    def end(self) -> None:
        self._chunks.put(None)

    def reply(self) -> Reply:
        return Reply(200, iter(self._chunks.get, None), "text/event-stream")


def _no_flags(request: ReceivedRequest) -> Reply:
    if request.headers.get("if-none-match") == '"none"':
        return Reply(304, headers={"ETag": '"none"'})
    return of_json({"revision": 0, "flags": [], "segments": []}, ETag='"none"')


class ScriptedServer:
    """`answers` maps a path to a function of the request; whatever else is asked is a 404.

    There are no flags, in any environment, unless a test says otherwise.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Callable[[ReceivedRequest], Reply]] = {
            "/api/v1/flag-set": _no_flags
        }
        self.requests: list[ReceivedRequest] = []
        self._lines: list[Line] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def line(self) -> Line:
        """Answer the event stream with what is said on this line from now on."""
        line = Line()
        self._lines.append(line)
        self.answers["/api/v1/stream"] = lambda _: line.reply()
        return line

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _any(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = ReceivedRequest(self.command, parts.path, query, headers, body)
                outer.requests.append(request)
                answer = outer.answers.get(parts.path)
                reply = problem(404, "no_such_route") if answer is None else answer(request)
                self._send(reply)

            def _send(self, reply: Reply) -> None:
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", reply.kind)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    if isinstance(reply.body, bytes):
                        self.send_header("Content-Length", str(len(reply.body)))
                        self.end_headers()
                        self.wfile.write(reply.body)
                        return
                    self.send_header("Connection", "close")
                    self.end_headers()
                    for chunk in reply.body:
                        self.wfile.write(chunk)
                    self.close_connection = True
                except OSError:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - as the base calls them

        return Handler

    def close(self) -> None:
        for line in self._lines:
            line.end()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
