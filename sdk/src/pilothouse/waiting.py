"""Deadlines and ends of tasks that a cancellation always reaches.

`asyncio.wait_for` loses a cancellation that arrives in the same turn as the result (until Python
3.12), and the task that was to end goes on for ever; `asyncio.timeout` is not in Python 3.10.
"""

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")
_AGAIN = 0.5  # seconds; other people's code may lose a cancellation as well


async def within(seconds: float, call: Coroutine[Any, Any, Result]) -> Result:
    """Return what `call` returns; raises TimeoutError when it takes longer, after ending it."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        await ended([task])
    raise TimeoutError


async def happens(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    with suppress(TimeoutError):
        await within(seconds, event.wait())


async def ended(tasks: Collection["asyncio.Future[Any]"]) -> None:
    """Cancel, and return when all are done; what they raise is nobody's concern any more."""
    open_tasks = {task for task in tasks if not task.done()}
    while open_tasks:
        for task in open_tasks:
            task.cancel()
        _, open_tasks = await asyncio.wait(open_tasks, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else it is told as never retrieved
