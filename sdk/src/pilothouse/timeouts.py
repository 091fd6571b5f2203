"""Deadlines and ends of tasks that a cancellation always reaches.

`asyncio.wait_for` loses a cancellation that arrives in the same turn as the result (until Python
3.12), and the cancelled task never ends; `asyncio.timeout` is not in Python 3.10.
"""

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")
_AGAIN = 0.5  # seconds; foreign code may lose a cancellation as well


async def run_with_timeout(seconds: float, call: Coroutine[Any, Any, Result]) -> Result:
    """Return what `call` returns; raises TimeoutError when it takes longer, after ending it."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        await cancel_and_wait([task])
    raise TimeoutError


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after `seconds`."""
    with suppress(TimeoutError):
        await run_with_timeout(seconds, event.wait())


async def cancel_and_wait(tasks: Collection["asyncio.Future[Any]"]) -> None:
    """Cancel tasks, and return when all are done; ignores what they raise."""
    open_tasks = {task for task in tasks if not task.done()}
    while open_tasks:
        for task in open_tasks:
            task.cancel()
        _, open_tasks = await asyncio.wait(open_tasks, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs it as never retrieved
