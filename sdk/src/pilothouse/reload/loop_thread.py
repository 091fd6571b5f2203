"""An event loop in a thread of its own, for programs that have none."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """Runs until closed."""

    def __init__(self, name: str) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def run() -> None:
            ended = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), ended))
            await ended.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), name=name, daemon=True)
        self._thread.start()
        self.loop, self._ended = started.result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


def run_and_wait(
    work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop | None
) -> Result:
    """Run `work` on a loop of another thread, or on one of its own, and return what it returns.

    Raises RuntimeError in a thread whose loop runs: it would stand still, or wait for itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if loop is None:
            return asyncio.run(work)
        return asyncio.run_coroutine_threadsafe(work, loop).result()
    work.close()
    raise RuntimeError("await the method without _sync here: this would block the event loop")
