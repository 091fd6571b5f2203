"""Fast path: answers frequent requests without FastAPI, which costs more than the work itself.

A fast endpoint only answers requests that need no I/O. For everything else (unusual parameters,
errors, anything to wait for) it returns None and FastAPI serves the request. Both paths give the
same responses; tests/e2e/test_hot*.py compare them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import structlog
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from app import telemetry
from app.errors import PilothouseError
from app.web.boundary import MAX_HEADER_BYTES, NO_CONTENT_POLICY, SECURITY_HEADERS, STARTED
from app.web.cache_headers import cache_headers
from app.web.sites import SitePolicy

_LARGEST_BODY = 64 * 1024
_LONGEST_LENGTH = 5  # digits of a Content-Length
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
# Scope key: the request is already counted for the rate limit of its caller.
COUNTED = "pilothouse.counted"
LONGEST_QUERY_KEPT = 1000  # longer ones are not cached: callers could fill the memory
_log = structlog.get_logger()


class FastResponse(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Requester(Protocol):
    """The caller, as far as a fast endpoint needs it; FastAPI handles denied requests."""

    @property
    def name(self) -> str | None: ...

    @property
    def only_environment(self) -> str | None: ...

    def may(self, right: Any, environment: str = "", service: str = "") -> bool: ...


class FastAuthenticator(Protocol):
    """Authenticates requests without I/O."""

    def authenticate_from_cache(self, headers: Mapping[bytes, bytes]) -> Requester | None:
        """Return the caller and count the request; None if it needs I/O."""
        ...

    def is_still_valid(self, principal: Any) -> bool: ...


class FastGet(Protocol):
    """A GET endpoint: `route` is its template, `prefix` the path before the parameter."""

    @property
    def route(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], requester: Requester
    ) -> FastResponse | None:
        """Answer a GET without I/O, or return None."""
        ...


class PostRequest(NamedTuple):
    """A POST with its complete body; `server` is the address that received it."""

    requester: Requester
    headers: Mapping[bytes, bytes]
    body: bytes
    scheme: str
    server: tuple[str, int | None] | None


class FastPost(Protocol):
    """A read-only endpoint with the method POST."""

    @property
    def route(self) -> str: ...

    def answer(self, parameter: bytes, posted: PostRequest) -> FastResponse | None:
        """Answer a POST without I/O, or return None."""
        ...


class FastPathApp(FastAPI):
    """A FastAPI application that tries the fast endpoints of its lifespan state first.

    `fast_gets` are GET endpoints; `fast_posts` are found by their path, or by the path up to the
    last slash if the rest is a parameter.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.get("state", {})
            if scope["method"] == "GET":
                path: str = scope["path"]
                reads: Sequence[FastGet] = state.get("fast_gets", ())
                # Escaped names are validated in one place only, by FastAPI's path.
                if b"%" in (scope.get("raw_path") or b"%"):
                    reads = ()
                for read in reads:
                    if path.startswith(read.prefix) and await _answer_get(read, scope, send):
                        return
            elif scope["method"] == "POST":
                post = _find_post(state.get("fast_posts", {}), scope.get("raw_path") or b"")
                if post is not None:
                    rest = await _answer_post(*post, scope, receive, send)
                    if rest is None:
                        return
                    receive = rest
        await super().__call__(scope, receive, send)


_Authenticated = tuple[Requester, Mapping[bytes, bytes]]  # with the request headers


def _authenticate(scope: Scope) -> _Authenticated | None:
    """Return the caller and the headers, None if FastAPI has to authenticate the request.

    Every fast endpoint calls this first.
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    # Repeated headers are handled by FastAPI's path.
    if len(headers) != len(pairs):
        return None
    if b"origin" in headers:
        return None  # CORS is handled by FastAPI's path
    sites: SitePolicy = scope["state"]["sites"]
    if not sites.is_for_programs(headers, scope.get("server")):
        return None
    size = sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > MAX_HEADER_BYTES:
        return None
    authenticator: FastAuthenticator = scope["state"]["authenticator"]
    requester = authenticator.authenticate_from_cache(headers)
    if requester is None:
        return None
    scope[COUNTED] = True
    return requester, headers


async def _answer_get(read: FastGet, scope: Scope, send: Send) -> bool:
    started = perf_counter()
    authenticated = _authenticate(scope)
    if authenticated is None:
        return False
    requester, headers = authenticated
    # So are bodies of GET requests.
    if not _OF_A_BODY.isdisjoint(headers):
        return False
    parameter = scope["path"][len(read.prefix) :]
    try:
        response = read.answer(parameter, scope["query_string"], headers, requester)
    except PilothouseError:  # such as an unavailable log: FastAPI reports it
        return False
    except Exception:  # noqa: BLE001 - FastAPI reports the failure
        _log.exception("hot_door_failed", route=read.route)
        return False
    if response is None:
        return False
    request_id = await _send(response, authenticated, scope, send)
    _record("GET", read.route, response.status, perf_counter() - started, request_id)
    return True


def _find_post(posts: Mapping[bytes, FastPost], path: bytes) -> tuple[FastPost, bytes] | None:
    post = posts.get(path)
    if post is not None:
        return post, b""
    parent, slash, last = path.rpartition(b"/")
    post = posts.get(parent + slash)
    return None if post is None else (post, last)


async def _answer_post(
    post: FastPost, parameter: bytes, scope: Scope, receive: Receive, send: Send
) -> Receive | None:
    """Answer and return None, or return a `receive` that replays what was read here."""
    started = perf_counter()
    authenticated = _authenticate(scope)
    if authenticated is None or scope["query_string"] or not _is_small(authenticated[1]):
        return receive
    requester, headers = authenticated
    telemetry.HTTP_REQUESTS_IN_PROGRESS.inc()
    try:
        message = await _read_body(receive)
    finally:
        telemetry.HTTP_REQUESTS_IN_PROGRESS.dec()
    response = None
    is_whole = message["type"] == "http.request" and not message["more_body"]
    authenticator: FastAuthenticator = scope["state"]["authenticator"]
    if is_whole and authenticator.is_still_valid(requester):  # receiving a body takes time
        posted = PostRequest(
            requester, headers, message["body"], scope["scheme"], scope.get("server")
        )
        try:
            response = post.answer(parameter, posted)
        except PilothouseError:
            response = None
        except Exception:  # noqa: BLE001 - FastAPI reports the failure
            _log.exception("hot_door_failed", route=post.route)
    if response is None:
        scope[STARTED] = started
        return _replay(message, receive)
    request_id = await _send(response, authenticated, scope, send)
    _record("POST", post.route, response.status, perf_counter() - started, request_id)
    return None


def _is_small(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body may be read here: no `Expect` header, and not too long."""
    return b"expect" not in headers and len(headers.get(b"content-length", b"")) <= _LONGEST_LENGTH


async def _read_body(receive: Receive) -> Message:
    """Read a body as one message: incomplete if too long, another type if the caller left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        has_more: bool = message.get("more_body", False)
        if not has_more or len(body) > _LARGEST_BODY:
            return {"type": "http.request", "body": bytes(body), "more_body": has_more}


def _replay(message: Message, receive: Receive) -> Receive:
    pending = [message]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


async def _send(
    response: FastResponse, authenticated: _Authenticated, scope: Scope, send: Send
) -> bytes:
    """Send a response and return its request id."""
    requester, stated = authenticated
    request_id = _request_id(stated)
    sites: SitePolicy = scope["state"]["sites"]
    headers = cache_headers(
        response.headers, is_known=requester.name is not None, varies_by_origin=bool(sites.origins)
    )
    headers.append((b"x-request-id", request_id))
    headers.extend(SECURITY_HEADERS)
    headers.append(NO_CONTENT_POLICY)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
    return request_id


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    stated = headers.get(b"x-request-id")
    if stated is not None and _REQUEST_ID.fullmatch(stated):
        return stated
    return os.urandom(16).hex().encode()


def _record(method: str, route: str, status: int, seconds: float, request_id: bytes) -> None:
    requests, durations = _metrics(method, route, status)
    requests.inc()
    durations.observe(seconds)
    if telemetry.tells_requests():
        _log.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            request_id=request_id.decode(),
        )


@cache
def _metrics(method: str, route: str, status: int) -> tuple[Any, Any]:
    """Cache the labelled metrics: looking them up costs as much as the rest of a request."""
    return (
        telemetry.HTTP_REQUESTS.labels(method, route, str(status)),
        telemetry.HTTP_REQUEST_DURATION.labels(method, route),
    )
