"""The outermost layer of HTTP: what holds for every request, whichever route answers it.

One plain ASGI class, added as `app.add_middleware(Edge)`; websockets and the lifespan pass through.
"""

import re
import sys
import uuid
from collections.abc import Sequence
from time import perf_counter
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import telemetry
from app.errors import PilothouseError, TooLarge, Unparsable
from app.web.problem import HeadersTooLarge, answer_crash, problem_response

LARGEST_BODY = 1024 * 1024
LARGEST_HEADERS = 64 * 1024
# Where the scope says when a request began that app.web.hot has looked at before.
STARTED = "pilothouse.started"

_ASKED_BY_PAGES = (
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-API-Key",
    "X-Environment",
    "X-Request-Id",
)
_READ_BY_PAGES = ("ETag", "Location", "Retry-After", "X-Request-Id", "X-Revision", "X-Stale")
# An answer is for the program that asked, never a page: no browser may frame it, guess at what it
# is, run anything of it, or tell another site that it was here.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
NOTHING_TO_SHOW = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)
_HTML = b"text/html"  # the page that describes the API, which has scripts

# nginx's status for a caller who left before the answer began.
_CALLER_LEFT = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# Each would mean one thing to us and another to a server we send the name to.
_AMBIGUOUS = re.compile(rb"%2f|%5c|%00|\\", re.IGNORECASE)
# Routes are found by patterns whose end lets a newline pass.
_CONTROL = re.compile("[\x01-\x1f\x7f]")

_log = structlog.get_logger()


class BadPath(Unparsable):
    code = "bad_path"


class BadQuery(Unparsable):
    code = "bad_query"


class BadContentLength(Unparsable):
    code = "bad_content_length"


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Return what pages of these sites may do: all that a program may, but never with cookies."""
    return {
        "allow_origins": list(origins),
        "allow_methods": sorted(_METHODS - {"OPTIONS"}),
        "allow_headers": _ASKED_BY_PAGES,
        "expose_headers": _READ_BY_PAGES,
        "max_age": 600,
    }


class Edge:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started: float = scope.get(STARTED) or perf_counter()
        scope = _without_trailing_slash(scope)
        answer = _Answer(send, request_id=_request_id(scope))
        telemetry.HTTP_REQUESTS_IN_PROGRESS.inc()
        try:
            await self._serve(scope, receive, answer)
        finally:
            telemetry.HTTP_REQUESTS_IN_PROGRESS.dec()
            _record(scope, answer.status or _CALLER_LEFT, perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            _check_path(scope)
            _check_query(scope)
            _check_headers(scope)
            body = await _body(scope, receive)
        except PilothouseError as refusal:
            # What is left of the request is never read, so nothing can follow it.
            refuse = problem_response(refusal, headers={"Connection": "close"})
            await refuse(scope, receive, answer.send)
            return
        if body is None:
            return
        try:
            await self.app(scope, _replayed(body, receive), answer.send)
        except Exception as error:
            if answer.status is not None:
                # An answer that has begun can only be cut off: the server does that, and logs it.
                raise
            await answer_crash(error)(scope, receive, answer.send)


class _Answer:
    """The way back to the caller: adds what every answer carries and remembers its status."""

    def __init__(self, send: Send, *, request_id: str) -> None:
        self._send = send
        self._headers = [(b"x-request-id", request_id.encode()), *SECURITY_HEADERS]
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._headers]
            if not any(name == b"content-type" and _HTML in value for name, value in headers):
                headers.append(NOTHING_TO_SHOW)
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Take or make the request's id, and put it on every log line from here on."""
    stated = _header(scope, b"x-request-id")
    valid = len(stated) == 1 and _REQUEST_ID.fullmatch(stated[0])
    request_id = stated[0].decode() if valid else uuid.uuid4().hex
    # On a pipelined connection a request starts in the context of the one before it.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def _without_trailing_slash(scope: Scope) -> Scope:
    """Copy the scope, without one slash at the end.

    Never a redirect: `curl -X POST` would follow it without the body.
    """
    copy = dict(scope)
    path, raw = scope["path"], _raw_path(scope)
    is_root = path == scope.get("root_path", "") + "/"
    # An encoded slash at the end belongs to a name.
    if path.endswith("/") and raw.endswith(b"/") and not is_root:
        copy["path"], copy["raw_path"] = path[:-1], raw[:-1]
    return copy


def _check_path(scope: Scope) -> None:
    raw = _raw_path(scope)
    if raw.isascii() and b"%" not in raw and b".." not in raw and b"\\" not in raw:
        return
    if _BROKEN_ESCAPE.search(raw):
        raise BadPath("the path has a % that two hexadecimal digits do not follow")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise BadPath("the path is not UTF-8") from error
    if ".." in re.split(r"[/\\]", path):
        raise BadPath("the path has a segment `..`")
    if _CONTROL.search(path):
        raise BadPath("the path has a control character")
    # OpenFeature clients encode flag keys freely, and there no path is built from them.
    below_ofrep = path.removeprefix(scope.get("root_path", "")).startswith("/ofrep/")
    if not below_ofrep and _AMBIGUOUS.search(raw):
        raise BadPath("the path has a backslash, or an encoded slash, backslash or NUL")


def _check_query(scope: Scope) -> None:
    """Refuse what would be repaired quietly on its way to a parameter, or break what stores it."""
    query = scope["query_string"]
    if query.isascii() and b"%" not in query:
        return
    try:
        text = unquote_to_bytes(query).decode()
    except UnicodeDecodeError as error:
        raise BadQuery("the query is not UTF-8") from error
    if "\0" in text:
        raise BadQuery("the query has a NUL character")


def _check_headers(scope: Scope) -> None:
    if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS:
        raise HeadersTooLarge(f"the headers have at most {LARGEST_HEADERS} bytes")


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """Read the whole body, at most `LARGEST_BODY`; None when the caller left meanwhile."""
    if _declared_length(scope) > LARGEST_BODY:
        raise _too_large()
    if scope["method"] in _WITHOUT_BODY:
        return b""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return b"".join(chunks)


def _declared_length(scope: Scope) -> int:
    stated = set(_header(scope, b"content-length"))
    if not stated:
        return 0
    length = stated.pop()
    if stated or not length.isdigit():
        raise BadContentLength("Content-Length is not one whole number")
    # Python refuses to read numbers of thousands of digits.
    return int(length) if len(length) < len(str(sys.maxsize)) else sys.maxsize


def _too_large() -> TooLarge:
    return TooLarge(f"a body has at most {LARGEST_BODY} bytes", limit_bytes=LARGEST_BODY)


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _record(scope: Scope, status: int, seconds: float) -> None:
    # Labels are bounded: a caller chooses neither the method nor the path that is counted.
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = _route_template(scope)
    telemetry.HTTP_REQUESTS.labels(method, route, str(status)).inc()
    telemetry.HTTP_REQUEST_DURATION.labels(method, route).observe(seconds)
    _log.info(
        "request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 2)
    )


def _route_template(scope: Scope) -> str:
    return getattr(route_of(scope), "path_format", "") or "unmatched"


def route_of(scope: Scope) -> Any:
    """Return the route that was found, with what the routers around it add; None if none was.

    FastAPI keeps it without prefixes and dependencies of those in `route`, and with them,
    undocumented, here.
    """
    return scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


def _header(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header == name]
