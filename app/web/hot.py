"""The hottest reads, answered ahead of FastAPI, which costs more there than the work itself.

A hot read answers only what it can answer at once and from memory. For everything else (unusual
parameters, errors, anything to wait for) it returns None and FastAPI serves the request; both
doors give the same answer, and tests/e2e/test_hot.py compares them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import structlog
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app import telemetry

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OF_A_BODY = frozenset({b"content-length", b"transfer-encoding"})
_NOSNIFF = (b"x-content-type-options", b"nosniff")


class HotAnswer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class HotRead(Protocol):
    """One endpoint: `route` is its template, `prefix` what comes before the path parameter."""

    @property
    def route(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    def answer(
        self, parameter: str, query: bytes, headers: Mapping[bytes, bytes]
    ) -> HotAnswer | None:
        """Answer a GET without waiting for anything, or return None."""
        ...


class HotFastAPI(FastAPI):
    """A FastAPI that asks the hot reads of its lifespan state (`hot`) first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path: str = scope["path"]
            reads: Sequence[HotRead] = scope.get("state", {}).get("hot", ())
            for read in reads:
                if path.startswith(read.prefix) and await _answered(read, scope, send):
                    return
        await super().__call__(scope, receive, send)


async def _answered(read: HotRead, scope: Scope, send: Send) -> bool:
    started = perf_counter()
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    # What a header sent twice means, and what to do with a body, is not decided here.
    if len(headers) != len(pairs) or not _OF_A_BODY.isdisjoint(headers):
        return False
    found = read.answer(scope["path"][len(read.prefix) :], scope["query_string"], headers)
    if found is None:
        return False
    request_id = _request_id(headers)
    found.headers.append((b"x-request-id", request_id))
    found.headers.append(_NOSNIFF)
    await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
    await send({"type": "http.response.body", "body": found.body})
    _record(read.route, found.status, perf_counter() - started, request_id)
    return True


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    stated = headers.get(b"x-request-id")
    if stated is not None and _REQUEST_ID.fullmatch(stated):
        return stated
    return os.urandom(16).hex().encode()


def _record(route: str, status: int, seconds: float, request_id: bytes) -> None:
    requests, durations = _metrics(route, status)
    requests.inc()
    durations.observe(seconds)
    if telemetry.tells_requests():
        structlog.get_logger().info(
            "request",
            method="GET",
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            request_id=request_id.decode(),
        )


@cache
def _metrics(route: str, status: int) -> tuple[Any, Any]:
    """Look the labelled metrics up once: that costs as much as the rest of a request."""
    return (
        telemetry.HTTP_REQUESTS.labels("GET", route, str(status)),
        telemetry.HTTP_REQUEST_DURATION.labels("GET", route),
    )
