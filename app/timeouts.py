"""A time-out that counts only while this process gets to run.

After a pause of the event loop (many requests at once, a busy machine) every ordinary timer is due,
although the answer may already be in the socket: a server that has answered long ago would be
treated as silent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_SLICES = 5


def call_later(seconds: float, do: Callable[[], object]) -> None:
    """Call `do` after `seconds`, in which the event loop has run at least a few times."""
    loop = asyncio.get_running_loop()

    def tick(left: int) -> None:
        if left:
            loop.call_later(seconds / _SLICES, tick, left - 1)
        else:
            do()

    loop.call_later(seconds / _SLICES, tick, _SLICES - 1)


@asynccontextmanager
async def timeout_while_running(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError after `seconds`; a standstill consumes a fifth of them at most."""
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
