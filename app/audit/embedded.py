"""The audit in the embedded state, where a trigger chains every inserted row."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from app.audit.chain import ChainHead
from app.audit.errors import AuditUnavailable
from app.audit.port import SCAN_SPAN, AuditEvent, AuditFilter, AuditRow, SignedHead
from app.changes.log.sqlite_log import format_timestamp
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_INSERT_EVENT: Final = (
    "INSERT INTO audit (at, actor, action, kind, environment, name, request_id, source, facts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT_ROWS: Final = (
    "SELECT seq, at, actor, action, kind, environment, name, version, revision, request_id,"
    " source, facts, hash FROM audit WHERE seq > :after AND seq <= :after + :span"
    # Tokens of one name differ by a suffix; see app.actors.
    " AND (:actor IS NULL OR actor = :actor"
    " OR substr(actor, 1, length(:actor) + 1) = :actor || '#')"
    " AND action = ifnull(:action, action)"
    " AND kind = ifnull(:kind, kind) AND environment = ifnull(:environment, environment)"
    " AND name = ifnull(:name, name) AND at >= ifnull(:since, at)"
    " AND (:until IS NULL OR at < :until) ORDER BY seq LIMIT :limit"
)
_SELECT_BYPASSES: Final = (
    "SELECT seq, at, actor, action, kind, environment, name, version, revision, request_id,"
    " source, facts, hash FROM audit WHERE json_extract(facts, '$.bypass_reason') IS NOT NULL"
    " AND seq < ifnull(?, seq + 1) ORDER BY seq DESC LIMIT ?"
)
_LAST_SIGNED_HEAD: Final = (
    "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq DESC, at DESC LIMIT 1"
)


class EmbeddedAuditLog:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = StateCalls(state, "the audit", AuditUnavailable)

    async def record(self, events: Sequence[AuditEvent]) -> None:
        rows = [_row_values(event) for event in events]
        await self._calls.write(lambda connection: connection.executemany(_INSERT_EVENT, rows))

    async def rows(self, after: int, limit: int, wanted: AuditFilter) -> Sequence[AuditRow]:
        facts = {
            "after": after,
            "span": SCAN_SPAN,
            "limit": limit,
            "actor": wanted.actor,
            "action": wanted.action,
            "kind": wanted.kind,
            "environment": wanted.environment,
            "name": wanted.name,
            "since": wanted.since and format_timestamp(wanted.since),
            "until": wanted.until and format_timestamp(wanted.until),
        }
        return await self._calls.read(
            lambda connection: [_audit_row(row) for row in connection.execute(_SELECT_ROWS, facts)]
        )

    async def bypasses(self, before: int | None, limit: int) -> Sequence[AuditRow]:
        return await self._calls.read(
            lambda connection: [
                _audit_row(row) for row in connection.execute(_SELECT_BYPASSES, (before, limit))
            ]
        )

    async def head(self) -> ChainHead:
        def head(connection: sqlite3.Connection) -> ChainHead:
            return ChainHead(*connection.execute("SELECT seq, hash FROM audit_head").fetchone())

        return await self._calls.read(head)

    async def store_signed_head(self, signed: SignedHead) -> None:
        row = (
            signed.seq,
            signed.hash,
            format_timestamp(signed.at),
            signed.key_id,
            signed.signature,
        )
        statement = (
            "INSERT INTO audit_heads (seq, hash, at, key_id, signature) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING"
        )
        await self._calls.write(lambda connection: connection.execute(statement, row))

    async def last_signed_head(self) -> SignedHead | None:
        def read(connection: sqlite3.Connection) -> SignedHead | None:
            row = connection.execute(_LAST_SIGNED_HEAD).fetchone()
            if row is None:
                return None
            seq, digest, at, key_id, signature = row
            return SignedHead(seq, digest, datetime.fromisoformat(at), key_id, signature)

        return await self._calls.read(read)


def _row_values(event: AuditEvent) -> tuple[object, ...]:
    return (
        format_timestamp(event.at),
        event.actor,
        event.action,
        event.kind,
        event.environment,
        event.name,
        event.request_id,
        event.source,
        None if event.facts is None else json.dumps(event.facts),
    )


def _audit_row(row: sqlite3.Row) -> AuditRow:
    facts = None if row["facts"] is None else json.loads(row["facts"])
    return AuditRow(**{**row, "at": datetime.fromisoformat(row["at"]), "facts": facts})
