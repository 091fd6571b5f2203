"""Intents in the embedded SQLite file."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from app.changes.errors import IntentNotFound
from app.changes.log.embedded.rows import log_calls, select_intents
from app.changes.log.sqlite_log import entity_columns, format_timestamp
from app.changes.model import Intent
from app.sqlite.state import SQLiteState

_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)
_LONGEST_LOOK_SECONDS: Final = 3600


class EmbeddedIntents:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = log_calls(state)

    async def begin(self, intent: Intent) -> Intent:
        return await self._calls.write(partial(_begin, intent=intent))

    async def intent(self, intent_id: str) -> Intent:
        intents = await self._calls.read(
            partial(select_intents, where="id = ?", values=(intent_id,))
        )
        if not intents:
            raise IntentNotFound(intent_id)
        return intents[0]

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        born_after = format_timestamp(datetime.now(UTC) - _KEY_LIFE)
        intents = await self._calls.read(
            partial(
                select_intents,
                where="idempotency_key = ? AND at > ?",
                values=(idempotency_key, born_after),
            )
        )
        return intents[0] if intents else None

    async def overdue_intents(self, limit: int) -> Sequence[Intent]:
        return await self._calls.read(
            partial(
                select_intents,
                where="state IN ('open', 'expired') AND look_after < ? ORDER BY at, id LIMIT ?",
                values=(format_timestamp(datetime.now(UTC)), limit),
            )
        )

    async def expire(self, intent_id: str) -> None:
        await self._calls.write(partial(_expire, intent_id=intent_id))


def _begin(connection: sqlite3.Connection, intent: Intent) -> Intent:
    """Join the intent that holds our id or our key, unless the key has outlived its day."""
    now = datetime.now(UTC)
    connection.execute(
        "UPDATE intents SET idempotency_key = NULL WHERE idempotency_key = ? AND at <= ?",
        (intent.idempotency_key, format_timestamp(now - _KEY_LIFE)),
    )
    connection.execute(
        "INSERT INTO intents (id, doc, kind, environment, name, base_version, action, actor,"
        " comment, request_id, at, idempotency_key, digest, source, facts, state, look_after)"
        " VALUES (:id, :doc, :kind, :environment, :name, :base, :action, :actor,"
        " :comment, :request_id, :at, :idempotency_key, :digest, :source, :facts, 'open',"
        " :look_after)"
        " ON CONFLICT DO NOTHING",
        {
            **entity_columns(intent.entity),
            "id": intent.id,
            "base": intent.base,
            "action": intent.action,
            "actor": intent.actor,
            "comment": intent.comment,
            "request_id": intent.request_id,
            "at": format_timestamp(intent.at),
            "idempotency_key": intent.idempotency_key,
            "digest": intent.digest,
            "source": intent.source,
            "facts": None if intent.facts is None else json.dumps(intent.facts),
            "look_after": format_timestamp(now + _FIRST_LOOK),
        },
    )
    return select_intents(
        connection,
        where="id = :id OR idempotency_key = :key ORDER BY id = :id DESC LIMIT 1",
        values={"id": intent.id, "key": intent.idempotency_key},
    )[0]


def _expire(connection: sqlite3.Connection, intent_id: str) -> None:
    undecided = connection.execute(
        "SELECT looks FROM intents WHERE id = ? AND state IN ('open', 'expired')", (intent_id,)
    ).fetchone()
    if undecided is None:
        return
    looks = undecided["looks"] + 1
    wait = timedelta(seconds=min(2**looks, _LONGEST_LOOK_SECONDS))
    connection.execute(
        "UPDATE intents SET state = 'expired', looks = ?, look_after = ? WHERE id = ?",
        (looks, format_timestamp(datetime.now(UTC) + wait), intent_id),
    )
