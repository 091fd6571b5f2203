"""The Postgres engine, its deadlines and the tables, for adapters only."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import asyncpg
from sqlalchemy import (
    Engine,
    event,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.timeouts import call_later, timeout_while_running

APPLICATION: Final = "pilothouse"
CHANGES_CHANNEL: Final = "pilothouse_changes"

CALL_SECONDS: Final = 1.8
_CLOSE_SECONDS: Final = 1
_LEAVE_SECONDS: Final = 0.2
_POOL_SIZE: Final = 10
_CONTACT: Final = "contact"  # when a connection of the pool was last given back

# What an adapter may get while the database is unavailable, and turns into its port's error.
FAILURES: Final = (
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)

_opened: WeakKeyDictionary[AsyncEngine, WeakSet[asyncpg.Connection]] = WeakKeyDictionary()
_distrusted_since: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()  # see `doubt`
_abandoned: set[asyncio.Future[Any]] = set()  # held here, or they might be collected unfinished

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long Postgres is waited for; all of it follows from the time of one call."""

    call: float = CALL_SECONDS  # with the wait for a connection of the pool

    @property
    def server(self) -> float:
        """After which the server itself ends a statement, a wait for a lock, a transaction."""
        return self.call + 0.2

    @property
    def ping(self) -> float:
        """Seconds after which /ready reports the server as down, before a caller gives up."""
        return min(self.call * 4 / 9, 2.5)

    @property
    def silent(self) -> float:
        """After which a look at the log is repeated over a new connection."""
        return self.call / 6


_deadlines: WeakKeyDictionary[AsyncEngine, Deadlines] = WeakKeyDictionary()


def open_engine(url: str, seconds: float = CALL_SECONDS) -> AsyncEngine:
    """Open a pool of at most ten connections to a `postgresql://` URL; connects at first use.

    Each call of an adapter on it is answered, or refused, within `seconds`.
    """
    deadlines = Deadlines(seconds)
    opened: WeakSet[asyncpg.Connection] = WeakSet()

    async def open_one() -> asyncpg.Connection:
        opening = asyncio.ensure_future(connect(url, deadlines))
        try:
            connection = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The driver, cancelled in its first moments, leaves an exception that is not retrieved.
            _abandoned.add(opening)
            opening.add_done_callback(_close_abandoned)
            raise
        opened.add(connection)
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=open_one,
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=deadlines.server,
        hide_parameters=True,
    )
    event.listen(
        engine.sync_engine, "checkout", partial(_replace_closed_connection, engine.sync_engine)
    )
    event.listen(engine.sync_engine, "checkin", _note_contact)
    event.listen(engine.sync_engine, "invalidate", _terminate_soon)
    _opened[engine] = opened
    _deadlines[engine] = deadlines
    return engine


def deadlines_of(engine: AsyncEngine) -> Deadlines:
    """Return the deadlines that an engine of `open_engine` was opened with."""
    return _deadlines[engine]


async def close_engine(engine: AsyncEngine) -> None:
    """Close the pool in order; what does not close within two seconds is torn down."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _abandoned if task.get_loop() is loop}:
        await asyncio.wait(mine, timeout=_CLOSE_SECONDS)
    with suppress(*FAILURES):
        await run_with_timeout(_CLOSE_SECONDS, engine.dispose())
    for connection in tuple(_opened[engine]):
        if not connection.is_closed():
            connection.terminate()


async def connect(url: str, deadlines: Deadlines) -> asyncpg.Connection:
    """Open one connection; the driver reads the URL, with its sslmode or several hosts."""
    at_most = f"{deadlines.server * 1000:.0f}ms"
    # The driver's own timer would count a standstill of this process as well.
    async with timeout_while_running(deadlines.server):
        return await asyncpg.connect(
            url,
            timeout=2 * deadlines.server,
            command_timeout=deadlines.server,
            server_settings={
                "application_name": APPLICATION,
                "statement_timeout": at_most,
                "lock_timeout": at_most,
                # A replica that stops inside a transaction must not keep its locks.
                "idle_in_transaction_session_timeout": at_most,
            },
        )


def _note_contact(_connection: object, record: Any) -> None:
    record.info[_CONTACT] = monotonic()


def _terminate_soon(connection: Any, _record: object, _why: object) -> None:
    """Give a server that still answers time to hear that a call was given up, and no more.

    The pool would wait for two seconds, and ten such calls would hold all its places.
    """
    # After a standstill an ordinary timer would end the request to cancel in its first moments, and
    # leave an exception that no code retrieves.
    call_later(_LEAVE_SECONDS, connection.driver_connection.terminate)


def _replace_closed_connection(
    engine: Engine, connection: Any, record: Any, _proxy: object
) -> None:
    """Let the pool replace what a restarted server has closed: no round trip, unlike pre-ping.

    And what may be as dead as one that gave no answer; see `doubt`.
    """
    if record.info.get(_CONTACT, inf) < _distrusted_since.get(engine, -inf):
        connection.driver_connection.terminate()  # the pool would take leave of it, for a while
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def distrust_connections(engine: AsyncEngine, began: float) -> None:
    """Use no connection again that was last used before `began`, when a call without answer began.

    What lies between may have lost them all without a word. Each would cost a time-out.
    """
    _distrusted_since[engine.sync_engine] = began


async def run_with_timeout(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """Return what `call` returns, or raise TimeoutError after `seconds` and not later.

    `asyncio.timeout` waits until the cancelled call has cleaned up, and against a frozen server
    the driver cleans up for seconds; here the caller does not wait for that.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
    finally:
        if task.done():
            _discard_result(task)  # a caller who is cancelled as it fails looks at it no more
        else:
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_discard_result)
    raise TimeoutError(f"no answer within {seconds} s")


def _discard_result(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved


def _close_abandoned(opening: asyncio.Future[Any]) -> None:
    _discard_result(opening)
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()
