"""Helpers of the HTTP protocol: flow control, and problems as raw bytes."""

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from http import HTTPStatus
from uuid import uuid4

import structlog
from fastapi import Response
from uvicorn.protocols.http.flow_control import FlowControl

from app.errors import PilothouseError, Unparsable
from app.web.boundary import NO_CONTENT_POLICY, SECURITY_HEADERS
from app.web.problem import problem_response

_log = structlog.get_logger(__name__)
Headers = Iterable[tuple[bytes, bytes]]


class BadHttp(Unparsable):
    code = "bad_http"


class TrailersRefused(Unparsable):
    code = "trailers_refused"

    def __init__(self) -> None:
        super().__init__("header fields after the body are not accepted")


class ReadFlow(FlowControl):
    """Pauses reading while received bytes wait to be parsed.

    uvicorn's own pauses are tracked separately.
    """

    def __init__(self, transport: asyncio.Transport, on_resume: Callable[[], None]) -> None:
        """Call `on_resume` when uvicorn resumes reading while bytes wait."""
        super().__init__(transport)
        self._on_resume = on_resume
        self._is_held = False

    def hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            self._transport.pause_reading()

    def let_go(self) -> None:
        if self._is_held:
            self._is_held = False
            if not self.read_paused:
                self._transport.resume_reading()

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            if not self._is_held:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if self._is_held:
                self._on_resume()
            else:
                self._transport.resume_reading()


def refusal_bytes(error: PilothouseError, headers: Headers) -> bytes:
    """Return the last response of a connection: a problem for a request without a scope."""
    request_id = uuid4().hex
    # In a new context: that of the connection may contain an earlier request id.
    answer = Context().run(_problem, error, request_id)
    status = HTTPStatus(answer.status_code)
    named = (b"x-request-id", request_id.encode())
    fields = [*headers, *answer.raw_headers, named, *SECURITY_HEADERS, NO_CONTENT_POLICY]
    lines = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])


def _problem(error: PilothouseError, request_id: str) -> Response:
    structlog.contextvars.bind_contextvars(request_id=request_id)
    _log.info("request_refused", problem=error.code)
    return problem_response(error, headers={"Connection": "close"})


def without_upgrade(method: str, url: bytes, headers: Headers) -> bytes:
    """Return the head of a request without its `Upgrade`."""
    lines = [b"%b %b HTTP/1.1" % (method.encode(), url)]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            stays = b", ".join(option for option in options if option.lower() != b"upgrade")
            lines += [b"connection: " + stays] if stays else []
        elif name != b"upgrade":
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
