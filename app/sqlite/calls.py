"""An adapter's calls to the embedded state, failing with the port's own error."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from app.sqlite.state import SQLiteState, StateUnavailable

T = TypeVar("T")


class StateCalls:
    """Runs an adapter's transactions on the state and raises the port's own error."""

    def __init__(
        self, state: SQLiteState, subject: str, unavailable: Callable[[str], Exception]
    ) -> None:
        """Raise `unavailable("SUBJECT cannot be read")`, or written, when the state fails."""
        self._state = state
        self._subject = subject
        self._unavailable = unavailable

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on one consistent view."""
        try:
            return await self._state.read(work)
        except StateUnavailable as failure:
            raise self._unavailable(f"{self._subject} cannot be read") from failure

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one writing transaction, on disk before this returns."""
        try:
            return await self._state.run(work)
        except StateUnavailable as failure:
            raise self._unavailable(f"{self._subject} cannot be written") from failure
