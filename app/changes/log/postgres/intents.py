"""Intents in Postgres."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.changes.errors import IntentNotFound
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.rows import intent_of_row
from app.changes.model import Intent
from app.postgres.tables import intents

_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)

_UNDECIDED: Final = intents.c.state.in_(("open", "expired"))
_NEXT_LOOK: Final = text("now() + least(2 ^ least(looks + 1, 12), 3600) * interval '1 second'")


class PostgresIntents:
    def __init__(self, connection: LogConnection) -> None:
        self._engine = connection.engine
        self._calls = connection.calls

    async def begin(self, intent: Intent) -> Intent:
        row = (await self._calls.run("begin", _insert_intent(intent))).one_or_none()
        if row is None:
            row = await self._calls.ask("begin_again", lambda: self._begin_again(intent))
        return intent_of_row(row)

    async def _begin_again(self, intent: Intent) -> Row[Any]:
        """Join the intent that holds our id or our key, unless the key has outlived its day."""
        key = intents.c.idempotency_key == intent.idempotency_key
        worn_out = key & (intents.c.at <= func.now() - _KEY_LIFE)
        async with self._engine.begin() as connection:
            await connection.execute(update(intents).where(worn_out).values(idempotency_key=None))
            if row := (await connection.execute(_insert_intent(intent))).one_or_none():
                return row
            ours = intents.c.id == intent.id
            query = select(intents).where(or_(ours, key)).order_by(ours.desc()).limit(1)
            return (await connection.execute(query)).one()

    async def intent(self, intent_id: str) -> Intent:
        query = select(intents).where(intents.c.id == intent_id)
        row = (await self._calls.run("intent", query)).one_or_none()
        if row is None:
            raise IntentNotFound(intent_id)
        return intent_of_row(row)

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        query = select(intents).where(
            intents.c.idempotency_key == idempotency_key, intents.c.at > func.now() - _KEY_LIFE
        )
        row = (await self._calls.run("joined", query)).one_or_none()
        return row and intent_of_row(row)

    async def overdue_intents(self, limit: int) -> Sequence[Intent]:
        query = (
            select(intents)
            .where(_UNDECIDED, intents.c.look_after < func.now())
            .order_by(intents.c.at, intents.c.id)
            .limit(limit)
        )
        return [intent_of_row(row) for row in await self._calls.run("overdue", query)]

    async def expire(self, intent_id: str) -> None:
        later = {"state": "expired", "looks": intents.c.looks + 1, "look_after": _NEXT_LOOK}
        await self._calls.run(
            "expire", update(intents).where(intents.c.id == intent_id, _UNDECIDED).values(later)
        )


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
