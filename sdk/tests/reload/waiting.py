"""Waiting for what is told, with a deadline."""

import asyncio
from collections.abc import Callable

from pilothouse.changes import ConfigChange
from tests.servers.process import PATIENCE_SECONDS


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""

    async def look() -> None:
        while not holds():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), PATIENCE_SECONDS)


class Heard:
    """A callback that remembers; `until` waits for what it hears."""

    def __init__(self) -> None:
        self.changes: list[ConfigChange] = []
        self._heard = asyncio.Event()

    def __call__(self, change: ConfigChange) -> None:
        self.changes.append(change)
        self._heard.set()

    def method(self, change: ConfigChange) -> None:
        self(change)

    async def until(self, holds: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not holds():
                await self._heard.wait()
                self._heard.clear()

        await asyncio.wait_for(wait(), PATIENCE_SECONDS)
