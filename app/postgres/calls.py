"""An adapter's calls to Postgres: bounded in time, measured, failing with the port's own error."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres.engine import FAILURES, deadlines_of, distrust_connections, run_with_timeout
from app.postgres.failures import explain_failure
from app.telemetry import DATABASE_CALL_DURATION, DATABASE_CALLS

T = TypeVar("T")


@contextmanager
def measure_call(operation: str) -> Iterator[None]:
    """Count and time one call."""
    began, outcome = perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        DATABASE_CALLS.labels(operation, outcome).inc()
        DATABASE_CALL_DURATION.labels(operation).observe(perf_counter() - began)


class Calls:
    """Runs an adapter's calls in time, measures them and raises the port's own error."""

    def __init__(self, engine: AsyncEngine, unavailable: Callable[[str], Exception]) -> None:
        """Raise `unavailable(reason)` when Postgres fails."""
        self._engine = engine
        self._unavailable = unavailable
        self.deadlines = deadlines_of(engine)
        # A statement that is its own transaction costs one round trip, a BEGIN two more.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def run(
        self,
        operation: str,
        statement: Executable,
        parameters: Mapping[str, object] | None = None,
        *,
        seconds: float | None = None,
        again: bool = True,
        silent: float | None = None,
    ) -> CursorResult[Any]:
        """Execute one statement, a second time on a new connection after `silent` seconds if given.

        `seconds` bounds both attempts; by default the time of one call.
        """

        async def once() -> CursorResult[Any]:
            async with self._single.connect() as connection:
                return await connection.execute(statement, parameters)

        async def once_more_if_silent() -> CursorResult[Any]:
            assert silent is not None
            began = monotonic()
            try:
                return await run_with_timeout(silent, _retry_once_if_closed(once))
            except TimeoutError:
                distrust_connections(self._engine, began)
            return await once()

        if silent is not None:
            return await self.ask(operation, once_more_if_silent, seconds, again=False)
        return await self.ask(operation, once, seconds, again=again)

    async def ask(
        self,
        operation: str,
        once: Callable[[], Coroutine[Any, Any, T]],
        seconds: float | None = None,
        *,
        again: bool = True,
    ) -> T:
        """Call `once`; with `again`, a second time if the server has closed the connection."""
        began = monotonic()
        seconds = self.deadlines.call if seconds is None else seconds
        with measure_call(operation):
            try:
                attempt = _retry_once_if_closed(once) if again else once()
                return await run_with_timeout(seconds, attempt)
            except FAILURES as failure:
                if isinstance(failure, TimeoutError):
                    distrust_connections(self._engine, began)
                raise self._unavailable(explain_failure(failure)) from failure


async def _retry_once_if_closed(once: Callable[[], Awaitable[T]]) -> T:
    """Retry on a new connection if the server has closed the first, as in a restart."""
    try:
        return await once()
    except DBAPIError as failure:
        if not failure.connection_invalidated:
            raise
    return await once()
