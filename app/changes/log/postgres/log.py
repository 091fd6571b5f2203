"""The change log in Postgres: one statement a call wherever one is enough."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, insert, select, text, true

from app.changes.errors import Gap
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.rows import change_of_row, pointer_of_row
from app.changes.model import Change, Disclosure, Entity, Pointer, Snapshot, Written
from app.postgres.tables import audit, changes, documents, horizon

_ADVANCE: Final = text(
    "SELECT * FROM advance_document(:doc, :kind, :environment, :name, CAST(:written AS jsonb))"
)
_PING: Final = text("SELECT 1")


class PostgresChangeLog:
    def __init__(self, connection: LogConnection) -> None:
        self._calls = connection.calls
        self._listener = connection.listener

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        names = {
            "doc": entity.key,
            "kind": entity.kind,
            "environment": entity.environment,
            "name": entity.name,
            "written": json.dumps([_facts(version) for version in written]),
        }
        pointer = pointer_of_row((await self._calls.run("advance", _ADVANCE, names)).one())
        if written and pointer.version < written[-1].version:
            raise Gap(pointer.version)
        return pointer

    async def pointer(self, key: str) -> Pointer | None:
        query = select(documents).where(documents.c.doc == key, documents.c.logged_version > 0)
        row = (await self._calls.run("pointer", query)).one_or_none()
        return row and pointer_of_row(row)

    async def snapshot(self) -> Snapshot:
        # One statement sees one snapshot: no pointer is older than the revision read with it.
        last = select(func.coalesce(func.max(changes.c.revision), 0).label("last")).subquery()
        both = select(last.c.last, documents).join_from(
            last, documents, documents.c.logged_version > 0, isouter=True
        )
        rows = (await self._calls.run("snapshot", both)).all()
        pointers = [pointer_of_row(row) for row in rows if row.doc is not None]
        return Snapshot(
            revision=rows[0].last, pointers={pointer.entity.key: pointer for pointer in pointers}
        )

    async def since(
        self,
        revision: int,
        limit: int,
        *,
        environment: str | None = None,
        kind: str | None = None,
        name: str | None = None,
    ) -> Sequence[Change]:
        wanted: list[ColumnElement[bool]] = [
            column == value
            for column, value in (
                (changes.c.environment, environment),
                (changes.c.kind, kind),
                (changes.c.name, name),
            )
            if value is not None
        ]
        query = (
            select(changes)
            .where(changes.c.revision > revision, *wanted)
            .order_by(changes.c.revision)
            .limit(limit)
        )
        # A replica must not lag for as long as others wait for a connection that may be lost.
        rows = await self._calls.run("since", query, silent=self._calls.deadlines.silent)
        return [change_of_row(row) for row in rows]

    async def history(self, key: str, limit: int, before: int | None = None) -> Sequence[Change]:
        query = (
            select(changes)
            .where(changes.c.doc == key, true() if before is None else changes.c.version < before)
            .order_by(changes.c.version.desc())
            .limit(limit)
        )
        return [change_of_row(row) for row in await self._calls.run("history", query)]

    async def count_recent(self, seconds: float) -> int:
        query = select(func.count()).where(changes.c.at > func.now() - timedelta(seconds=seconds))
        return int((await self._calls.run("recent", query)).scalar_one())

    async def horizon(self) -> int:
        return int((await self._calls.run("horizon", select(horizon.c.revision))).scalar_one())

    async def record_disclosure(self, disclosure: Disclosure) -> None:
        row = insert(audit).values(
            actor=disclosure.actor,
            action="revealed",
            kind=disclosure.entity.kind,
            environment=disclosure.entity.environment,
            name=disclosure.entity.name,
            request_id=disclosure.request_id,
            source=disclosure.source,
            facts=disclosure.facts,
        )
        await self._calls.run("disclose", row)

    async def wait_for_change(self, within: float) -> None:
        await self._listener.wait(within)

    async def ping(self) -> None:
        await self._calls.run("ping", _PING, seconds=self._calls.deadlines.ping)


def _facts(written: Written) -> dict[str, object]:
    return {
        "version": written.version,
        "change_id": written.change_id,
        "at": written.at and written.at.isoformat(),
        "comment": written.comment,
        "deleted": written.deleted,
    }
