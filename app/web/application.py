"""The ASGI application: what happens to a request before the middleware and the routes."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from app.web.fast_path import FastPathApp
from app.web.head_requests import as_get
from app.web.proxies import TrustedProxies

# What is entered before the first request; it yields the state that requests find.
Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, object]]]


class Application(FastPathApp):
    """Resolves trusted proxies, handles HEAD as GET, and reports a refused start.

    That is reported in one line, since a traceback would hide the reason: the lifespan stores it in
    `state.refused`.
    """

    proxies: TrustedProxies | None = None

    def __init__(self, title: str, version: str, description: str, lifespan: Lifespan) -> None:
        super().__init__(
            title=title,
            version=version,
            description=description,
            lifespan=lifespan,
            redirect_slashes=False,
            docs_url=None,  # with assets of our own: see app.web.pages
            redoc_url=None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.proxies is not None and scope["type"] == "http":
            scope = self.proxies.resolve(scope)
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = as_get(scope, send)

        async def send_without_traceback(message: Message) -> None:
            refused = getattr(self.state, "refused", None)
            if refused is not None and message["type"] == "lifespan.startup.failed":
                message = {**message, "message": f"refused to start: {refused}"}
            await send(message)

        is_lifespan = scope["type"] == "lifespan"
        await super().__call__(scope, receive, send_without_traceback if is_lifespan else send)
