"""Maintenance of the log in the embedded SQLite file."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from app.changes.log.embedded.rows import log_calls
from app.changes.log.sqlite_log import format_timestamp
from app.sqlite.state import SQLiteState

_TRIM_AT_MOST: Final = 1000


class EmbeddedMaintenance:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = log_calls(state)

    async def acquire_turn(self, task: str, every: float) -> bool:
        return await self._calls.write(
            partial(_acquire_turn, task=task, every=timedelta(seconds=every))
        )

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        bounds = {
            "before": format_timestamp(datetime.now(UTC) - timedelta(seconds=older_than)),
            "keep": keep,
            "relayed": relayed,
            "limit": _TRIM_AT_MOST,
        }
        return await self._calls.write(partial(_trim, bounds=bounds))

    async def forget(self, older_than: float) -> int:
        before = format_timestamp(datetime.now(UTC) - timedelta(seconds=older_than))
        return await self._calls.write(partial(_forget, before=before))


def _acquire_turn(connection: sqlite3.Connection, task: str, every: timedelta) -> bool:
    now = datetime.now(UTC)
    taken = connection.execute(
        "INSERT INTO claims VALUES (:task, :now)"
        " ON CONFLICT (task) DO UPDATE SET at = :now WHERE at < :before",
        {"task": task, "now": format_timestamp(now), "before": format_timestamp(now - every)},
    )
    return taken.rowcount == 1


def _trim(connection: sqlite3.Connection, bounds: Mapping[str, object]) -> int:
    # Document by document, so that changes kept forever are not read every time.
    doomed = connection.execute(
        "SELECT changes.revision FROM documents CROSS JOIN changes USING (doc)"
        " WHERE logged_version > :keep AND changes.version <= logged_version - :keep"
        " AND logged_at < :before AND (sent_at IS NOT NULL OR NOT :relayed) LIMIT :limit",
        bounds,
    ).fetchall()
    connection.executemany("DELETE FROM changes WHERE revision = ?", doomed)
    last = max((row["revision"] for row in doomed), default=0)
    connection.execute("UPDATE horizon SET revision = max(revision, ?)", (last,))
    return len(doomed)


def _forget(connection: sqlite3.Connection, before: str) -> int:
    gone = connection.execute(
        "DELETE FROM intents WHERE id IN (SELECT id FROM intents"
        " WHERE state IN ('applied', 'lost') AND at < :before"
        " UNION ALL SELECT id FROM intents WHERE state = 'reserved' AND look_after < :before"
        " LIMIT :limit)",
        {"before": before, "limit": _TRIM_AT_MOST},
    )
    return gone.rowcount
