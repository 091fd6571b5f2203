"""Flags and segments in this process's own state: the default, for one replica."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from uuid import uuid4

from app.changes.log.sqlite_guards import newest_policy_change
from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Change
from app.flags.errors import FlagsUnavailable, KeyTaken, SetMoved
from app.flags.model import Commit, Edit, FlagUsage, Item, Kind, RecordedCommit, entity
from app.flags.store.usage_rows import UsageRow, usage_by_flag, usage_rows
from app.rules.errors import PoliciesMoved
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_KEY_LIFE: Final = timedelta(hours=24)
_FORGET_AT_MOST: Final = 1000


class EmbeddedFlagStore:
    def __init__(self, state: SQLiteState, moved: Callable[[], None]) -> None:
        """Keep flags in `state`, and call `moved` when something was logged there."""
        self._calls = StateCalls(state, "the store of flags", FlagsUnavailable)
        self._moved = moved

    async def commit(self, commit: Commit) -> Sequence[Item]:
        items = await self._calls.write(partial(_commit, commit=commit))
        self._moved()
        return items

    async def commit_by_idempotency_key(self, idempotency_key: str) -> RecordedCommit | None:
        return await self._calls.read(partial(_recorded_commit, key=idempotency_key))

    async def delete_expired_keys(self) -> int:
        return await self._calls.write(_delete_expired_keys)

    async def items_after(self, after: int, limit: int) -> Sequence[Item]:
        return await self._query(
            "SELECT * FROM flag_items WHERE revision > ? ORDER BY revision LIMIT ?", after, limit
        )

    async def history(
        self, kind: Kind, environment: str, name: str, limit: int, before: int | None = None
    ) -> Sequence[Item]:
        return await self._query(
            "SELECT * FROM flag_versions WHERE environment = ? AND kind = ? AND name = ?"
            " AND version < ifnull(?, version + 1) ORDER BY version DESC LIMIT ?",
            environment,
            kind,
            name,
            before,
            limit,
        )

    async def count(self, used: Mapping[tuple[str, str], Mapping[str, int]], at: datetime) -> None:
        await self._calls.write(partial(_count, counted=usage_rows(used), at=format_timestamp(at)))

    async def usage(self, environment: str) -> Mapping[str, FlagUsage]:
        return await self._calls.read(partial(_usage, environment=environment))

    async def ping(self) -> None:
        await self._calls.read(lambda connection: connection.execute("SELECT 1").fetchone())

    async def _query(self, query: str, *values: object) -> list[Item]:
        return await self._calls.read(partial(_items, query=query, values=values))


@dataclass(frozen=True, slots=True)
class _Request:
    digest: str
    environment: str
    first_revision: int
    last_revision: int


def _commit(connection: sqlite3.Connection, commit: Commit) -> list[Item]:
    now = datetime.now(UTC)
    # First, so that a repeated request is recognised although it has moved the set itself.
    if commit.idempotency_key is not None and _request(connection, commit.idempotency_key):
        raise KeyTaken
    everything = entity("flag", commit.environment, "")
    if commit.policies_at is not None and newest_policy_change(
        connection, commit.policies_at, everything
    ):
        raise PoliciesMoved
    row = connection.execute(
        "SELECT revision FROM flag_sets WHERE environment = ?", (commit.environment,)
    ).fetchone()
    revision = 0 if row is None else row["revision"]
    if revision != commit.base:
        raise SetMoved(revision)
    items = [_write(connection, commit, edit, now) for edit in commit.edits]
    if items:
        connection.execute(
            "INSERT INTO flag_sets VALUES (:environment, :revision)"
            " ON CONFLICT (environment) DO UPDATE SET revision = :revision",
            {"environment": commit.environment, "revision": items[-1].revision},
        )
    if commit.idempotency_key is not None:
        _remember(connection, commit, items, now)
    return items


def _write(connection: sqlite3.Connection, commit: Commit, edit: Edit, now: datetime) -> Item:
    """Write one edit as the next version of its item, with its change."""
    subject = (commit.environment, edit.kind, edit.name)
    last = connection.execute(
        "SELECT version, created_at FROM flag_items"
        " WHERE environment = ? AND kind = ? AND name = ?",
        subject,
    ).fetchone()
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=entity(edit.kind, commit.environment, edit.name),
        version=1 if last is None else last["version"] + 1,
        action=edit.action,
        actor=commit.actor,
        comment=commit.comment,
        at=now,
        deleted=edit.action == "deleted",
    )
    item = Item(
        kind=edit.kind,
        environment=commit.environment,
        name=edit.name,
        version=change.version,
        definition=edit.definition,
        action=edit.action,
        actor=commit.actor,
        comment=commit.comment,
        at=now,
        created_at=now if last is None else datetime.fromisoformat(last["created_at"]),
        revision=append_change(
            connection,
            change,
            commit.request_id,
            commit.source,
            None if edit.facts is None else json.dumps(edit.facts),
        ),
    )
    _keep(connection, item)
    return item


def _keep(connection: sqlite3.Connection, item: Item) -> None:
    row = (
        item.environment,
        item.kind,
        item.name,
        item.version,
        item.definition,
        item.action,
        item.actor,
        item.comment,
        format_timestamp(item.at),
        format_timestamp(item.created_at),
        item.revision,
    )
    values = "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.execute(f"INSERT INTO flag_versions {values}", row)
    connection.execute(f"INSERT OR REPLACE INTO flag_items {values}", row)


def _remember(
    connection: sqlite3.Connection, commit: Commit, items: Sequence[Item], now: datetime
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO flag_requests VALUES (?, ?, ?, ?, ?, ?)",
        (
            commit.idempotency_key,
            commit.digest or "",
            format_timestamp(now),
            commit.environment,
            items[0].revision if items else 0,
            items[-1].revision if items else 0,
        ),
    )


def _request(connection: sqlite3.Connection, key: str) -> _Request | None:
    """Return the request recorded under this key, unless the key has expired."""
    row = connection.execute(
        "SELECT digest, environment, first_revision, last_revision FROM flag_requests"
        " WHERE idempotency_key = ? AND at > ?",
        (key, format_timestamp(datetime.now(UTC) - _KEY_LIFE)),
    ).fetchone()
    return None if row is None else _Request(*row)


def _delete_expired_keys(connection: sqlite3.Connection) -> int:
    gone = connection.execute(
        "DELETE FROM flag_requests WHERE idempotency_key IN"
        " (SELECT idempotency_key FROM flag_requests WHERE at <= ? LIMIT ?)",
        (format_timestamp(datetime.now(UTC) - _KEY_LIFE), _FORGET_AT_MOST),
    )
    return gone.rowcount


def _recorded_commit(connection: sqlite3.Connection, key: str) -> RecordedCommit | None:
    request = _request(connection, key)
    if request is None:
        return None
    query = (
        "SELECT * FROM flag_versions WHERE environment = ? AND revision BETWEEN ? AND ?"
        " ORDER BY revision"
    )
    values = (request.environment, request.first_revision, request.last_revision)
    return RecordedCommit(request.digest, _items(connection, query, values))


def _count(connection: sqlite3.Connection, counted: Sequence[UsageRow], at: str) -> None:
    connection.executemany(
        "INSERT INTO flag_usage VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (environment, flag, variant) DO UPDATE SET"
        " count = count + excluded.count,"
        " last_evaluated_at = max(last_evaluated_at, excluded.last_evaluated_at)",
        [(*tally, at) for tally in counted],
    )


def _usage(connection: sqlite3.Connection, environment: str) -> dict[str, FlagUsage]:
    rows = connection.execute("SELECT * FROM flag_usage WHERE environment = ?", (environment,))
    return usage_by_flag((UsageRow(*row[:4]), datetime.fromisoformat(row[4])) for row in rows)


def _items(connection: sqlite3.Connection, query: str, values: Sequence[object]) -> list[Item]:
    return [_item(row) for row in connection.execute(query, values)]


def _item(row: sqlite3.Row) -> Item:
    return Item(
        kind=row["kind"],
        environment=row["environment"],
        name=row["name"],
        version=row["version"],
        definition=row["definition"],
        action=row["action"],
        actor=row["actor"],
        comment=row["comment"],
        at=datetime.fromisoformat(row["at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        revision=row["revision"],
    )
