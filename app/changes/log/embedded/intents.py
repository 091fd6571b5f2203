"""Intents in the embedded SQLite file."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from app.changes.errors import GuardMoved, IntentNotFound, RelatedIntentOpen, ReservationLost
from app.changes.log.embedded.rows import entity_of_row, log_calls, select_intents
from app.changes.log.port import RESERVED_SECONDS
from app.changes.log.sqlite_guards import (
    newest_definition_change,
    newest_policy_change,
    newest_related_change,
    related_intents,
)
from app.changes.log.sqlite_log import entity_columns, format_timestamp
from app.changes.model import EarlierIntents, Guard, Intent, IntentState
from app.sqlite.state import SQLiteState

_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)
_RESERVED: Final = timedelta(seconds=RESERVED_SECONDS)
_LONGEST_LOOK_SECONDS: Final = 3600


class EmbeddedIntents:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = log_calls(state)

    async def begin(self, intent: Intent, guard: Guard | None = None) -> Intent:
        return await self._calls.write(partial(_begin, intent=intent, guard=guard))

    async def close_key(self, intent: Intent) -> Intent:
        return await self._calls.write(partial(_begin, intent=intent, guard=None, state="lost"))

    async def reserve(self, intent: Intent) -> Intent:
        return await self._calls.write(partial(_reserve, intent=intent))

    async def earlier_related(self, intent_id: str) -> EarlierIntents:
        return await self._calls.read(partial(_earlier_related, intent_id=intent_id))

    async def confirm(self, intent: Intent, policies_at: int | None = None) -> Intent:
        confirmed = await self._calls.write(
            partial(_confirm, intent=intent, policies_at=policies_at)
        )
        if confirmed is None:
            raise ReservationLost
        return confirmed

    async def cancel(self, intent_id: str) -> None:
        await self._calls.write(partial(_cancel, intent_id=intent_id))

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


def _begin(
    connection: sqlite3.Connection,
    intent: Intent,
    guard: Guard | None,
    state: IntentState = "open",
) -> Intent:
    """Join the intent that holds our id or our key, unless the key has outlived its day."""
    now = datetime.now(UTC)
    _free_key(connection, intent, now)
    held = "id = :id OR idempotency_key = :idempotency_key ORDER BY id = :id DESC LIMIT 1"
    if earlier := select_intents(connection, held, _columns(intent)):
        return earlier[0]
    if guard is not None:
        _check_guard(connection, intent, guard)
    is_waited_for = guard is not None and guard.covers_related
    look = _RESERVED if is_waited_for else _FIRST_LOOK
    _insert(connection, intent, state=state, look_after=now + look)
    return select_intents(connection, "id = ?", (intent.id,))[0]


def _free_key(connection: sqlite3.Connection, intent: Intent, now: datetime) -> None:
    connection.execute(
        "UPDATE intents SET idempotency_key = NULL WHERE idempotency_key = ? AND at <= ?",
        (intent.idempotency_key, format_timestamp(now - _KEY_LIFE)),
    )


def _check_guard(connection: sqlite3.Connection, intent: Intent, guard: Guard) -> None:
    moved = newest_definition_change(connection, guard.revision, intent.entity)
    if guard.covers_related:
        moved = max(moved, newest_related_change(connection, guard.revision, intent.entity))
    if moved:
        raise GuardMoved(moved)
    if guard.covers_related and related_intents(connection, intent.entity):
        raise RelatedIntentOpen


def _reserve(connection: sqlite3.Connection, intent: Intent) -> Intent:
    unkeyed = replace(intent, idempotency_key=None)
    _insert(connection, unkeyed, state="reserved", look_after=datetime.now(UTC) + _RESERVED)
    return select_intents(connection, "id = ?", (intent.id,))[0]


def _earlier_related(connection: sqlite3.Connection, intent_id: str) -> EarlierIntents:
    (revision,) = connection.execute("SELECT ifnull(max(revision), 0) FROM changes").fetchone()
    own = connection.execute("SELECT * FROM intents WHERE id = ?", (intent_id,)).fetchone()
    if own is None:
        return EarlierIntents(0, revision)
    related = related_intents(connection, entity_of_row(own))
    others = (row for row in related if row["id"] != intent_id)
    count = sum(row["seq"] is None or row["seq"] < own["seq"] for row in others)
    return EarlierIntents(count, revision)


def _confirm(
    connection: sqlite3.Connection, intent: Intent, policies_at: int | None
) -> Intent | None:
    """Open a reserved intent, or join the one that holds its key; None if it is lost."""
    now = datetime.now(UTC)
    columns = _columns(intent)
    if confirmed := select_intents(connection, "id = :id AND state != 'reserved'", columns):
        return confirmed[0]
    if policies_at is not None and newest_policy_change(connection, policies_at, intent.entity):
        return None
    _free_key(connection, intent, now)
    if earlier := select_intents(connection, "idempotency_key = :idempotency_key", columns):
        _cancel(connection, intent.id)
        return earlier[0]
    opened = connection.execute(
        "UPDATE intents SET base_version = :base_version, action = :action, actor = :actor,"
        " comment = :comment, request_id = :request_id, at = :at,"
        " idempotency_key = :idempotency_key, digest = :digest, source = :source, facts = :facts,"
        " state = 'open', look_after = :look_after"
        " WHERE id = :id AND doc = :doc AND look_after > :now",
        {
            **columns,
            "look_after": format_timestamp(now + _RESERVED),
            "now": format_timestamp(now),
        },
    )
    return select_intents(connection, "id = :id", columns)[0] if opened.rowcount else None


def _cancel(connection: sqlite3.Connection, intent_id: str) -> None:
    connection.execute("DELETE FROM intents WHERE id = ? AND state = 'reserved'", (intent_id,))


def _insert(
    connection: sqlite3.Connection, intent: Intent, *, state: IntentState, look_after: datetime
) -> None:
    connection.execute(
        "INSERT INTO intents (id, doc, kind, environment, name, base_version, action, actor,"
        " comment, request_id, at, idempotency_key, digest, source, facts, state, look_after, seq)"
        " VALUES (:id, :doc, :kind, :environment, :name, :base_version, :action, :actor,"
        " :comment, :request_id, :at, :idempotency_key, :digest, :source, :facts, :state,"
        " :look_after, (SELECT ifnull(max(seq), 0) + 1 FROM intents))"
        " ON CONFLICT DO NOTHING",
        {**_columns(intent), "state": state, "look_after": format_timestamp(look_after)},
    )


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


def _columns(intent: Intent) -> dict[str, object]:
    return {
        **entity_columns(intent.entity),
        "id": intent.id,
        "base_version": intent.base,
        "action": intent.action,
        "actor": intent.actor,
        "comment": intent.comment,
        "request_id": intent.request_id,
        "at": format_timestamp(intent.at),
        "idempotency_key": intent.idempotency_key,
        "digest": intent.digest,
        "source": intent.source,
        "facts": None if intent.facts is None else json.dumps(intent.facts),
    }
