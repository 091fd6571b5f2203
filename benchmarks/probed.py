"""python -m benchmarks.probed: the service on a loop that tells what each of its steps took.

`GET /probe` tells, in milliseconds, the longest step of the loop since the last time, by the
processor time of the loop's thread and by the clock, and forgets it; and the longest collection
of garbage there, whose processor time is left out of the step that it happened to fall into.
"""

import asyncio
import gc
import json
from threading import get_ident
from time import perf_counter, thread_time
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from app.garbage_collection import CollectionLimiter
from app.main import create_app
from app.settings import Settings
from app.web.connection import Protocol

_PATH = "/probe"


class _Longest:
    """The longest step, and the one that took the most processor time."""

    def __init__(self) -> None:
        self.collected = 0.0  # in this step
        self.forget()

    def forget(self) -> None:
        self.processor = self.clock = self.collector = 0.0
        self.what = ""

    def watch(self) -> None:
        """Measure every callback of every loop from now on."""
        run = asyncio.events.Handle._run  # noqa: SLF001 - a loop tells nobody of its steps
        longest = self

        def run_and_measure(handle: Any) -> None:
            longest.collected = 0.0
            started, spent = perf_counter(), thread_time()
            run(handle)
            spent, passed = thread_time() - spent - longest.collected, perf_counter() - started
            longest.clock = max(longest.clock, passed)
            if spent > longest.processor:
                longest.processor, longest.what = spent, repr(handle)[:300]

        began, loops = 0.0, get_ident()

        def collects(phase: str, _: object) -> None:
            nonlocal began
            if get_ident() != loops:
                return
            if phase == "start":
                began = thread_time()
                return
            took = thread_time() - began
            longest.collected += took
            longest.collector = max(longest.collector, took)

        gc.callbacks.append(collects)
        setattr(asyncio.events.Handle, "_run", run_and_measure)  # noqa: B010 - not ours to type


class _Probed:
    def __init__(self, app: ASGIApp, longest: _Longest) -> None:
        self._app = app
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _PATH:
            await self._app(scope, receive, send)
            return
        longest = self._longest
        figures = {
            "processor_ms": longest.processor * 1000,
            "clock_ms": longest.clock * 1000,
            "collector_ms": longest.collector * 1000,
            "what": longest.what,
        }
        longest.forget()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(figures).encode()})


def main() -> None:
    settings = Settings()
    longest = _Longest()
    longest.watch()
    app = create_app(settings)
    CollectionLimiter().start()
    uvicorn.run(
        _Probed(app, longest),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        http=Protocol,
        loop="asyncio",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
