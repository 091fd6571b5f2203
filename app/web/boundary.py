"""The outermost HTTP layer: rules for every request, whatever its route.

One plain ASGI middleware, `app.add_middleware(RequestBoundary)`; other scopes pass through.
"""

import re
import sys
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import telemetry
from app.errors import PilothouseError, TooLarge, Unparsable
from app.web.bodies import AUTHENTICATE
from app.web.cache_headers import cache_headers
from app.web.path_rules import NO_RULES, PathRules, route_path
from app.web.problem import HeadersTooLarge, crash_response, problem_response
from app.web.request_state import is_of_known_caller
from app.web.routes import route_of
from app.web.sites import SitePolicy

MAX_BODY_BYTES = 1024 * 1024

MAX_HEADER_BYTES = 64 * 1024
# Scope key: when a request began that the fast path has passed on.
STARTED = "pilothouse.started"

_CORS_REQUEST_HEADERS = (
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
_CORS_RESPONSE_HEADERS = (
    "ETag",
    "Location",
    "Retry-After",
    "X-Request-Id",
    "X-Revision",
    "X-Stale",
)
# Responses are for programs, seldom pages: browsers must not frame them, guess their type, run
# their content, or send a referrer. The few pages have a content policy of their own.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
NO_CONTENT_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)

_UNREAD_BODY = bytes(bytearray(b"unread"))  # compared by identity
# nginx's status for a caller that disconnects before the response begins.
_CALLER_LEFT = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# Servers interpret these characters in different ways.
_AMBIGUOUS = re.compile(rb"%2f|%5c|%00|\\", re.IGNORECASE)
# Patterns of routes end with `$`, which allows a newline.
_CONTROL = re.compile("[\x01-\x1f\x7f]")

_log = structlog.get_logger()


class BadPath(Unparsable):
    code = "bad_path"


class BadQuery(Unparsable):
    code = "bad_query"


class BadContentLength(Unparsable):
    code = "bad_content_length"


def cors_options(origins: Sequence[str]) -> dict[str, Any]:
    """Return CORS options: pages of these sites may call everything, without cookies."""
    return {
        "allow_origins": list(origins),
        "allow_methods": sorted(_METHODS - {"OPTIONS"}),
        "allow_headers": _CORS_REQUEST_HEADERS,
        "expose_headers": _CORS_RESPONSE_HEADERS,
        "max_age": 600,
    }


class RequestBoundary:
    def __init__(self, app: ASGIApp, rules: PathRules = NO_RULES) -> None:
        self.app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started: float = scope.get(STARTED) or perf_counter()
        scope = _without_trailing_slash(scope)
        answer = _ResponseSender(scope, send, request_id=_request_id(scope))
        telemetry.HTTP_REQUESTS_IN_PROGRESS.inc()
        try:
            await self._serve(scope, receive, answer)
        finally:
            telemetry.HTTP_REQUESTS_IN_PROGRESS.dec()
            status = answer.status or _CALLER_LEFT
            _record(scope, status, perf_counter() - started, self._rules.quiet)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_ResponseSender") -> None:
        try:
            _check_path(scope, self._rules)
            _check_query(scope)
            _check_headers(scope)
            _check_site(scope, self._rules)
            body = await self._body(scope, receive)
        except PilothouseError as refusal:
            # The rest of the request is not read, so the connection must be closed.
            closing = {"Connection": "close"}
            members = self._rules.error_members(scope, refusal)
            refuse = problem_response(refusal, headers=closing, members=members)
            await refuse(scope, receive, answer.send)
            return
        if body is None:
            return
        if body is _UNREAD_BODY:
            # The application rejects and counts the caller before it reads the body.
            body = b""
            answer.close()
        try:
            await self.app(scope, _replay_body(body, receive), answer.send)
        except Exception as error:
            if answer.status is not None:
                # A response that has begun can only be aborted: the server does that and logs it.
                raise
            await crash_response(error, scope, self._rules)(scope, receive, answer.send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """Read the whole body; None if the caller has disconnected.

        Beyond `MAX_BODY_BYTES` the body of an unknown caller is `_UNREAD_BODY`.
        """
        limit = self._rules.body_limit(scope, MAX_BODY_BYTES)
        declared = _declared_length(scope)
        if declared > limit:
            raise _too_large(limit)
        if scope["method"] in _WITHOUT_BODY:
            return b""
        is_known = limit == MAX_BODY_BYTES
        chunks: list[bytes] = []
        size = 0
        while True:
            if max(size, declared) > MAX_BODY_BYTES and not is_known:
                is_known = await _is_known(scope)
                if not is_known:
                    return _UNREAD_BODY
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join(chunks)


class _ResponseSender:
    """Sends a response: adds the headers of every response and remembers the status."""

    def __init__(self, scope: Scope, send: Send, *, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._sites = _site_policy(scope)
        self._headers = [(b"x-request-id", request_id.encode()), *SECURITY_HEADERS]
        self.status: int | None = None

    def close(self) -> None:
        """Close the connection after the response."""
        self._headers.append((b"connection", b"close"))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = cache_headers(
                message.get("headers", ()),
                is_known=is_of_known_caller(self._scope),
                varies_by_origin=bool(self._sites and self._sites.origins),
            )
            headers += self._headers
            if not any(name == NO_CONTENT_POLICY[0] for name, _ in headers):
                headers.append(NO_CONTENT_POLICY)
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the id of the request, and bind it to all log lines from here on."""
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
    # An encoded slash at the end is part of a name.
    if path.endswith("/") and raw.endswith(b"/") and not is_root:
        copy["path"], copy["raw_path"] = path[:-1], raw[:-1]
    return copy


def _check_path(scope: Scope, rules: PathRules) -> None:
    raw = _raw_path(scope)
    if raw.isascii() and b"%" not in raw and b".." not in raw and b"\\" not in raw:
        return
    if _BROKEN_ESCAPE.search(raw):
        raise BadPath("the path has a % without two hexadecimal digits after it")
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise BadPath("the path is not UTF-8") from error
    if ".." in re.split(r"[/\\]", path):
        raise BadPath("the path has a segment `..`")
    if _CONTROL.search(path):
        raise BadPath("the path has a control character")
    if _AMBIGUOUS.search(raw) and not rules.may_encode_separators(
        route_path({**scope, "path": path})
    ):
        raise BadPath("the path has a backslash, or an encoded slash, backslash or NUL")


def _check_query(scope: Scope) -> None:
    """Reject queries that would be decoded with replacements or that cannot be stored."""
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
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"the headers may have at most {MAX_HEADER_BYTES} bytes")


def _check_site(scope: Scope, rules: PathRules) -> None:
    sites = _site_policy(scope)
    if sites is not None:
        sites.check(scope, any_host=scope["path"] in rules.any_host)


def _site_policy(scope: Scope) -> SitePolicy | None:
    sites: SitePolicy | None = scope.get("state", {}).get("sites")
    return sites


async def _is_known(scope: Scope) -> bool:
    authenticate = scope.get("state", {}).get(AUTHENTICATE)
    if authenticate is None:
        return True
    try:
        await authenticate(Request(scope))
    except PilothouseError:
        return False
    return True


def _declared_length(scope: Scope) -> int:
    stated = set(_header(scope, b"content-length"))
    if not stated:
        return 0
    length = stated.pop()
    if stated or not length.isdigit():
        raise BadContentLength("Content-Length is not one integer")
    # Python rejects integers with thousands of digits.
    return int(length) if len(length) < len(str(sys.maxsize)) else sys.maxsize


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"a body may have at most {limit} bytes", limit_bytes=limit)


def _replay_body(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


def _record(scope: Scope, status: int, seconds: float, quiet: frozenset[str]) -> None:
    # Labels are bounded: they contain neither arbitrary methods nor paths.
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = _route_template(scope)
    telemetry.HTTP_REQUESTS.labels(method, route, str(status)).inc()
    telemetry.HTTP_REQUEST_DURATION.labels(method, route).observe(seconds)
    log = _log.debug if route in quiet and status < HTTPStatus.BAD_REQUEST else _log.info
    log("request", method=method, route=route, status=status, duration_ms=round(seconds * 1000, 2))


def _route_template(scope: Scope) -> str:
    return getattr(route_of(scope), "path_format", "") or "unmatched"


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


def _header(scope: Scope, name: bytes) -> list[bytes]:
    return [value for header, value in scope["headers"] if header == name]
