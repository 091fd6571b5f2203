"""An event loop on a thread of its own, for callers that have none; begun again after a fork."""

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, Protocol, TypeVar

from pilothouse.errors import PilothouseError, Unavailable

Result = TypeVar("Result")
_CLOSING = 5.0  # seconds
# A fork has copies of the loops of its parent. They share the parent's file descriptors: were one
# collected here, it would take the parent's out of their selector.
_of_parents: list[object] = []
_guard = threading.Lock()  # of every start and end
_log = logging.getLogger("pilothouse")


def _renew_guard() -> None:
    """Replace the lock in a forked process: its holder may not exist there."""
    global _guard  # noqa: PLW0603 - a held lock cannot be released here
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


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


class RunOnLoop(Protocol):
    """Runs a coroutine on the client's loop."""

    def __call__(
        self, call: Coroutine[Any, Any, Result], within: float | None = None
    ) -> Result: ...


class Background:
    """Runs `begin()` on its loop, then the given coroutines, and `end()` when it is closed.

    Its threads are daemons: a program that does not close it ends anyway.
    """

    def __init__(
        self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]
    ) -> None:
        self._begin = begin
        self._end = end
        self._pid = 0
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._caller: threading.Thread | None = None

    def start(self) -> None:
        """Begin in this process; returns at once."""
        with _guard:
            if self._is_closed or self._pid == os.getpid():
                return
            if self._loop is not None:
                _of_parents.append((self._loop, self._thread, self._calls))
            self._calls, self._caller = None, None
            self._loop = _Loop()
            self._thread = threading.Thread(
                target=self._serve, args=(self._loop,), name="pilothouse", daemon=True
            )
            self._pid = os.getpid()
            self._thread.start()
        beginning = asyncio.run_coroutine_threadsafe(_run(self._begin()), self._loop)
        beginning.add_done_callback(_log_failed_start)

    def touch(self) -> None:
        """Begin again if this is a forked process that has not; costs a tenth of a microsecond."""
        if self._pid != os.getpid() and not self._is_closed:
            self.start()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def run(self, call: Coroutine[Any, Any, Result], within: float | None = None) -> Result:
        """Run a coroutine on the loop and return its result; raises what it raises.

        Raises Unavailable after `within` seconds, RuntimeError on the loop's own thread.
        """
        if self._is_closed:
            call.close()
            raise PilothouseError("the client is closed")
        self.touch()
        if self._loop is None or threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError(
                "cannot be called on the client's own thread: it would wait for itself"
            )
        running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result(within)
        except (NotInTime, TimeoutError) as error:
            running.cancel()
            raise Unavailable(f"not done within {within} s") from error
        except CancelledError as error:
            raise PilothouseError("the client was closed in the meantime") from error

    def deliver(self, call: Callable[[], None]) -> None:
        """Run a callback on a thread for callbacks, after earlier ones.

        Heartbeats and streams share the loop, which a slow callback would block.
        """
        with _guard:
            if self._is_closed:
                return
            if self._calls is None:
                self._calls = queue.SimpleQueue()
                self._caller = threading.Thread(
                    target=_call_all, args=(self._calls,), name="pilothouse-callbacks", daemon=True
                )
                self._caller.start()
            self._calls.put(call)

    def close(self) -> None:
        """End, and wait for the threads; may be called twice, and from a callback."""
        with _guard:
            if self._is_closed:
                return
            self._is_closed = True
            loop, thread, calls, caller = self._loop, self._thread, self._calls, self._caller
        if self._pid != os.getpid() or loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_run(self._end()), loop)
        try:
            ending.result(_CLOSING)
        except Exception:  # noqa: BLE001 - what is still running ends with the process
            _log.warning("the client did not close cleanly", exc_info=True)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSING)
        if calls is not None and caller is not None:
            calls.put(None)
            if caller is not threading.current_thread():
                caller.join(_CLOSING)


def _log_failed_start(beginning: "Future[None]") -> None:
    if not beginning.cancelled() and beginning.exception() is not None:
        _log.error("the client could not start", exc_info=beginning.exception())


async def _run(call: Awaitable[None]) -> None:
    await call


def _call_all(calls: "queue.SimpleQueue[Callable[[], None] | None]") -> None:
    while (call := calls.get()) is not None:
        try:
            call()
        except Exception:  # noqa: BLE001 - it is the caller's code
            _log.exception("a callback failed")
