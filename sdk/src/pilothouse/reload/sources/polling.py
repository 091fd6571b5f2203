"""Polling, for sources that do not report changes."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from pilothouse.reload.errors import ReloadError


async def poll_changes(
    is_modified: Callable[[], Awaitable[bool]], seconds: float
) -> AsyncGenerator[None, None]:
    """Yield when the source is modified, is unavailable, or is available again.

    The pauses vary by a tenth, so that processes that started together do not poll together.
    """
    was_unavailable = False
    while True:
        await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, no secret
        try:
            is_due, is_unavailable = await is_modified(), False
        except ReloadError:
            is_due = is_unavailable = True
        if is_due or was_unavailable:
            yield
        was_unavailable = is_unavailable
