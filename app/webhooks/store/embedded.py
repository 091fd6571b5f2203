"""Deliveries in this process's own state: the default, for one replica."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice

from app.changes.log.sqlite_log import format_timestamp
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState
from app.webhooks.errors import DeliveriesUnavailable, LeaseLost
from app.webhooks.model import (
    NOTHING_WAITS,
    Attempt,
    DeadLetter,
    Delivery,
    DeliveryState,
    Kept,
    Lease,
    NumberedAttempt,
    RoundResult,
    Waiting,
)
from app.webhooks.store.port import MOST_ATTEMPTS, MOST_DEAD_LETTERS


class EmbeddedDeliveryStore:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = StateCalls(state, "the store of deliveries", DeliveriesUnavailable)

    async def open(self, webhook_id: str, cursor: int) -> None:
        await self._calls.write(partial(_open, webhook_id=webhook_id, cursor=cursor))

    async def lease(self, webhook_id: str, owner: str, seconds: float) -> Lease | None:
        return await self._calls.write(
            partial(_lease, webhook_id=webhook_id, owner=owner, seconds=seconds)
        )

    async def release(self, webhook_id: str, owner: str) -> None:
        await self._calls.write(partial(_release, webhook_id=webhook_id, owner=owner))

    async def waiting(self, webhook_id: str, limit: int) -> Waiting:
        return await self._calls.read(partial(_waiting, webhook_id=webhook_id, limit=limit))

    async def record(
        self, webhook_id: str, owner: str, result: RoundResult, seconds: float
    ) -> Lease:
        return await self._calls.write(
            partial(_record, webhook_id=webhook_id, owner=owner, result=result, seconds=seconds)
        )

    async def record_attempt(self, webhook_id: str, attempt: Attempt) -> None:
        await self._calls.write(partial(_add_attempts, webhook_id=webhook_id, attempts=[attempt]))

    async def attempts(
        self, webhook_id: str, limit: int, before: int | None = None
    ) -> Sequence[NumberedAttempt]:
        return await self._calls.read(
            partial(_attempts, webhook_id=webhook_id, limit=limit, before=before)
        )

    async def dead_letters(
        self, webhook_id: str, limit: int, after: tuple[int, str] | None = None
    ) -> Sequence[DeadLetter]:
        return await self._calls.read(
            partial(_dead_letters, webhook_id=webhook_id, limit=limit, after=after or (-1, ""))
        )

    async def resend(self, webhook_id: str, message_id: str | None = None) -> int:
        return await self._calls.write(
            partial(_resend, webhook_id=webhook_id, message_id=message_id)
        )

    async def states(self) -> Sequence[DeliveryState]:
        return await self._calls.read(_states)

    async def clean(self, known: Collection[str], opened_before: float, dead_before: float) -> int:
        return await self._calls.write(
            partial(_clean, known=known, opened_before=opened_before, dead_before=dead_before)
        )


def _time(seconds: float = 0.0) -> str:
    """Return the time that many seconds from now, as it is stored."""
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


def _seconds_since(text: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()


def _open(connection: sqlite3.Connection, webhook_id: str, cursor: int) -> None:
    connection.execute(
        "INSERT INTO webhook_cursors (webhook, cursor, lease_until, opened_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (webhook_id, cursor, _time(), _time()),
    )


def _lease(
    connection: sqlite3.Connection, webhook_id: str, owner: str, seconds: float
) -> Lease | None:
    changed = connection.execute(
        "UPDATE webhook_cursors SET owner = :owner, lease_until = :until"
        " WHERE webhook = :webhook AND (owner = :owner OR lease_until <= :now)",
        {"webhook": webhook_id, "owner": owner, "until": _time(seconds), "now": _time()},
    ).rowcount
    return _lease_of(connection, webhook_id) if changed else None


def _lease_of(connection: sqlite3.Connection, webhook_id: str) -> Lease:
    row = connection.execute(
        "SELECT cursor, (SELECT count(*) FROM webhook_deliveries d"
        "  WHERE d.webhook = c.webhook AND d.dead_at IS NULL) AS waiting"
        " FROM webhook_cursors c WHERE webhook = ?",
        (webhook_id,),
    ).fetchone()
    return Lease(row["cursor"], row["waiting"])


def _release(connection: sqlite3.Connection, webhook_id: str, owner: str) -> None:
    connection.execute(
        "UPDATE webhook_cursors SET owner = NULL, lease_until = ? WHERE webhook = ? AND owner = ?",
        (_time(), webhook_id, owner),
    )


def _waiting(connection: sqlite3.Connection, webhook_id: str, limit: int) -> Waiting:
    now = _time()
    heads: dict[str, str] = {}
    for row in connection.execute(
        "SELECT entity, due_at FROM webhook_deliveries WHERE webhook = ? AND dead_at IS NULL"
        " ORDER BY entity, revision, id",
        (webhook_id,),
    ):
        heads.setdefault(row["entity"], row["due_at"])
    if not heads:
        return NOTHING_WAITS
    lines = sorted((due_at, entity) for entity, due_at in heads.items() if due_at <= now)
    due = (
        _delivery(row)
        for _, entity in lines
        for row in connection.execute(
            "SELECT * FROM webhook_deliveries WHERE webhook = ? AND entity = ?"
            " AND dead_at IS NULL ORDER BY revision, id LIMIT ?",
            (webhook_id, entity, limit),
        )
    )
    later = [due_at for due_at in heads.values() if due_at > now]
    return Waiting(
        list(islice(due, limit)),
        frozenset(heads),
        -_seconds_since(min(later)) if later else None,
    )


def _delivery(row: sqlite3.Row) -> Delivery:
    return Delivery(
        row["id"],
        row["revision"],
        row["entity"],
        row["message"],
        row["attempts"],
        _seconds_since(row["queued_at"]),
    )


def _record(
    connection: sqlite3.Connection,
    webhook_id: str,
    owner: str,
    result: RoundResult,
    seconds: float,
) -> Lease:
    changed = connection.execute(
        "UPDATE webhook_cursors SET cursor = max(cursor, ?), gaps = gaps + ?, lease_until = ?"
        " WHERE webhook = ? AND owner = ?",
        (result.cursor, result.gaps, _time(seconds), webhook_id, owner),
    ).rowcount
    if not changed:
        raise LeaseLost
    connection.executemany(
        "DELETE FROM webhook_deliveries WHERE webhook = ? AND id = ?",
        [(webhook_id, each) for each in result.delivered],
    )
    connection.executemany(
        "INSERT INTO webhook_deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (webhook, id) DO UPDATE SET attempts = excluded.attempts,"
        " due_at = excluded.due_at, dead_at = excluded.dead_at, status = excluded.status,"
        " reason = excluded.reason",
        [_kept_row(webhook_id, kept) for kept in result.kept],
    )
    connection.execute(
        "DELETE FROM webhook_deliveries WHERE webhook = :webhook AND id IN ("
        " SELECT id FROM webhook_deliveries WHERE webhook = :webhook AND dead_at IS NOT NULL"
        " ORDER BY dead_at DESC, revision DESC LIMIT -1 OFFSET :most)",
        {"webhook": webhook_id, "most": MOST_DEAD_LETTERS},
    )
    _add_attempts(connection, webhook_id, result.attempts)
    return _lease_of(connection, webhook_id)


def _kept_row(webhook_id: str, kept: Kept) -> tuple[object, ...]:
    delivery = kept.delivery
    return (
        webhook_id,
        delivery.id,
        delivery.revision,
        delivery.entity,
        delivery.message,
        kept.attempts,
        _time(),
        _time(kept.delay),
        _time() if kept.is_dead else None,
        kept.status,
        kept.reason,
    )


def _add_attempts(
    connection: sqlite3.Connection, webhook_id: str, attempts: Sequence[Attempt]
) -> None:
    row = connection.execute(
        "UPDATE webhook_cursors SET attempted = attempted + ? WHERE webhook = ?"
        " RETURNING attempted",
        (len(attempts), webhook_id),
    ).fetchone()
    if row is None or not attempts:
        return
    last = row["attempted"]
    shown = attempts[-MOST_ATTEMPTS:]
    connection.executemany(
        "INSERT INTO webhook_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                webhook_id,
                number,
                each.id,
                each.revision,
                each.outcome,
                each.status,
                each.reason,
                each.seconds,
                each.attempt,
                format_timestamp(each.at),
            )
            for number, each in zip(count(last - len(shown) + 1), shown, strict=False)
        ],
    )
    connection.execute(
        "DELETE FROM webhook_attempts WHERE webhook = ? AND number <= ?",
        (webhook_id, last - MOST_ATTEMPTS),
    )


def _attempts(
    connection: sqlite3.Connection, webhook_id: str, limit: int, before: int | None
) -> list[NumberedAttempt]:
    rows = connection.execute(
        "SELECT * FROM webhook_attempts WHERE webhook = ? AND number < ifnull(?, number + 1)"
        " ORDER BY number DESC LIMIT ?",
        (webhook_id, before, limit),
    )
    return [
        NumberedAttempt(
            row["number"],
            Attempt(
                id=row["id"],
                revision=row["revision"],
                outcome=row["outcome"],
                status=row["status"],
                reason=row["reason"],
                seconds=row["seconds"],
                attempt=row["attempt"],
                at=datetime.fromisoformat(row["at"]),
            ),
        )
        for row in rows
    ]


def _dead_letters(
    connection: sqlite3.Connection, webhook_id: str, limit: int, after: tuple[int, str]
) -> list[DeadLetter]:
    rows = connection.execute(
        "SELECT * FROM webhook_deliveries WHERE webhook = ? AND dead_at IS NOT NULL"
        " AND (revision, id) > (?, ?) ORDER BY revision, id LIMIT ?",
        (webhook_id, *after, limit),
    )
    return [
        DeadLetter(
            Delivery(row["id"], row["revision"], row["entity"], row["message"], row["attempts"]),
            datetime.fromisoformat(row["dead_at"]),
            row["status"],
            row["reason"],
        )
        for row in rows
    ]


def _resend(connection: sqlite3.Connection, webhook_id: str, message_id: str | None) -> int:
    return connection.execute(
        "UPDATE webhook_deliveries SET dead_at = NULL, due_at = ? WHERE webhook = ?"
        " AND dead_at IS NOT NULL AND id = ifnull(?, id)",
        (_time(), webhook_id, message_id),
    ).rowcount


def _states(connection: sqlite3.Connection) -> list[DeliveryState]:
    rows = connection.execute(
        "SELECT c.*, count(d.id) - count(d.dead_at) AS waiting, count(d.dead_at) AS dead_letters,"
        " min(CASE WHEN d.dead_at IS NULL THEN d.queued_at END) AS queued_at,"
        " (SELECT logged_at FROM changes WHERE revision > c.cursor ORDER BY revision LIMIT 1)"
        "  AS logged_at"
        " FROM webhook_cursors c LEFT JOIN webhook_deliveries d ON d.webhook = c.webhook"
        " GROUP BY c.webhook ORDER BY c.webhook"
    ).fetchall()
    now = _time()
    return [
        DeliveryState(
            webhook_id=row["webhook"],
            cursor=row["cursor"],
            is_leased=row["owner"] is not None and row["lease_until"] > now,
            waiting=row["waiting"],
            dead_letters=row["dead_letters"],
            oldest_seconds=max(
                (_seconds_since(at) for at in (row["queued_at"], row["logged_at"]) if at),
                default=0.0,
            ),
            attempted=row["attempted"],
            gaps=row["gaps"],
        )
        for row in rows
    ]


def _clean(
    connection: sqlite3.Connection,
    known: Collection[str],
    opened_before: float,
    dead_before: float,
) -> int:
    rows = connection.execute(
        "SELECT webhook FROM webhook_cursors WHERE opened_at < ?", (_time(-opened_before),)
    )
    unknown = [row["webhook"] for row in rows if row["webhook"] not in known]
    deleted = connection.execute(
        "DELETE FROM webhook_deliveries WHERE dead_at < ?", (_time(-dead_before),)
    ).rowcount
    for table in ("webhook_cursors", "webhook_deliveries", "webhook_attempts"):
        for webhook_id in unknown:
            deleted += connection.execute(
                f"DELETE FROM {table} WHERE webhook = ?",  # noqa: S608 - names of ours
                (webhook_id,),
            ).rowcount
    return deleted
