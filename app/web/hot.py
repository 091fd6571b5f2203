"""The hottest requests, answered ahead of FastAPI, which costs more there than the work itself.

A hot endpoint answers only what it can answer at once and from memory. For everything else
(unusual parameters, errors, anything to wait for) it returns None and FastAPI serves the request;
both doors give the same answer, and tests/e2e/test_hot*.py compare them.
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
from app.web.middleware import LARGEST_HEADERS, NOTHING_TO_SHOW, SECURITY_HEADERS, STARTED

_LARGEST_BODY = 64 * 1024
_LONGEST_LENGTH = 5  # digits of a Content-Length
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
# In the scope: this request was counted as one of its caller's already.
COUNTED = "pilothouse.counted"
LONGEST_QUERY_KEPT = 1000  # or who invents queries could fill the memory with them
_log = structlog.get_logger()


class HotAnswer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Asking(Protocol):
    """Who asks, as far as a hot endpoint has to know: what it may not answer, FastAPI refuses."""

    @property
    def name(self) -> str | None: ...

    @property
    def home(self) -> str | None: ...

    def may(self, right: Any, environment: str = "", service: str = "") -> bool: ...


class Gate(Protocol):
    """Who asks, if that can be told at once."""

    def at_once(self, headers: Mapping[bytes, bytes]) -> Asking | None:
        """Return who asks, and count the request."""
        ...

    def is_still_let_in(self, principal: Any) -> bool: ...


class HotRead(Protocol):
    """One endpoint: `route` is its template, `prefix` what comes before the path parameter."""

    @property
    def route(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes], asking: Asking
    ) -> HotAnswer | None:
        """Answer a GET without waiting for anything, or return None."""
        ...


class Posted(NamedTuple):
    """A POST whose body has arrived; `server` is the address it came to."""

    asking: Asking
    headers: Mapping[bytes, bytes]
    body: bytes
    scheme: str
    server: tuple[str, int | None] | None


class HotPost(Protocol):
    """One endpoint that is asked by POST and changes nothing."""

    @property
    def route(self) -> str: ...

    def answer(self, parameter: bytes, posted: Posted) -> HotAnswer | None:
        """Answer a POST without waiting for anything, or return None."""
        ...


class HotFastAPI(FastAPI):
    """A FastAPI that asks the hot endpoints of its lifespan state first.

    `hot` are reads; `hot_posts` are found by their path, or by all of it up to the last slash
    where the rest is a parameter.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            state = scope.get("state", {})
            if scope["method"] == "GET":
                path: str = scope["path"]
                reads: Sequence[HotRead] = state.get("hot", ())
                for read in reads:
                    if path.startswith(read.prefix) and await _answered(read, scope, send):
                        return
            elif scope["method"] == "POST":
                found = _post_of(state.get("hot_posts", {}), scope.get("raw_path") or b"")
                if found is not None:
                    rest = await _answered_post(*found, scope, receive, send)
                    if rest is None:
                        return
                    receive = rest
        await super().__call__(scope, receive, send)


def _may_answer(scope: Scope) -> tuple[Asking, Mapping[bytes, bytes]] | None:
    """Return who asks and the headers, None if FastAPI is to judge whether to let them in.

    Every hot endpoint asks this first: whoever is let in is let in here.
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    # What a header sent twice means is not decided here.
    if len(headers) != len(pairs):
        return None
    if b"origin" in headers:
        return None  # a page of another site: what it may read is decided behind FastAPI's door
    size = sum(map(len, headers)) + sum(map(len, headers.values()))
    if size > LARGEST_HEADERS:
        return None
    gate: Gate = scope["state"]["gate"]
    asking = gate.at_once(headers)
    if asking is None:
        return None
    scope[COUNTED] = True
    return asking, headers


async def _answered(read: HotRead, scope: Scope, send: Send) -> bool:
    started = perf_counter()
    let_in = _may_answer(scope)
    if let_in is None:
        return False
    asking, headers = let_in
    # Nor what to do with a body.
    if not _OF_A_BODY.isdisjoint(headers):
        return False
    parameter = scope["path"][len(read.prefix) :]
    try:
        found = read.answer(parameter, scope["query_string"], headers, asking)
    except PilothouseError:  # such as a log that is away: not worth a line for each read
        return False
    except Exception:  # noqa: BLE001 - FastAPI's door knows how a failure is told
        _log.exception("hot_door_failed", route=read.route)
        return False
    if found is None:
        return False
    request_id = await _send(found, headers, send)
    _record("GET", read.route, found.status, perf_counter() - started, request_id)
    return True


def _post_of(posts: Mapping[bytes, HotPost], path: bytes) -> tuple[HotPost, bytes] | None:
    post = posts.get(path)
    if post is not None:
        return post, b""
    parent, slash, last = path.rpartition(b"/")
    post = posts.get(parent + slash)
    return None if post is None else (post, last)


async def _answered_post(
    post: HotPost, parameter: bytes, scope: Scope, receive: Receive, send: Send
) -> Receive | None:
    """Answer and return None, or return what FastAPI shall receive: all that was read here."""
    started = perf_counter()
    let_in = _may_answer(scope)
    if let_in is None or scope["query_string"] or not _is_small(let_in[1]):
        return receive
    asking, headers = let_in
    telemetry.HTTP_REQUESTS_IN_PROGRESS.inc()
    try:
        message = await _body(receive)
    finally:
        telemetry.HTTP_REQUESTS_IN_PROGRESS.dec()
    found = None
    is_whole = message["type"] == "http.request" and not message["more_body"]
    gate: Gate = scope["state"]["gate"]
    if is_whole and gate.is_still_let_in(asking):  # a body may take its time
        posted = Posted(asking, headers, message["body"], scope["scheme"], scope.get("server"))
        try:
            found = post.answer(parameter, posted)
        except PilothouseError:
            found = None
        except Exception:  # noqa: BLE001 - FastAPI's door knows how a failure is told
            _log.exception("hot_door_failed", route=post.route)
    if found is None:
        scope[STARTED] = started
        return _replayed(message, receive)
    request_id = await _send(found, headers, send)
    _record("POST", post.route, found.status, perf_counter() - started, request_id)
    return None


def _is_small(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body may be read: what is refused by its length, or waited with, is not."""
    return b"expect" not in headers and len(headers.get(b"content-length", b"")) <= _LONGEST_LENGTH


async def _body(receive: Receive) -> Message:
    """Read a body as one message: unfinished if it is too long, none at all if the caller left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        goes_on: bool = message.get("more_body", False)
        if not goes_on or len(body) > _LARGEST_BODY:
            return {"type": "http.request", "body": bytes(body), "more_body": goes_on}


def _replayed(message: Message, receive: Receive) -> Receive:
    pending = [message]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


async def _send(found: HotAnswer, headers: Mapping[bytes, bytes], send: Send) -> bytes:
    """Send an answer and return the id that it carries."""
    request_id = _request_id(headers)
    found.headers.append((b"x-request-id", request_id))
    found.headers.extend(SECURITY_HEADERS)
    found.headers.append(NOTHING_TO_SHOW)
    await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
    await send({"type": "http.response.body", "body": found.body})
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
    """Look the labelled metrics up once: that costs as much as the rest of a request."""
    return (
        telemetry.HTTP_REQUESTS.labels(method, route, str(status)),
        telemetry.HTTP_REQUEST_DURATION.labels(method, route),
    )
