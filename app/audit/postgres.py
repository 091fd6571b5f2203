"""The audit in Postgres, where triggers chain every inserted row."""

import json
from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, or_, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import ChainHead
from app.audit.errors import AuditUnavailable
from app.audit.port import SCAN_SPAN, AuditEvent, AuditFilter, AuditRow, SignedHead
from app.postgres.calls import Calls
from app.postgres.tables import audit, audit_head, audit_heads

_INSERT_EVENTS: Final = text("""
    INSERT INTO audit (at, actor, action, kind, environment, name, request_id, source, facts)
    SELECT
        (e.event ->> 'at')::timestamptz, e.event ->> 'actor', e.event ->> 'action',
        e.event ->> 'kind', e.event ->> 'environment', e.event ->> 'name',
        e.event ->> 'request_id', e.event ->> 'source', e.event -> 'facts'
    FROM jsonb_array_elements(CAST(:events AS jsonb)) WITH ORDINALITY AS e (event, place)
    ORDER BY e.place
""")
_COLUMNS: Final = (
    audit.c.seq,
    audit.c.at,
    audit.c.actor,
    audit.c.action,
    audit.c.kind,
    audit.c.environment,
    audit.c.name,
    audit.c.version,
    audit.c.revision,
    audit.c.request_id,
    audit.c.source,
    audit.c.facts,
    audit.c.hash,
)
_SIGNED_HEAD_COLUMNS: Final = (
    audit_heads.c.seq,
    audit_heads.c.hash,
    audit_heads.c.at,
    audit_heads.c.key_id,
    audit_heads.c.signature,
)


class PostgresAuditLog:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine, lambda why: AuditUnavailable(f"the audit does not answer: {why}")
        )

    async def record(self, events: Sequence[AuditEvent]) -> None:
        facts = {"events": json.dumps([_event_members(event) for event in events])}
        await self._calls.run("audit_record", _INSERT_EVENTS, facts)

    async def rows(self, after: int, limit: int, wanted: AuditFilter) -> Sequence[AuditRow]:
        statement = (
            select(*_COLUMNS)
            .where(audit.c.seq > after, audit.c.seq <= after + SCAN_SPAN, *_conditions(wanted))
            .order_by(audit.c.seq)
            .limit(limit)
        )
        return [AuditRow(*tuple(row)) for row in await self._calls.run("audit_rows", statement)]

    async def bypasses(self, before: int | None, limit: int) -> Sequence[AuditRow]:
        statement = (
            select(*_COLUMNS)
            .where(
                text("facts -> 'bypass_reason' IS NOT NULL"),
                true() if before is None else audit.c.seq < before,
            )
            .order_by(audit.c.seq.desc())
            .limit(limit)
        )
        rows = await self._calls.run("audit_bypasses", statement)
        return [AuditRow(*tuple(row)) for row in rows]

    async def head(self) -> ChainHead:
        statement = select(audit_head.c.seq, audit_head.c.hash)
        row = (await self._calls.run("audit_head", statement)).one()
        return ChainHead(row.seq, row.hash)

    async def store_signed_head(self, signed: SignedHead) -> None:
        kept = insert(audit_heads).values(
            seq=signed.seq,
            hash=signed.hash,
            at=signed.at,
            key_id=signed.key_id,
            signature=signed.signature,
        )
        await self._calls.run("audit_keep", kept.on_conflict_do_nothing())

    async def last_signed_head(self) -> SignedHead | None:
        newest = select(*_SIGNED_HEAD_COLUMNS).order_by(
            audit_heads.c.seq.desc(), audit_heads.c.at.desc()
        )
        row = (await self._calls.run("audit_signed", newest.limit(1))).one_or_none()
        return None if row is None else SignedHead(*tuple(row))


def _event_members(event: AuditEvent) -> dict[str, object]:
    # Omitted if the event has no facts: the null of JSON is not the null of SQL.
    facts: dict[str, object] = {} if event.facts is None else {"facts": event.facts}
    return {
        "at": event.at.isoformat(),
        "actor": event.actor,
        "action": event.action,
        "kind": event.kind,
        "environment": event.environment,
        "name": event.name,
        "request_id": event.request_id,
        "source": event.source,
        **facts,
    }


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (audit.c.action, wanted.action),
            (audit.c.kind, wanted.kind),
            (audit.c.environment, wanted.environment),
            (audit.c.name, wanted.name),
        )
        if value is not None
    ]
    if wanted.actor is not None:
        # Tokens of one name differ by a suffix; see app.actors.
        of_tokens = func.starts_with(audit.c.actor, f"{wanted.actor}#")
        conditions.append(or_(audit.c.actor == wanted.actor, of_tokens))
    if wanted.since is not None:
        conditions.append(audit.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(audit.c.at < wanted.until)
    return conditions
