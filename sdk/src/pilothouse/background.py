"""The client's event loop in a thread of its own, begun again in a forked process."""

import logging
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, Protocol, TypeVar

from pilothouse.errors import PilothouseError, Unavailable
from pilothouse.forks import ForkLock, keep_of_parent
from pilothouse.loop_thread import LoopThread

Result = TypeVar("Result")
_CLOSING = 5.0  # seconds
_guard = ForkLock()  # of every start and end
_log = logging.getLogger("pilothouse")


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
        self._thread: LoopThread | None = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._caller: threading.Thread | None = None

    def start(self) -> None:
        """Begin in this process; returns at once."""
        with _guard.lock:
            if self._is_closed or self._pid == os.getpid():
                return
            if self._thread is not None:
                keep_of_parent(self._thread, self._calls)
            self._thread, self._calls, self._caller = None, None, None
            try:
                self._thread = LoopThread("pilothouse")
            finally:
                self._pid = os.getpid()
        beginning = self._thread.submit(_run(self._begin()))
        beginning.add_done_callback(_log_failed_start)

    def touch(self) -> None:
        """Begin again if this is a forked process that has not; costs a tenth of a microsecond."""
        if self._pid != os.getpid() and not self._is_closed:
            self.start()

    def run(self, call: Coroutine[Any, Any, Result], within: float | None = None) -> Result:
        """Run a coroutine on the loop and return its result; raises what it raises.

        Raises Unavailable after `within` seconds, RuntimeError on the loop's own thread.
        """
        if self._is_closed:
            call.close()
            raise PilothouseError("the client is closed")
        self.touch()
        if self._thread is None or self._thread.is_current:
            call.close()
            raise RuntimeError(
                "cannot be called on the client's own thread: it would wait for itself"
            )
        running = self._thread.submit(call)
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
        with _guard.lock:
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
        with _guard.lock:
            if self._is_closed:
                return
            self._is_closed = True
            thread, calls, caller = self._thread, self._calls, self._caller
        if self._pid != os.getpid() or thread is None:
            return
        ending = thread.submit(_run(self._end()))
        try:
            ending.result(_CLOSING)
        except Exception:  # noqa: BLE001 - what is still running ends with the process
            _log.warning("the client did not close cleanly", exc_info=True)
        thread.close(_CLOSING)
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
