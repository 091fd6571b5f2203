"""What the adapters of the log in Postgres share: the pool, and one connection that listens."""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from app.changes.errors import LogUnavailable
from app.postgres.calls import Calls
from app.postgres.engine import (
    CHANGES_CHANNEL,
    FAILURES,
    Deadlines,
    close_engine,
    connect,
    deadlines_of,
)

_LISTEN_AGAIN_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.9


class LogConnection:
    def __init__(self, engine: AsyncEngine, dsn: str) -> None:
        self.engine = engine
        self.dsn = dsn
        # Every call may be repeated: at worst a turn goes unused or a disclosure is written twice.
        self.calls = Calls(
            engine, lambda why: LogUnavailable(f"the change log does not answer: {why}")
        )
        self.listener = Listener(dsn, deadlines_of(engine))

    async def close(self) -> None:
        """Close the connection that listens, and the engine."""
        await self.listener.close()
        await close_engine(self.engine)


class Listener:
    """Listens for changes over its own connection; without one, it only waits."""

    def __init__(self, dsn: str, deadlines: Deadlines) -> None:
        self._dsn = dsn
        self._deadlines = deadlines
        self._moved = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def wait(self, within: float) -> None:
        self._keep_open()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._moved.wait()
        # What is notified from here on is not yet read by the caller and ends its next wait.
        self._moved.clear()

    def _keep_open(self) -> None:
        listening = self._connection is not None and not self._connection.is_closed()
        if listening or self._opening is not None or monotonic() < self._not_before:
            return
        self._not_before = monotonic() + _LISTEN_AGAIN_SECONDS
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            self._connection = await connect(self._dsn, self._deadlines)
            await self._connection.add_listener(CHANGES_CHANNEL, self._on_notify)
            self._moved.set()  # for changes logged before the listener was connected
        except FAILURES:
            # A pooler may refuse, or accept and never deliver: the caller's polling covers both.
            if self._connection is not None:
                self._connection.terminate()
        finally:
            self._opening = None

    def _on_notify(self, *_: object) -> None:
        self._moved.set()

    async def close(self) -> None:
        self._not_before = float("inf")
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._connection is not None:
            with suppress(*FAILURES):
                await self._connection.close(timeout=_CLOSE_SECONDS)
