"""An event loop in a thread of its own, for programs that have none."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from pilothouse.timeouts import cancel_and_wait

Result = TypeVar("Result")


class _Loop(asyncio.SelectorEventLoop):
    """Continues to look up names and write files while the interpreter exits.

    Executors accept nothing then, so the last counts, the snapshot and the deregistration of a
    program that did not close its client would be lost.
    """

    def run_in_executor(  # type: ignore[override]  # of variadic types, which Python 3.10 has not
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        try:
            return super().run_in_executor(executor, func, *args)
        except RuntimeError:
            done = self.create_future()
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - raised where the result is awaited
                done.set_exception(error)
            return done


class LoopThread:
    """Runs from its creation until it is closed.

    The thread is a daemon: a program that does not close it ends anyway.
    """

    def __init__(self, name: str) -> None:
        self.loop: asyncio.AbstractEventLoop = _Loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        running = threading.Event()
        self.loop.call_soon(running.set)
        self._thread.start()
        running.wait()

    @property
    def is_current(self) -> bool:
        """Whether this is called on the thread itself."""
        return threading.current_thread() is self._thread

    def submit(self, call: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(call, self.loop)

    def close(self, within: float | None = None) -> None:
        """Cancel what still runs, and wait for the thread, at most `within` seconds."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(within)

    def _run(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(cancel_and_wait(asyncio.all_tasks(loop)))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()


def run_and_wait(
    work: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop | None
) -> Result:
    """Run `work` on a loop of another thread, or on a new one here, and return what it returns.

    Raises RuntimeError in a thread whose loop runs: it would block that loop, or wait for itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if loop is None:
            return asyncio.run(work)
        return asyncio.run_coroutine_threadsafe(work, loop).result()
    work.close()
    raise RuntimeError("await the method without _sync here: this would block the event loop")
