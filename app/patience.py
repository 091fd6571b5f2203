"""A time-out that counts only while this process gets to run.

After a moment in which the event loop did not turn (a crowd of requests, a busy machine), the
answer may lie in the socket while every ordinary timer is due: the server is then called silent
that has answered long ago.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_SLICES = 5


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after `seconds`; a standstill costs a fifth of them at most."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as bound:
        timer: asyncio.TimerHandle

        def tick(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(seconds / _SLICES, tick, left - 1)
            else:
                bound.reschedule(loop.time())

        timer = loop.call_later(seconds / _SLICES, tick, _SLICES - 1)
        try:
            yield
        finally:
            timer.cancel()
