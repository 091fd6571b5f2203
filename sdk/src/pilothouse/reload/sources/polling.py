"""Looking again and again, for what does not tell by itself."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from pilothouse.reload.errors import ReloadError


async def poll_changes(
    is_modified: Callable[[], Awaitable[bool]], seconds: float
) -> AsyncGenerator[None, None]:
    """Yield when something is modified, cannot be looked at, or can be again.

    The pauses vary by a tenth, so that many processes that started at once do not ask at once.
    """
    was_away = False
    while True:
        await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, no secret
        try:
            is_due, is_away = await is_modified(), False
        except ReloadError:
            is_due = is_away = True
        if is_due or was_away:
            yield
        was_away = is_away
