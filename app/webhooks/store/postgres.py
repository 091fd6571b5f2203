"""Deliveries in Postgres: one statement a call."""

import json
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Interval, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres.calls import Calls
from app.webhooks.errors import DeliveriesUnavailable, LeaseLost
from app.webhooks.model import (
    NOTHING_WAITS,
    Attempt,
    DeadLetter,
    Delivery,
    DeliveryState,
    Lease,
    NumberedAttempt,
    RoundResult,
    Waiting,
)
from app.webhooks.store.port import MOST_ATTEMPTS, MOST_DEAD_LETTERS

_OPEN: Final = text(
    "INSERT INTO webhook_cursors (webhook, cursor, lease_until, opened_at)"
    " VALUES (:webhook, :cursor, now(), now()) ON CONFLICT DO NOTHING"
)
_LEASE: Final = text("""
    UPDATE webhook_cursors SET owner = :owner, lease_until = now() + :seconds
    WHERE webhook = :webhook AND (owner = :owner OR lease_until <= now())
    RETURNING cursor, (
        SELECT count(*) FROM webhook_deliveries d
        WHERE d.webhook = webhook_cursors.webhook AND d.dead_at IS NULL
    ) AS waiting
""").bindparams(bindparam("seconds", type_=Interval))
_RELEASE: Final = text(
    "UPDATE webhook_cursors SET owner = NULL, lease_until = now()"
    " WHERE webhook = :webhook AND owner = :owner"
)
# Whole lines in order, so that what is cut off lies behind what is returned.
_WAITING: Final = text("""
    WITH heads AS (
        SELECT DISTINCT ON (entity) entity, due_at FROM webhook_deliveries
        WHERE webhook = :webhook AND dead_at IS NULL ORDER BY entity, revision, id
    ), due AS (
        SELECT
            d.id, d.revision, d.entity, d.message, d.attempts,
            extract(epoch FROM now() - d.queued_at) AS age, heads.due_at AS line_due_at
        FROM webhook_deliveries d JOIN heads ON heads.entity = d.entity
        WHERE d.webhook = :webhook AND d.dead_at IS NULL AND heads.due_at <= now()
        ORDER BY heads.due_at, d.entity, d.revision, d.id LIMIT :limit
    )
    SELECT
        (SELECT array_agg(entity) FROM heads) AS entities,
        (SELECT extract(epoch FROM min(due_at) - now()) FROM heads WHERE due_at > now())
            AS next_due,
        (
            SELECT jsonb_agg(to_jsonb(due) ORDER BY line_due_at, entity, revision, id) FROM due
        ) AS due
""")
_RECORD: Final = text(
    "SELECT * FROM record_webhook_round(:webhook, :owner, :seconds, :cursor, :gaps,"
    " CAST(:delivered AS text[]), CAST(:kept AS jsonb), CAST(:attempts AS jsonb), :most_dead,"
    " :most_attempts)"
).bindparams(bindparam("seconds", type_=Interval))
_RECORD_ATTEMPT: Final = text(
    "SELECT add_webhook_attempts(:webhook, CAST(:attempts AS jsonb), :most_attempts)"
)
_ATTEMPTS: Final = text(
    "SELECT * FROM webhook_attempts WHERE webhook = :webhook"
    " AND number < coalesce(CAST(:before AS bigint), number + 1) ORDER BY number DESC LIMIT :limit"
)
_DEAD_LETTERS: Final = text(
    "SELECT *, 0 AS age FROM webhook_deliveries WHERE webhook = :webhook AND dead_at IS NOT NULL"
    " AND (revision, id) > (:revision, :id) ORDER BY revision, id LIMIT :limit"
)
_RESEND: Final = text(
    "UPDATE webhook_deliveries SET dead_at = NULL, due_at = now() WHERE webhook = :webhook"
    " AND dead_at IS NOT NULL AND id = coalesce(CAST(:id AS text), id)"
)
_STATES: Final = text("""
    SELECT
        c.webhook, c.cursor, c.attempted, c.gaps,
        c.owner IS NOT NULL AND c.lease_until > now() AS is_leased,
        count(*) FILTER (WHERE d.id IS NOT NULL AND d.dead_at IS NULL) AS waiting,
        count(d.dead_at) AS dead_letters,
        extract(epoch FROM now() - least(
            min(d.queued_at) FILTER (WHERE d.dead_at IS NULL),
            (
                SELECT logged_at FROM changes WHERE revision > c.cursor
                ORDER BY revision LIMIT 1
            )
        )) AS oldest
    FROM webhook_cursors c LEFT JOIN webhook_deliveries d ON d.webhook = c.webhook
    GROUP BY c.webhook ORDER BY c.webhook
""")
_CLEAN: Final = text("""
    WITH doomed AS (
        DELETE FROM webhook_cursors
        WHERE webhook <> ALL (CAST(:known AS text[])) AND opened_at < now() - :opened
        RETURNING webhook
    ), attempts AS (
        DELETE FROM webhook_attempts USING doomed
        WHERE webhook_attempts.webhook = doomed.webhook RETURNING 1
    ), deliveries AS (
        DELETE FROM webhook_deliveries
        WHERE webhook IN (SELECT webhook FROM doomed) OR dead_at < now() - :dead RETURNING 1
    )
    SELECT
        (SELECT count(*) FROM doomed) + (SELECT count(*) FROM attempts)
        + (SELECT count(*) FROM deliveries)
""").bindparams(bindparam("opened", type_=Interval), bindparam("dead", type_=Interval))


class PostgresDeliveryStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine,
            lambda why: DeliveriesUnavailable(f"the store of deliveries does not answer: {why}"),
        )

    async def open(self, webhook_id: str, cursor: int) -> None:
        await self._calls.run("webhook_open", _OPEN, {"webhook": webhook_id, "cursor": cursor})

    async def lease(self, webhook_id: str, owner: str, seconds: float) -> Lease | None:
        parameters = {"webhook": webhook_id, "owner": owner, "seconds": timedelta(seconds=seconds)}
        row = (await self._calls.run("webhook_lease", _LEASE, parameters)).one_or_none()
        return None if row is None else Lease(row.cursor, row.waiting)

    async def release(self, webhook_id: str, owner: str) -> None:
        await self._calls.run("webhook_release", _RELEASE, {"webhook": webhook_id, "owner": owner})

    async def waiting(self, webhook_id: str, limit: int) -> Waiting:
        parameters = {"webhook": webhook_id, "limit": limit}
        row = (await self._calls.run("webhook_waiting", _WAITING, parameters)).one()
        if row.entities is None:
            return NOTHING_WAITS
        return Waiting(
            [
                Delivery(
                    each["id"],
                    each["revision"],
                    each["entity"],
                    each["message"],
                    each["attempts"],
                    float(each["age"]),
                )
                for each in row.due or ()
            ],
            frozenset(row.entities),
            None if row.next_due is None else float(row.next_due),
        )

    async def record(
        self, webhook_id: str, owner: str, result: RoundResult, seconds: float
    ) -> Lease:
        parameters = {
            "webhook": webhook_id,
            "owner": owner,
            "seconds": timedelta(seconds=seconds),
            "cursor": result.cursor,
            "gaps": result.gaps,
            "delivered": list(result.delivered),
            "kept": json.dumps(
                [
                    {
                        "id": kept.delivery.id,
                        "revision": kept.delivery.revision,
                        "entity": kept.delivery.entity,
                        "message": kept.delivery.message,
                        "attempts": kept.attempts,
                        "delay": kept.delay,
                        "is_dead": kept.is_dead,
                        "status": kept.status,
                        "reason": kept.reason,
                    }
                    for kept in result.kept
                ]
            ),
            "attempts": _attempts_json(result.attempts),
            "most_dead": MOST_DEAD_LETTERS,
            "most_attempts": MOST_ATTEMPTS,
        }
        # Not asked again: attempts would be counted twice. The cursor makes the rest repeatable.
        row = (await self._calls.run("webhook_record", _RECORD, parameters, again=False)).one()
        if row.cursor_now is None:
            raise LeaseLost
        return Lease(row.cursor_now, row.waiting_now)

    async def record_attempt(self, webhook_id: str, attempt: Attempt) -> None:
        parameters = {
            "webhook": webhook_id,
            "attempts": _attempts_json([attempt]),
            "most_attempts": MOST_ATTEMPTS,
        }
        await self._calls.run("webhook_attempt", _RECORD_ATTEMPT, parameters, again=False)

    async def attempts(
        self, webhook_id: str, limit: int, before: int | None = None
    ) -> Sequence[NumberedAttempt]:
        parameters = {"webhook": webhook_id, "limit": limit, "before": before}
        rows = await self._calls.run("webhook_attempts", _ATTEMPTS, parameters)
        return [
            NumberedAttempt(
                row.number,
                Attempt(
                    id=row.id,
                    revision=row.revision,
                    outcome=row.outcome,
                    status=row.status,
                    reason=row.reason,
                    seconds=row.seconds,
                    attempt=row.attempt,
                    at=row.at,
                ),
            )
            for row in rows
        ]

    async def dead_letters(
        self, webhook_id: str, limit: int, after: tuple[int, str] | None = None
    ) -> Sequence[DeadLetter]:
        revision, message_id = after or (-1, "")
        parameters = {
            "webhook": webhook_id,
            "limit": limit,
            "revision": revision,
            "id": message_id,
        }
        rows = await self._calls.run("webhook_dead", _DEAD_LETTERS, parameters)
        return [_dead_letter(row) for row in rows]

    async def resend(self, webhook_id: str, message_id: str | None = None) -> int:
        parameters = {"webhook": webhook_id, "id": message_id}
        return (await self._calls.run("webhook_resend", _RESEND, parameters)).rowcount

    async def states(self) -> Sequence[DeliveryState]:
        return [
            DeliveryState(
                webhook_id=row.webhook,
                cursor=row.cursor,
                is_leased=row.is_leased,
                waiting=row.waiting,
                dead_letters=row.dead_letters,
                oldest_seconds=max(float(row.oldest or 0.0), 0.0),
                attempted=row.attempted,
                gaps=row.gaps,
            )
            for row in await self._calls.run("webhook_states", _STATES)
        ]

    async def clean(self, known: Collection[str], opened_before: float, dead_before: float) -> int:
        parameters = {
            "known": list(known),
            "opened": timedelta(seconds=opened_before),
            "dead": timedelta(seconds=dead_before),
        }
        return int((await self._calls.run("webhook_clean", _CLEAN, parameters)).scalar_one())


def _attempts_json(attempts: Sequence[Attempt]) -> str:
    return json.dumps(
        [
            {
                "id": each.id,
                "revision": each.revision,
                "outcome": each.outcome,
                "status": each.status,
                "reason": each.reason,
                "seconds": each.seconds,
                "attempt": each.attempt,
                "at": each.at.isoformat(),
            }
            for each in attempts
        ]
    )


def _dead_letter(row: Row[Any]) -> DeadLetter:
    return DeadLetter(
        Delivery(row.id, row.revision, row.entity, row.message, row.attempts),
        row.dead_at,
        row.status,
        row.reason,
    )
