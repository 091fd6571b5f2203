"""The header `X-Cache`: where an answer came from, for developers."""

from contextvars import ContextVar
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Source = Literal["hit-local", "hit-redis", "miss"]
_FARTHEST_FIRST: tuple[Source, ...] = ("miss", "hit-redis", "hit-local")
_sources: ContextVar[set[Source] | None] = ContextVar("sources", default=None)


def note_source(source: Source) -> None:
    """Record a source of this request's answer, if sources are recorded."""
    sources = _sources.get()
    if sources is not None:
        sources.add(source)


class CacheHeader:
    """Adds `X-Cache` to the answers of reads: the farthest place anything in it came from."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        sources: set[Source] = set()
        before = _sources.set(sources)

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start" and sources:
                headers = [*message.get("headers", ()), x_cache_header(sources)]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, send_with_header)
        finally:
            _sources.reset(before)


def x_cache_header(sources: set[Source]) -> tuple[bytes, bytes]:
    farthest = next(source for source in _FARTHEST_FIRST if source in sources)
    return b"x-cache", farthest.encode()
