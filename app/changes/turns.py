"""Work that one replica does for all, by turns."""

import asyncio
from collections.abc import Awaitable, Callable

from app.changes.log.port import ChangeLog


def in_turns(
    log: ChangeLog, name: str, every: float, work: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return a task that runs `work` for ever, once in `every` seconds over all replicas."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            if await log.acquire_turn(name, every * 0.9):
                await work()

    return run
