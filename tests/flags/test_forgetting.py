"""Idempotency keys that have outlived their day are deleted, however many there are."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.audit.fingerprints import Fingerprints
from app.changes.log.sqlite_log import format_timestamp
from app.flags.cache import FlagCache
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.writer import FlagWriter
from app.sqlite.state import SQLiteState

pytestmark = pytest.mark.anyio


async def test_all_keys_that_are_older_than_a_day_are_forgotten_in_one_go(tmp_path: Path) -> None:
    state = SQLiteState(tmp_path)
    store = EmbeddedFlagStore(state, lambda: None)
    writer = FlagWriter(store, FlagCache(store), Fingerprints(b"pepper"), lambda *_: None)
    old, young = (
        format_timestamp(datetime.now(UTC) - timedelta(hours=hours)) for hours in (25, 23)
    )

    def fill(connection: sqlite3.Connection) -> None:
        rows = [*((f"old-{number}", old) for number in range(2500)), ("young", young)]
        connection.executemany("INSERT INTO flag_requests VALUES (?, '', ?, 'staging', 0, 0)", rows)

    def remaining_keys(connection: sqlite3.Connection) -> list[str]:
        return [row[0] for row in connection.execute("SELECT idempotency_key FROM flag_requests")]

    await state.run(fill)

    await writer.delete_expired_keys()

    assert await state.read(remaining_keys) == ["young"]
    await state.close()
