"""The audit in this process's own state, where a trigger chains whatever is inserted."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from app.access.auditing import SPAN, AuditEvent, AuditRow, SignedHead, Wanted
from app.access.chain import Head
from app.access.errors import AuditUnavailable
from app.changes.rows import stamp
from app.state import State, StateUnavailable

_RECORD: Final = (
    "INSERT INTO audit (at, actor, action, kind, environment, name, request_id, source, facts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ROWS: Final = (
    "SELECT seq, at, actor, action, kind, environment, name, version, revision, request_id,"
    " source, facts, hash FROM audit WHERE seq > :after AND seq <= :after + :span"
    " AND actor = ifnull(:actor, actor) AND action = ifnull(:action, action)"
    " AND kind = ifnull(:kind, kind) AND environment = ifnull(:environment, environment)"
    " AND name = ifnull(:name, name) AND at >= ifnull(:since, at)"
    " AND (:until IS NULL OR at < :until) ORDER BY seq LIMIT :limit"
)
_SIGNED: Final = (
    "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq DESC, at DESC LIMIT 1"
)

T = TypeVar("T")


class EmbeddedAuditLog:
    def __init__(self, state: State) -> None:
        self._state = state

    async def record(self, events: Sequence[AuditEvent]) -> None:
        rows = [_members(event) for event in events]
        await self._write(lambda connection: connection.executemany(_RECORD, rows))

    async def rows(self, after: int, limit: int, wanted: Wanted) -> Sequence[AuditRow]:
        asked = {
            "after": after,
            "span": SPAN,
            "limit": limit,
            "actor": wanted.actor,
            "action": wanted.action,
            "kind": wanted.kind,
            "environment": wanted.environment,
            "name": wanted.name,
            "since": wanted.since and stamp(wanted.since),
            "until": wanted.until and stamp(wanted.until),
        }
        return await self._read(
            lambda connection: [_row(row) for row in connection.execute(_ROWS, asked)]
        )

    async def head(self) -> Head:
        def head(connection: sqlite3.Connection) -> Head:
            return Head(*connection.execute("SELECT seq, hash FROM audit_head").fetchone())

        return await self._read(head)

    async def keep(self, signed: SignedHead) -> None:
        row = (signed.seq, signed.hash, stamp(signed.at), signed.key_id, signed.signature)
        statement = (
            "INSERT INTO audit_heads (seq, hash, at, key_id, signature) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        await self._write(lambda connection: connection.execute(statement, row))

    async def signed(self) -> SignedHead | None:
        def signed(connection: sqlite3.Connection) -> SignedHead | None:
            row = connection.execute(_SIGNED).fetchone()
            if row is None:
                return None
            seq, digest, at, key_id, signature = row
            return SignedHead(seq, digest, datetime.fromisoformat(at), key_id, signature)

        return await self._read(signed)

    async def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            await self._state.run(work)
        except StateUnavailable as failure:
            raise AuditUnavailable("the audit cannot be written") from failure

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._state.read(work)
        except StateUnavailable as failure:
            raise AuditUnavailable("the audit cannot be read") from failure


def _members(event: AuditEvent) -> tuple[object, ...]:
    return (
        stamp(event.at),
        event.actor,
        event.action,
        event.kind,
        event.environment,
        event.name,
        event.request_id,
        event.source,
        None if event.facts is None else json.dumps(event.facts),
    )


def _row(row: sqlite3.Row) -> AuditRow:
    facts = None if row["facts"] is None else json.loads(row["facts"])
    return AuditRow(**{**row, "at": datetime.fromisoformat(row["at"]), "facts": facts})
