"""python -m tests.e2e.doors: the service, and whatever FastAPI has answered in it says so."""

import os

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.main import create_app
from app.web.connection import Protocol


class _Marked:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marking(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-door", b"fastapi")]}
            await send(message)

        await self.app(scope, receive, marking if scope["type"] == "http" else send)


def main() -> None:
    app = create_app()
    app.add_middleware(_Marked)
    # As `python -m app serve` does.
    config = uvicorn.Config(
        app,
        port=int(os.environ["PORT"]),
        log_config=None,
        access_log=False,
        http=Protocol,
        ws="none",
        proxy_headers=False,
        server_header=False,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
