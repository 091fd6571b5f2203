"""Calls of callbacks: their exceptions are logged and affect no other callback."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable

_awaited: set["asyncio.Future[None]"] = set()  # a loop alone does not keep its tasks alive
_log = logging.getLogger("pilothouse")


def call_back(of: str, callback: Callable[..., object], *arguments: object) -> None:
    """Call a callback, which may be a coroutine function on an event loop; `of` is for the log."""
    try:
        result = callback(*arguments)
        if isawaitable(result):
            task = asyncio.ensure_future(_log_failure(of, result))
            _awaited.add(task)
            task.add_done_callback(_awaited.discard)
    except Exception:  # noqa: BLE001 - it is the caller's code
        _log.exception("a callback failed on a change of the %s", of)


async def _log_failure(of: str, result: Awaitable[object]) -> None:
    try:
        await result
    except Exception:  # noqa: BLE001 - it is the caller's code
        _log.exception("a callback failed on a change of the %s", of)
