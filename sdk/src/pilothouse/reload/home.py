"""The event loop on which a manager was started: its connections and callbacks belong to it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pilothouse.loop_thread import LoopThread

Result = TypeVar("Result")
_THREAD = "pilothouse-config"


class HomeLoop:
    """A loop of the program, or one in a thread of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: LoopThread | None = None

    @property
    def running(self) -> asyncio.AbstractEventLoop | None:
        """The loop while it runs; None before the start, after the end, and in a forked process."""
        loop = self._loop
        return loop if loop is not None and loop.is_running() else None

    @property
    def has_thread(self) -> bool:
        return self._thread is not None

    def enter(self) -> None:
        """Make the running loop the one of the manager."""
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        self._loop = None

    def open_thread(self) -> LoopThread:
        return LoopThread(_THREAD)

    def adopt(self, thread: LoopThread) -> None:
        """Keep the thread if the manager was started on its loop; close it otherwise."""
        if self._loop is thread.loop:
            self._thread = thread
        else:
            thread.close()

    def take_thread(self) -> LoopThread | None:
        """Return the thread, for the caller to close it."""
        thread, self._thread = self._thread, None
        return thread

    def begin_in_fork(self) -> asyncio.AbstractEventLoop:
        """Begin a thread of this process, and return its loop."""
        self._thread = self.open_thread()
        self._loop = self._thread.loop
        return self._loop

    def forget(self) -> object:
        """Return what belongs to the parent of this process."""
        parents = self._loop, self._thread
        self._loop = self._thread = None
        return parents

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `work()` on the loop while it runs, otherwise on the caller's."""
        loop = self.running
        if loop is None or loop is asyncio.get_running_loop():
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call on the loop, if it runs."""
        loop = self.running
        if loop is not None:
            loop.call_soon_threadsafe(callback)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work()` on the loop, if it runs, and do not wait for it."""
        loop = self.running
        if loop is not None:
            asyncio.run_coroutine_threadsafe(work(), loop)

    def call(self, callback: Callable[[], None]) -> None:
        """Call on the loop while it runs; at once if that is the caller's, or if there is none."""
        loop = self.running
        if loop is None or loop is _running_loop():
            callback()
        else:
            loop.call_soon_threadsafe(callback)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
