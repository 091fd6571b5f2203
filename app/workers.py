"""Threads for work that would block the event loop, and with it every other request, for too long.

Only for computation, never for a call to a server. Pure Python there still takes turns with the
loop, which waits for one switch interval at most; see docs/reference/performance.md.
"""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import ParamSpec, TypeVar

from app.errors import Unavailable

# Smaller work is done on the loop: a thread costs a fraction of a millisecond.
LARGE_BODY = 16 * 1024  # bytes of a request
LARGE_TEXT = 32 * 1024  # characters of a stored document
_SLICE_SECONDS = 0.005
_THREADS = 2
_MOST_WAITING = 200
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="worker")
_waiting = 0

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class WorkersBusy(Unavailable):
    code = "workers_busy"


async def run_in_worker(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, run in a thread; raises WorkersBusy when too many wait."""
    global _waiting  # noqa: PLW0603 - one pool, one queue
    if _waiting >= _MOST_WAITING:
        raise WorkersBusy("too many large requests are being worked on")
    _waiting += 1
    context = copy_context()
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_pool, lambda: context.run(work, *args, **kwargs))
    finally:
        _waiting -= 1


_large_request: ContextVar[bool] = ContextVar("large_request", default=False)


def note_request(body: bytes) -> None:
    """Record for this request whether its body is large."""
    _large_request.set(len(body) > LARGE_BODY)


def note_large_work() -> None:
    """Mark this request as large, whatever the size of its body."""
    _large_request.set(True)


def is_large_request() -> bool:
    return _large_request.get()


class Slices:
    """Long work on the loop in slices: other requests are served in between."""

    def __init__(self) -> None:
        self._until = monotonic() + _SLICE_SECONDS

    async def rest(self) -> None:
        """Yield to the loop if the slice has lasted some milliseconds."""
        if monotonic() > self._until:
            await asyncio.sleep(0)
            self._until = monotonic() + _SLICE_SECONDS


async def in_slices(items: Iterable[S], function: Callable[[S], T]) -> list[T]:
    """Apply `function` to each item; other requests are served in between."""
    slices = Slices()
    results: list[T] = []
    for item in items:
        results.append(function(item))
        await slices.rest()
    return results


async def run_apart(is_large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: FBT001
    """Do large work in a thread and small work at once."""
    if is_large:
        return await run_in_worker(work, *args, **kwargs)
    return work(*args, **kwargs)
