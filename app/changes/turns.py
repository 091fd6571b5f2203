"""Work that one replica does for all, by turns."""

import asyncio
from collections.abc import Awaitable, Callable

from app.changes.log.port import Maintenance


def in_turns(
    maintenance: Maintenance, name: str, every: float, work: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return an endless task that runs `work` once in `every` seconds over all replicas."""

    async def run() -> None:
        while True:
            await asyncio.sleep(every)
            if await maintenance.acquire_turn(name, every * 0.9):
                await work()

    return run
