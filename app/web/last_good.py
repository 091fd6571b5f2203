"""The header `X-Last-Good`: layers of a response whose current version is malformed."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from fastapi import Request, Response

HEADER = "X-Last-Good"
_MOST_NAMED = 20
_noted: ContextVar[set[str] | None] = ContextVar("last_good", default=None)
Handle = Callable[[Request], Awaitable[Response]]


def note_last_good(layer: str) -> None:
    """Record that this response uses an earlier version of `layer`, as `name@version`."""
    noted = _noted.get()
    if noted is not None:
        noted.add(layer)


async def mark_last_good(handle: Handle, request: Request) -> Response:
    """Handle a request, and add the recorded layers to its response."""
    noted: set[str] = set()
    before = _noted.set(noted)
    try:
        response = await handle(request)
    finally:
        _noted.reset(before)
    if noted:
        response.headers[HEADER] = ", ".join(sorted(noted)[:_MOST_NAMED])
    return response
