"""Leadership of the relay: the replica whose session holds an advisory lock in Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import asyncpg

from app.changes.errors import LogUnavailable
from app.postgres.engine import FAILURES, Deadlines, connect
from app.postgres.locks import RELAY_LOCK

_TRY_SECONDS: Final = 0.5
_BEAT_SECONDS: Final = 1.5
# A replica that is frozen or cut off keeps its session, but not for longer than this.
_SILENCE: Final = "5s"


@dataclass(frozen=True, slots=True)
class PostgresLeadership:
    _session: asyncpg.Connection

    @property
    def is_held(self) -> bool:
        return not self._session.is_closed()


@asynccontextmanager
async def hold_leadership(dsn: str, deadlines: Deadlines) -> AsyncIterator[PostgresLeadership]:
    """Wait for the lock over a session of its own; with the session, the lock is gone."""
    session: asyncpg.Connection | None = None
    try:
        try:
            session = await connect(dsn, deadlines)
            await _acquire_lock(session)
        except FAILURES as failure:
            raise LogUnavailable("the change log does not answer") from failure
        beating = asyncio.create_task(_keep_session_alive(session))
        try:
            yield PostgresLeadership(session)
        finally:
            beating.cancel()
            await asyncio.wait({beating})
    finally:
        if session is not None:
            session.terminate()  # at once: the server gives the lock to the next


async def _acquire_lock(session: asyncpg.Connection) -> None:
    with suppress(asyncpg.UndefinedObjectError):  # before PostgreSQL 14 only TCP notices
        await session.execute(f"SET idle_session_timeout = '{_SILENCE}'")
    while True:
        if await session.fetchval("SELECT pg_try_advisory_lock($1)", RELAY_LOCK):
            return
        await asyncio.sleep(_TRY_SECONDS)


async def _keep_session_alive(session: asyncpg.Connection) -> None:
    with suppress(*FAILURES):
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            await session.execute("SELECT 1")
    session.terminate()
