"""Where an answer came from: the header `X-Cache`, for whoever develops against this service."""

from contextvars import ContextVar
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Source = Literal["hit-local", "hit-redis", "miss"]
_FARTHEST_FIRST: tuple[Source, ...] = ("miss", "hit-redis", "hit-local")
_told: ContextVar[set[Source] | None] = ContextVar("sources", default=None)


def tell(source: Source) -> None:
    """Note that something came from there, if anybody wants to know about this request."""
    told = _told.get()
    if told is not None:
        told.add(source)


class CacheHeader:
    """Adds `X-Cache` to the answers of reads: the farthest place anything in it came from."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        told: set[Source] = set()
        before = _told.set(told)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and told:
                headers = [*message.get("headers", ()), header(told)]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, telling)
        finally:
            _told.reset(before)


def header(told: set[Source]) -> tuple[bytes, bytes]:
    farthest = next(source for source in _FARTHEST_FIRST if source in told)
    return b"x-cache", farthest.encode()
