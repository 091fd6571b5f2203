"""The change log in the embedded SQLite file: the default, for one replica."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeAlias, TypeVar
from uuid import uuid4

from app.changes.errors import Gap, IntentNotFound, LogUnavailable
from app.changes.log.port import Leadership
from app.changes.log.sqlite_log import append_change, entity_columns, format_timestamp
from app.changes.model import (
    EXTERNAL_ACTOR,
    Change,
    Disclosure,
    Entity,
    Intent,
    Pointer,
    Snapshot,
    Written,
)
from app.sqlite.state import SQLiteState, StateUnavailable

_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)
_LONGEST_LOOK_SECONDS: Final = 3600
_TRIM_AT_MOST: Final = 1000

_Values: TypeAlias = Sequence[object] | Mapping[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _AlwaysLeads:
    """The SQLite file serves one process, which therefore always leads."""

    is_held: bool = True


class EmbeddedChangeLog:
    def __init__(self, state: SQLiteState) -> None:
        self._state = state
        self._moved = asyncio.Event()

    async def begin(self, intent: Intent) -> Intent:
        return await self._write(partial(_begin, intent=intent))

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        pointer = await self._write(partial(_advance, entity=entity, written=written))
        self.wake()
        return pointer

    async def pointer(self, key: str) -> Pointer | None:
        return await self._read(partial(_pointer_by_key, key=key))

    async def intent(self, intent_id: str) -> Intent:
        found = await self._read(partial(_intents, where="id = ?", values=(intent_id,)))
        if not found:
            raise IntentNotFound(intent_id)
        return found[0]

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        born_after = format_timestamp(_now() - _KEY_LIFE)
        found = await self._read(
            partial(
                _intents,
                where="idempotency_key = ? AND at > ?",
                values=(idempotency_key, born_after),
            )
        )
        return found[0] if found else None

    async def overdue_intents(self, limit: int) -> Sequence[Intent]:
        return await self._read(
            partial(
                _intents,
                where="state IN ('open', 'expired') AND look_after < ? ORDER BY at, id LIMIT ?",
                values=(format_timestamp(_now()), limit),
            )
        )

    async def expire(self, intent_id: str) -> None:
        await self._write(partial(_expire, intent_id=intent_id))

    async def snapshot(self) -> Snapshot:
        return await self._read(_snapshot)

    async def since(
        self,
        revision: int,
        limit: int,
        *,
        environment: str | None = None,
        kind: str | None = None,
        name: str | None = None,
    ) -> Sequence[Change]:
        wanted = {"environment": environment, "kind": kind, "name": name}
        return await self._read(
            partial(
                _changes,
                where="revision > :revision"
                " AND environment = ifnull(:environment, environment)"
                " AND kind = ifnull(:kind, kind) AND name = ifnull(:name, name)"
                " ORDER BY revision LIMIT :limit",
                values={"revision": revision, "limit": limit, **wanted},
            )
        )

    async def history(self, key: str, limit: int, before: int | None = None) -> Sequence[Change]:
        return await self._read(
            partial(
                _changes,
                where="doc = :doc AND version < ifnull(:before, version + 1)"
                " ORDER BY version DESC LIMIT :limit",
                values={"doc": key, "before": before, "limit": limit},
            )
        )

    async def count_recent(self, seconds: float) -> int:
        since = format_timestamp(_now() - timedelta(seconds=seconds))
        return await self._read(partial(_count_changes, since=since))

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        where = "sent_at IS NULL ORDER BY revision LIMIT ?"
        return await self._read(partial(_changes, where=where, values=(limit,)))

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        await self._write(partial(_mark_sent, revisions=revisions))

    async def oldest_unsent(self) -> float | None:
        return await self._read(_oldest_unsent)

    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        return nullcontext(_AlwaysLeads())

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        bounds = {
            "before": format_timestamp(_now() - timedelta(seconds=older_than)),
            "keep": keep,
            "relayed": relayed,
            "limit": _TRIM_AT_MOST,
        }
        return await self._write(partial(_trim, bounds=bounds))

    async def forget(self, older_than: float) -> int:
        before = format_timestamp(_now() - timedelta(seconds=older_than))
        return await self._write(partial(_forget, before=before))

    async def horizon(self) -> int:
        return await self._read(_horizon)

    async def record_disclosure(self, disclosure: Disclosure) -> None:
        await self._write(partial(_disclose, disclosure=disclosure))

    async def acquire_turn(self, task: str, every: float) -> bool:
        return await self._write(partial(_acquire_turn, task=task, every=timedelta(seconds=every)))

    async def wait_for_change(self, within: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._moved.wait()
        # What is logged from here on is not yet read by the caller and ends its next wait.
        self._moved.clear()

    def wake(self) -> None:
        """Wake all waiters: a change was logged, here or by another feature."""
        self._moved.set()

    async def ping(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT 1").fetchone())

    async def close(self) -> None:
        """Do nothing: the owner of the SQLite file closes it."""

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._state.run(work)
        except StateUnavailable as failure:
            raise LogUnavailable("the change log cannot be written") from failure

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._state.read(work)
        except StateUnavailable as failure:
            raise LogUnavailable("the change log cannot be read") from failure


def _begin(connection: sqlite3.Connection, intent: Intent) -> Intent:
    """Join the intent that holds our id or our key, unless the key has outlived its day."""
    now = _now()
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
    return _intents(
        connection,
        where="id = :id OR idempotency_key = :key ORDER BY id = :id DESC LIMIT 1",
        values={"id": intent.id, "key": intent.idempotency_key},
    )[0]


def _advance(connection: sqlite3.Connection, entity: Entity, written: Sequence[Written]) -> Pointer:
    pointer = _pointer_by_key(connection, entity.key) or _pointer_of_new_entity(entity)
    ahead = [found for found in written if found.version > pointer.version]
    for version, found in enumerate(ahead, start=pointer.version + 1):
        if found.version != version:
            raise Gap(pointer.version)
    for found in ahead:
        pointer = _append_version(connection, _attributed_change(connection, entity, found))
    # Also when nothing was new: an intent may have been begun on a base already passed.
    connection.execute(
        "UPDATE intents SET state = 'lost'"
        " WHERE doc = ? AND base_version < ? AND state IN ('open', 'expired')",
        (entity.key, pointer.version),
    )
    return pointer


def _attributed_change(connection: sqlite3.Connection, entity: Entity, found: Written) -> Change:
    """Return the change of a version with its author; its revision is not known yet."""
    candidates = _intents(
        connection,
        where="id = ? AND doc = ? AND base_version = ?",
        values=(found.change_id, entity.key, found.version - 1),
    )
    if not candidates:
        return Change(
            revision=0,
            id=str(uuid4()),
            entity=entity,
            version=found.version,
            action="external",
            actor=EXTERNAL_ACTOR,
            comment=found.comment,
            at=_now(),
            deleted=found.deleted,
        )
    intent = candidates[0]
    return Change(
        revision=0,
        id=intent.id,
        entity=entity,
        version=found.version,
        action=intent.action,
        actor=intent.actor,
        comment=intent.comment,
        at=found.at or intent.at,
        deleted=found.deleted,
    )


def _append_version(connection: sqlite3.Connection, change: Change) -> Pointer:
    """Write one version's change, decide its intent if there is one, and return the pointer."""
    # The id of an external change is new, so that no intent has it.
    asked = connection.execute(
        "SELECT request_id, source, facts FROM intents WHERE id = ?", (change.id,)
    )
    revision = append_change(connection, change, *(asked.fetchone() or (None, None, None)))
    connection.execute(
        "UPDATE intents SET state = 'applied', version = ?, revision = ?"
        " WHERE id = ? AND state IN ('open', 'expired')",
        (change.version, revision, change.id),
    )
    logged = _pointer_by_key(connection, change.entity.key)
    assert logged is not None
    return logged


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
        (looks, format_timestamp(_now() + wait), intent_id),
    )


def _snapshot(connection: sqlite3.Connection) -> Snapshot:
    last = connection.execute("SELECT ifnull(max(revision), 0) AS last FROM changes").fetchone()
    pointers = [_pointer(row) for row in connection.execute("SELECT * FROM documents")]
    return Snapshot(
        revision=last["last"], pointers={pointer.entity.key: pointer for pointer in pointers}
    )


def _count_changes(connection: sqlite3.Connection, since: str) -> int:
    (count,) = connection.execute("SELECT count(*) FROM changes WHERE at > ?", (since,)).fetchone()
    return int(count)


def _mark_sent(connection: sqlite3.Connection, revisions: Sequence[int]) -> None:
    connection.executemany(
        "UPDATE changes SET sent_at = ? WHERE revision = ? AND sent_at IS NULL",
        [(format_timestamp(_now()), revision) for revision in revisions],
    )


def _oldest_unsent(connection: sqlite3.Connection) -> float | None:
    row = connection.execute(
        "SELECT logged_at FROM changes WHERE sent_at IS NULL ORDER BY revision LIMIT 1"
    ).fetchone()
    return row and (_now() - datetime.fromisoformat(row["logged_at"])).total_seconds()


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
        " WHERE state IN ('applied', 'lost') AND at < ? LIMIT ?)",
        (before, _TRIM_AT_MOST),
    )
    return gone.rowcount


def _horizon(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM horizon").fetchone()["revision"])


def _disclose(connection: sqlite3.Connection, disclosure: Disclosure) -> None:
    connection.execute(
        "INSERT INTO audit"
        " (at, actor, action, kind, environment, name, request_id, source, facts) VALUES"
        " (:at, :actor, 'revealed', :kind, :environment, :name, :request_id, :source, :facts)",
        {
            **entity_columns(disclosure.entity),
            "at": format_timestamp(_now()),
            "actor": disclosure.actor,
            "request_id": disclosure.request_id,
            "source": disclosure.source,
            "facts": json.dumps(disclosure.facts),
        },
    )


def _acquire_turn(connection: sqlite3.Connection, task: str, every: timedelta) -> bool:
    now = _now()
    taken = connection.execute(
        "INSERT INTO claims VALUES (:task, :now)"
        " ON CONFLICT (task) DO UPDATE SET at = :now WHERE at < :before",
        {"task": task, "now": format_timestamp(now), "before": format_timestamp(now - every)},
    )
    return taken.rowcount == 1


def _pointer_by_key(connection: sqlite3.Connection, key: str) -> Pointer | None:
    row = connection.execute("SELECT * FROM documents WHERE doc = ?", (key,)).fetchone()
    return None if row is None else _pointer(row)


def _intents(connection: sqlite3.Connection, where: str, values: _Values) -> list[Intent]:
    rows = connection.execute(f"SELECT * FROM intents WHERE {where}", values)  # noqa: S608 (ours)
    return [_intent(row) for row in rows]


def _changes(connection: sqlite3.Connection, where: str, values: _Values) -> list[Change]:
    rows = connection.execute(f"SELECT * FROM changes WHERE {where}", values)  # noqa: S608 (ours)
    return [_change(row) for row in rows]


def _now() -> datetime:
    return datetime.now(UTC)


def _entity(row: sqlite3.Row) -> Entity:
    return Entity(
        kind=row["kind"], environment=row["environment"], name=row["name"], key=row["doc"]
    )


def _intent(row: sqlite3.Row) -> Intent:
    return Intent(
        id=row["id"],
        entity=_entity(row),
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


def _change(row: sqlite3.Row) -> Change:
    return Change(
        revision=row["revision"],
        id=row["id"],
        entity=_entity(row),
        version=row["version"],
        action=row["action"],
        actor=row["actor"],
        comment=row["comment"],
        at=datetime.fromisoformat(row["at"]),
        deleted=bool(row["deleted"]),
    )


def _pointer(row: sqlite3.Row) -> Pointer:
    return Pointer(
        entity=_entity(row),
        version=row["logged_version"],
        revision=row["revision"],
        deleted=bool(row["deleted"]),
        at=datetime.fromisoformat(row["updated_at"]),
        actor=row["updated_by"],
    )


def _pointer_of_new_entity(entity: Entity) -> Pointer:
    return Pointer(entity=entity, version=0, revision=0, deleted=False, at=_now(), actor="")
