"""The change log in the embedded SQLite file: the default, for one replica."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

from app.changes.errors import Gap
from app.changes.log.embedded.rows import log_calls, pointer_of_row, select_changes, select_intents
from app.changes.log.sqlite_log import append_change, entity_columns, format_timestamp
from app.changes.model import EXTERNAL_ACTOR, Change, Disclosure, Entity, Pointer, Snapshot, Written
from app.sqlite.state import SQLiteState


class EmbeddedChangeLog:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = log_calls(state)
        self._moved = asyncio.Event()

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        pointer = await self._calls.write(partial(_advance, entity=entity, written=written))
        self.wake()
        return pointer

    async def pointer(self, key: str) -> Pointer | None:
        return await self._calls.read(partial(_pointer_by_key, key=key))

    async def snapshot(self) -> Snapshot:
        return await self._calls.read(_snapshot)

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
        return await self._calls.read(
            partial(
                select_changes,
                where="revision > :revision"
                " AND environment = ifnull(:environment, environment)"
                " AND kind = ifnull(:kind, kind) AND name = ifnull(:name, name)"
                " ORDER BY revision LIMIT :limit",
                values={"revision": revision, "limit": limit, **wanted},
            )
        )

    async def history(self, key: str, limit: int, before: int | None = None) -> Sequence[Change]:
        return await self._calls.read(
            partial(
                select_changes,
                where="doc = :doc AND version < ifnull(:before, version + 1)"
                " ORDER BY version DESC LIMIT :limit",
                values={"doc": key, "before": before, "limit": limit},
            )
        )

    async def count_recent(self, seconds: float) -> int:
        since = format_timestamp(datetime.now(UTC) - timedelta(seconds=seconds))
        return await self._calls.read(partial(_count_changes, since=since))

    async def horizon(self) -> int:
        return await self._calls.read(_horizon)

    async def record_disclosure(self, disclosure: Disclosure) -> None:
        await self._calls.write(partial(_disclose, disclosure=disclosure))

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
        await self._calls.read(lambda connection: connection.execute("SELECT 1").fetchone())


def _advance(connection: sqlite3.Connection, entity: Entity, written: Sequence[Written]) -> Pointer:
    pointer = _pointer_by_key(connection, entity.key) or _pointer_of_new_entity(entity)
    ahead = [each for each in written if each.version > pointer.version]
    for version, each in enumerate(ahead, start=pointer.version + 1):
        if each.version != version:
            raise Gap(pointer.version)
    for each in ahead:
        pointer = _append_version(connection, _attributed_change(connection, entity, each))
    # Also when nothing was new: an intent may have been begun on a base already passed.
    connection.execute(
        "UPDATE intents SET state = 'lost'"
        " WHERE doc = ? AND base_version < ? AND state IN ('open', 'expired')",
        (entity.key, pointer.version),
    )
    return pointer


def _attributed_change(connection: sqlite3.Connection, entity: Entity, written: Written) -> Change:
    """Return the change of a version with its author; its revision is not known yet."""
    candidates = select_intents(
        connection,
        where="id = ? AND doc = ? AND base_version = ?",
        values=(written.change_id, entity.key, written.version - 1),
    )
    if not candidates:
        return Change(
            revision=0,
            id=str(uuid4()),
            entity=entity,
            version=written.version,
            action="external",
            actor=EXTERNAL_ACTOR,
            comment=written.comment,
            at=datetime.now(UTC),
            deleted=written.deleted,
        )
    intent = candidates[0]
    return Change(
        revision=0,
        id=intent.id,
        entity=entity,
        version=written.version,
        action=intent.action,
        actor=intent.actor,
        comment=intent.comment,
        at=written.at or intent.at,
        deleted=written.deleted,
    )


def _append_version(connection: sqlite3.Connection, change: Change) -> Pointer:
    """Write one version's change, decide its intent if there is one, and return the pointer."""
    # The id of an external change is new, so that no intent has it.
    origin = connection.execute(
        "SELECT request_id, source, facts FROM intents WHERE id = ?", (change.id,)
    )
    revision = append_change(connection, change, *(origin.fetchone() or (None, None, None)))
    connection.execute(
        "UPDATE intents SET state = 'applied', version = ?, revision = ?"
        " WHERE id = ? AND state IN ('open', 'expired')",
        (change.version, revision, change.id),
    )
    logged = _pointer_by_key(connection, change.entity.key)
    assert logged is not None
    return logged


def _snapshot(connection: sqlite3.Connection) -> Snapshot:
    last = connection.execute("SELECT ifnull(max(revision), 0) AS last FROM changes").fetchone()
    pointers = [pointer_of_row(row) for row in connection.execute("SELECT * FROM documents")]
    return Snapshot(
        revision=last["last"], pointers={pointer.entity.key: pointer for pointer in pointers}
    )


def _count_changes(connection: sqlite3.Connection, since: str) -> int:
    (count,) = connection.execute("SELECT count(*) FROM changes WHERE at > ?", (since,)).fetchone()
    return int(count)


def _horizon(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT revision FROM horizon").fetchone()["revision"])


def _disclose(connection: sqlite3.Connection, disclosure: Disclosure) -> None:
    connection.execute(
        "INSERT INTO audit"
        " (at, actor, action, kind, environment, name, request_id, source, facts) VALUES"
        " (:at, :actor, 'revealed', :kind, :environment, :name, :request_id, :source, :facts)",
        {
            **entity_columns(disclosure.entity),
            "at": format_timestamp(datetime.now(UTC)),
            "actor": disclosure.actor,
            "request_id": disclosure.request_id,
            "source": disclosure.source,
            "facts": json.dumps(disclosure.facts),
        },
    )


def _pointer_by_key(connection: sqlite3.Connection, key: str) -> Pointer | None:
    row = connection.execute("SELECT * FROM documents WHERE doc = ?", (key,)).fetchone()
    return None if row is None else pointer_of_row(row)


def _pointer_of_new_entity(entity: Entity) -> Pointer:
    return Pointer(
        entity=entity, version=0, revision=0, deleted=False, at=datetime.now(UTC), actor=""
    )
