"""What the adapters of the log in SQLite share: their calls, and rows as the model has them."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from app.changes.errors import LogUnavailable
from app.changes.model import Change, Entity, Intent, Pointer
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_Values: TypeAlias = Sequence[object] | Mapping[str, object]


def log_calls(state: SQLiteState) -> StateCalls:
    return StateCalls(state, "the change log", LogUnavailable)


def select_intents(connection: sqlite3.Connection, where: str, values: _Values) -> list[Intent]:
    rows = connection.execute(f"SELECT * FROM intents WHERE {where}", values)  # noqa: S608 (ours)
    return [intent_of_row(row) for row in rows]


def select_changes(connection: sqlite3.Connection, where: str, values: _Values) -> list[Change]:
    rows = connection.execute(f"SELECT * FROM changes WHERE {where}", values)  # noqa: S608 (ours)
    return [change_of_row(row) for row in rows]


def entity_of_row(row: sqlite3.Row) -> Entity:
    return Entity(
        kind=row["kind"], environment=row["environment"], name=row["name"], key=row["doc"]
    )


def intent_of_row(row: sqlite3.Row) -> Intent:
    return Intent(
        id=row["id"],
        entity=entity_of_row(row),
        base=row["base_version"],
        action=row["action"],
        actor=row["actor"],
        comment=row["comment"],
        request_id=row["request_id"],
        at=datetime.fromisoformat(row["at"]),
        idempotency_key=row["idempotency_key"],
        digest=row["digest"],
        source=row["source"],
        facts=None if row["facts"] is None else json.loads(row["facts"]),
        state=row["state"],
        version=row["version"],
        revision=row["revision"],
    )


def change_of_row(row: sqlite3.Row) -> Change:
    return Change(
        revision=row["revision"],
        id=row["id"],
        entity=entity_of_row(row),
        version=row["version"],
        action=row["action"],
        actor=row["actor"],
        comment=row["comment"],
        at=datetime.fromisoformat(row["at"]),
        deleted=bool(row["deleted"]),
    )


def pointer_of_row(row: sqlite3.Row) -> Pointer:
    return Pointer(
        entity=entity_of_row(row),
        version=row["logged_version"],
        revision=row["revision"],
        deleted=bool(row["deleted"]),
        at=datetime.fromisoformat(row["updated_at"]),
        actor=row["updated_by"],
    )
