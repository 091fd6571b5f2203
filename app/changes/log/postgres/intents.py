"""Intents in Postgres."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.changes.errors import GuardMoved, IntentNotFound, RelatedIntentOpen, ReservationLost
from app.changes.log.port import RESERVED_SECONDS
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.rows import intent_of_row
from app.changes.model import EarlierIntents, Guard, Intent, IntentState
from app.postgres.tables import intents

_KEY_LIFE: Final = timedelta(hours=24)
_FIRST_LOOK: Final = timedelta(seconds=3)
_RESERVED: Final = timedelta(seconds=RESERVED_SECONDS)  # while related writes wait

_UNDECIDED: Final = intents.c.state.in_(("open", "expired"))
_NEXT_LOOK: Final = text("now() + least(2 ^ least(looks + 1, 12), 3600) * interval '1 second'")

_BEGIN_GUARDED: Final = text(
    "SELECT b.outcome, b.moved, (b.intent).*"
    " FROM begin_intent("
    "CAST(:intent AS jsonb), :revision, :covers_related, CAST(:first_look AS interval)) AS b"
)
_RESERVE: Final = text("SELECT * FROM reserve_intent(CAST(:intent AS jsonb), :seconds)")
_CONFIRM: Final = text(
    "SELECT * FROM confirm_intent_under_policies("
    ":policies_at, CAST(:intent AS jsonb), CAST(:first_look AS interval))"
)
# One statement sees one snapshot: what an intent became is not after the revision read with it.
_EARLIER: Final = text("""
    SELECT
        (SELECT coalesce(max(revision), 0) FROM changes) AS revision,
        (
            SELECT count(*) FROM intents AS own, LATERAL (
                SELECT * FROM intents WHERE state = 'open'
                UNION ALL
                SELECT * FROM intents WHERE state = 'reserved' AND look_after > now()
            ) AS other
            WHERE own.id = :id AND other.id <> own.id AND other.kind = 'config'
                -- Those without a number are of the release before, or have no guard.
                AND (other.seq IS NULL OR other.seq < own.seq) AND (
                other.doc = own.doc OR is_related(
                    own.environment, split_part(own.name, '/', 1), other.environment, other.name
                )
            )
        ) AS earlier
""")


class PostgresIntents:
    def __init__(self, connection: LogConnection) -> None:
        self._engine = connection.engine
        self._calls = connection.calls

    async def begin(self, intent: Intent, guard: Guard | None = None) -> Intent:
        if guard is not None:
            return await self._begin_guarded(intent, guard)
        return await self._insert("begin", intent, "open")

    async def close_key(self, intent: Intent) -> Intent:
        return await self._insert("close_key", intent, "lost")

    async def _insert(self, operation: str, intent: Intent, state: IntentState) -> Intent:
        row = (await self._calls.run(operation, _insert_intent(intent, state))).one_or_none()
        if row is None:
            row = await self._calls.ask("begin_again", lambda: self._insert_again(intent, state))
        return intent_of_row(row)

    async def _insert_again(self, intent: Intent, state: IntentState) -> Row[Any]:
        """Join the intent that holds our id or our key, unless the key has outlived its day."""
        key = intents.c.idempotency_key == intent.idempotency_key
        worn_out = key & (intents.c.at <= func.now() - _KEY_LIFE)
        async with self._engine.begin() as connection:
            await connection.execute(update(intents).where(worn_out).values(idempotency_key=None))
            if row := (await connection.execute(_insert_intent(intent, state))).one_or_none():
                return row
            ours = intents.c.id == intent.id
            query = select(intents).where(or_(ours, key)).order_by(ours.desc()).limit(1)
            return (await connection.execute(query)).one()

    async def _begin_guarded(self, intent: Intent, guard: Guard) -> Intent:
        parameters = {
            "intent": _json(intent),
            "revision": guard.revision,
            "covers_related": guard.covers_related,
            "first_look": _RESERVED if guard.covers_related else _FIRST_LOOK,
        }
        row = (await self._calls.run("begin_guarded", _BEGIN_GUARDED, parameters)).one()
        if row.outcome == "moved":
            raise GuardMoved(row.moved)
        if row.outcome == "open":
            raise RelatedIntentOpen
        return intent_of_row(row)

    async def reserve(self, intent: Intent) -> Intent:
        parameters = {"intent": _json(intent), "seconds": RESERVED_SECONDS}
        return intent_of_row((await self._calls.run("reserve", _RESERVE, parameters)).one())

    async def earlier_related(self, intent_id: str) -> EarlierIntents:
        row = (await self._calls.run("earlier_related", _EARLIER, {"id": intent_id})).one()
        return EarlierIntents(row.earlier, row.revision)

    async def confirm(self, intent: Intent, policies_at: int | None = None) -> Intent:
        parameters = {
            "intent": _json(intent),
            "first_look": _RESERVED,
            "policies_at": policies_at,
        }
        row = (await self._calls.run("confirm", _CONFIRM, parameters)).one_or_none()
        if row is None:
            raise ReservationLost
        return intent_of_row(row)

    async def cancel(self, intent_id: str) -> None:
        reserved = (intents.c.id == intent_id) & (intents.c.state == "reserved")
        await self._calls.run("cancel", delete(intents).where(reserved))

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


def _insert_intent(intent: Intent, state: IntentState) -> Any:
    return (
        upsert(intents)
        .values(
            **_columns(intent),
            at=intent.at,
            state=state,
            look_after=func.now() + _FIRST_LOOK,
        )
        .on_conflict_do_nothing()
        .returning(intents)
    )


def _json(intent: Intent) -> str:
    return json.dumps({**_columns(intent), "at": intent.at.isoformat()})


def _columns(intent: Intent) -> dict[str, object]:
    return {
        "id": intent.id,
        "doc": intent.entity.key,
        "kind": intent.entity.kind,
        "environment": intent.entity.environment,
        "name": intent.entity.name,
        "base_version": intent.base,
        "action": intent.action,
        "actor": intent.actor,
        "comment": intent.comment,
        "request_id": intent.request_id,
        "idempotency_key": intent.idempotency_key,
        "digest": intent.digest,
        "source": intent.source,
        "facts": intent.facts,
    }
