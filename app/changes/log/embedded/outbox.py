"""The outbox in the embedded SQLite file."""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from app.changes.log.embedded.rows import log_calls, select_changes
from app.changes.log.port import Leadership
from app.changes.log.sqlite_log import format_timestamp
from app.changes.model import Change
from app.sqlite.state import SQLiteState


@dataclass(frozen=True, slots=True)
class _AlwaysLeads:
    """The SQLite file serves one process, which therefore always leads."""

    is_held: bool = True


class EmbeddedOutbox:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = log_calls(state)

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        where = "sent_at IS NULL ORDER BY revision LIMIT ?"
        return await self._calls.read(partial(select_changes, where=where, values=(limit,)))

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        await self._calls.write(partial(_mark_sent, revisions=revisions))

    async def oldest_unsent(self) -> float | None:
        return await self._calls.read(_oldest_unsent)

    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        return nullcontext(_AlwaysLeads())


def _mark_sent(connection: sqlite3.Connection, revisions: Sequence[int]) -> None:
    connection.executemany(
        "UPDATE changes SET sent_at = ? WHERE revision = ? AND sent_at IS NULL",
        [(format_timestamp(datetime.now(UTC)), revision) for revision in revisions],
    )


def _oldest_unsent(connection: sqlite3.Connection) -> float | None:
    row = connection.execute(
        "SELECT logged_at FROM changes WHERE sent_at IS NULL ORDER BY revision LIMIT 1"
    ).fetchone()
    return row and (datetime.now(UTC) - datetime.fromisoformat(row["logged_at"])).total_seconds()
