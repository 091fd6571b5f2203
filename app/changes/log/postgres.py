"""The change log in Postgres: one statement a call wherever one is enough."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any, Final

import asyncpg
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Interval,
    Row,
    bindparam,
    cast,
    delete,
    extract,
    func,
    insert,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.changes.errors import Gap, IntentNotFound, LogUnavailable
from app.changes.log.leadership import hold_leadership
from app.changes.log.port import Leadership
from app.changes.model import Change, Disclosure, Entity, Intent, Pointer, Snapshot, Written
from app.postgres.calls import Calls
from app.postgres.engine import (
    CHANGES_CHANNEL,
    FAILURES,
    Deadlines,
    close_engine,
    connect,
    deadlines_of,
)
from app.postgres.tables import audit, changes, claims, documents, horizon, intents

_LISTEN_AGAIN_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.9
_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)
_TRIM_AT_MOST: Final = 1000

_UNDECIDED: Final = intents.c.state.in_(("open", "expired"))
_DECIDED: Final = text("state IN ('applied', 'lost')")  # as the index by time has it
_NEXT_LOOK: Final = text("now() + least(2 ^ least(looks + 1, 12), 3600) * interval '1 second'")
_ADVANCE: Final = text(
    "SELECT * FROM advance_document(:doc, :kind, :environment, :name, CAST(:written AS jsonb))"
)
_PING: Final = text("SELECT 1")
_UNSENT: Final = changes.c.sent_at.is_(None)
_AGE: Final = extract("epoch", func.clock_timestamp() - changes.c.logged_at)
# Document by document, so that changes kept forever are not read every time.
_TRIM: Final = text("""
    WITH doomed AS (
        SELECT old.revision FROM documents d CROSS JOIN LATERAL (
            SELECT revision FROM changes
            WHERE doc = d.doc AND version <= d.logged_version - :keep
                AND logged_at < now() - :age AND (sent_at IS NOT NULL OR NOT :relayed)
            LIMIT :limit
        ) old
        WHERE d.logged_version > :keep
        LIMIT :limit
    ), gone AS (
        DELETE FROM changes USING doomed WHERE changes.revision = doomed.revision
        RETURNING changes.revision
    )
    UPDATE horizon SET revision = greatest(revision, (SELECT max(gone.revision) FROM gone))
    RETURNING (SELECT count(*) FROM gone)
""").bindparams(bindparam("age", type_=Interval), bindparam("relayed", type_=Boolean))


class PostgresChangeLog:
    def __init__(self, engine: AsyncEngine, dsn: str) -> None:
        self._engine = engine
        self._dsn = dsn
        # Every call may be repeated: at worst a claim goes unused or a disclosure is written twice.
        self._calls = Calls(
            engine, lambda why: LogUnavailable(f"the change log does not answer: {why}")
        )
        self._listener = _Listener(dsn, deadlines_of(engine))

    async def begin(self, intent: Intent) -> Intent:
        row = (await self._calls.run("begin", _insert_intent(intent))).one_or_none()
        if row is None:
            row = await self._calls.ask("begin_again", lambda: self._begin_again(intent))
        return _intent(row)

    async def _begin_again(self, intent: Intent) -> Row[Any]:
        """Join the intent that holds our id or our key, unless the key has outlived its day."""
        key = intents.c.idempotency_key == intent.idempotency_key
        worn_out = key & (intents.c.at <= func.now() - _KEY_LIFE)
        async with self._engine.begin() as connection:
            await connection.execute(update(intents).where(worn_out).values(idempotency_key=None))
            if row := (await connection.execute(_insert_intent(intent))).one_or_none():
                return row
            ours = intents.c.id == intent.id
            found = select(intents).where(or_(ours, key)).order_by(ours.desc()).limit(1)
            return (await connection.execute(found)).one()

    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        names = {
            "doc": entity.key,
            "kind": entity.kind,
            "environment": entity.environment,
            "name": entity.name,
            "written": json.dumps([_facts(version) for version in written]),
        }
        pointer = _pointer((await self._calls.run("advance", _ADVANCE, names)).one())
        if written and pointer.version < written[-1].version:
            raise Gap(pointer.version)
        return pointer

    async def pointer(self, key: str) -> Pointer | None:
        found = select(documents).where(documents.c.doc == key, documents.c.logged_version > 0)
        row = (await self._calls.run("pointer", found)).one_or_none()
        return row and _pointer(row)

    async def intent(self, intent_id: str) -> Intent:
        found = select(intents).where(intents.c.id == intent_id)
        row = (await self._calls.run("intent", found)).one_or_none()
        if row is None:
            raise IntentNotFound(intent_id)
        return _intent(row)

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        found = select(intents).where(
            intents.c.idempotency_key == idempotency_key, intents.c.at > func.now() - _KEY_LIFE
        )
        row = (await self._calls.run("joined", found)).one_or_none()
        return row and _intent(row)

    async def overdue_intents(self, limit: int) -> Sequence[Intent]:
        found = (
            select(intents)
            .where(_UNDECIDED, intents.c.look_after < func.now())
            .order_by(intents.c.at, intents.c.id)
            .limit(limit)
        )
        return [_intent(row) for row in await self._calls.run("overdue", found)]

    async def expire(self, intent_id: str) -> None:
        later = {"state": "expired", "looks": intents.c.looks + 1, "look_after": _NEXT_LOOK}
        await self._calls.run(
            "expire", update(intents).where(intents.c.id == intent_id, _UNDECIDED).values(later)
        )

    async def snapshot(self) -> Snapshot:
        # One statement sees one snapshot: no pointer can be older than the revision beside it.
        last = select(func.coalesce(func.max(changes.c.revision), 0).label("last")).subquery()
        both = select(last.c.last, documents).join_from(
            last, documents, documents.c.logged_version > 0, isouter=True
        )
        rows = (await self._calls.run("snapshot", both)).all()
        pointers = [_pointer(row) for row in rows if row.doc is not None]
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
        found = (
            select(changes)
            .where(changes.c.revision > revision, *wanted)
            .order_by(changes.c.revision)
            .limit(limit)
        )
        # A replica must not lag for as long as others wait for a connection that may be lost.
        rows = await self._calls.run("since", found, silent=self._calls.deadlines.silent)
        return [_change(row) for row in rows]

    async def history(self, key: str, limit: int, before: int | None = None) -> Sequence[Change]:
        found = (
            select(changes)
            .where(changes.c.doc == key, true() if before is None else changes.c.version < before)
            .order_by(changes.c.version.desc())
            .limit(limit)
        )
        return [_change(row) for row in await self._calls.run("history", found)]

    async def count_recent(self, seconds: float) -> int:
        found = select(func.count()).where(changes.c.at > func.now() - timedelta(seconds=seconds))
        return int((await self._calls.run("recent", found)).scalar_one())

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        found = select(changes).where(_UNSENT).order_by(changes.c.revision).limit(limit)
        return [_change(row) for row in await self._calls.run("unsent", found)]

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        ours = changes.c.revision == func.any(cast(list(revisions), ARRAY(BigInteger)))
        mark = update(changes).where(ours, _UNSENT).values(sent_at=func.now())
        await self._calls.run("mark_sent", mark)

    async def oldest_unsent(self) -> float | None:
        found = select(_AGE).where(_UNSENT).order_by(changes.c.revision).limit(1)
        age = (await self._calls.run("oldest_unsent", found)).scalar_one_or_none()
        return None if age is None else float(age)

    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        return hold_leadership(self._dsn, self._calls.deadlines)

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        age = timedelta(seconds=older_than)
        bounds = {"keep": keep, "age": age, "relayed": relayed, "limit": _TRIM_AT_MOST}
        return int((await self._calls.run("trim", _TRIM, bounds)).scalar_one())

    async def forget(self, older_than: float) -> int:
        doomed = (
            select(intents.c.id)
            .where(_DECIDED, intents.c.at < func.now() - timedelta(seconds=older_than))
            .limit(_TRIM_AT_MOST)
        )
        deletion = delete(intents).where(intents.c.id.in_(doomed))
        return (await self._calls.run("forget", deletion)).rowcount

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

    async def acquire_turn(self, task: str, every: float) -> bool:
        taken = (
            upsert(claims)
            .values(task=task, at=func.now())
            .on_conflict_do_update(
                index_elements=[claims.c.task],
                set_={"at": func.now()},
                where=claims.c.at < func.now() - timedelta(seconds=every),
            )
            .returning(claims.c.task)
        )
        return (await self._calls.run("claim", taken)).one_or_none() is not None

    async def wait_for_change(self, within: float) -> None:
        await self._listener.wait(within)

    async def ping(self) -> None:
        await self._calls.run("ping", _PING, seconds=self._calls.deadlines.ping)

    async def close(self) -> None:
        """Close the connection that listens, and the engine."""
        await self._listener.close()
        await close_engine(self._engine)


class _Listener:
    """Listens for changes over its own connection; without one, it only waits."""

    def __init__(self, dsn: str, deadlines: Deadlines) -> None:
        self._dsn = dsn
        self._deadlines = deadlines
        self._moved = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0

    async def wait(self, within: float) -> None:
        self._keep_open()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._moved.wait()
        # What is notified from here on is not yet read by the caller and ends its next wait.
        self._moved.clear()

    def _keep_open(self) -> None:
        listening = self._connection is not None and not self._connection.is_closed()
        if listening or self._opening is not None or monotonic() < self._not_before:
            return
        self._not_before = monotonic() + _LISTEN_AGAIN_SECONDS
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            self._connection = await connect(self._dsn, self._deadlines)
            await self._connection.add_listener(CHANGES_CHANNEL, self._on_notify)
            self._moved.set()  # for changes logged before the listener was connected
        except FAILURES:
            # A pooler may refuse, or accept and never deliver: the caller's polling covers both.
            if self._connection is not None:
                self._connection.terminate()
        finally:
            self._opening = None

    def _on_notify(self, *_: object) -> None:
        self._moved.set()

    async def close(self) -> None:
        self._not_before = float("inf")
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._connection is not None:
            with suppress(*FAILURES):
                await self._connection.close(timeout=_CLOSE_SECONDS)


def _insert_intent(intent: Intent) -> Any:
    return (
        upsert(intents)
        .values(
            id=intent.id,
            doc=intent.entity.key,
            kind=intent.entity.kind,
            environment=intent.entity.environment,
            name=intent.entity.name,
            base_version=intent.base,
            action=intent.action,
            actor=intent.actor,
            comment=intent.comment,
            request_id=intent.request_id,
            at=intent.at,
            idempotency_key=intent.idempotency_key,
            digest=intent.digest,
            source=intent.source,
            facts=intent.facts,
            state="open",
            look_after=func.now() + _FIRST_LOOK,
        )
        .on_conflict_do_nothing()
        .returning(intents)
    )


def _facts(written: Written) -> dict[str, object]:
    return {
        "version": written.version,
        "change_id": written.change_id,
        "at": written.at and written.at.isoformat(),
        "comment": written.comment,
        "deleted": written.deleted,
    }


def _entity(row: Row[Any]) -> Entity:
    return Entity(kind=row.kind, environment=row.environment, name=row.name, key=row.doc)


def _intent(row: Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        entity=_entity(row),
        base=row.base_version,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        request_id=row.request_id,
        at=row.at,
        idempotency_key=row.idempotency_key,
        digest=row.digest,
        source=row.source,
        facts=row.facts,
        state=row.state,
        version=row.version,
        revision=row.revision,
    )


def _change(row: Row[Any]) -> Change:
    return Change(
        revision=row.revision,
        id=row.id,
        entity=_entity(row),
        version=row.version,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        at=row.at,
        deleted=row.deleted,
    )


def _pointer(row: Row[Any]) -> Pointer:
    return Pointer(
        entity=_entity(row),
        version=row.logged_version,
        revision=row.revision,
        deleted=row.deleted,
        at=row.updated_at,
        actor=row.updated_by,
    )
