"""Promotions and pins in this process's own state: the default, for one replica."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from app.changes.log.sqlite_log import format_timestamp
from app.proposals.promotion.errors import PromotionsUnavailable
from app.proposals.promotion.model import Base, Pin, Promotion, RowKey
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_RECORD = """
    INSERT INTO promotions (source, target, kind, service, key, version, actor, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (source, target, kind, service, key) DO UPDATE SET
        version = excluded.version, actor = excluded.actor, at = excluded.at
"""
_PUT_PIN = """
    INSERT INTO promotion_pins (environment, kind, service, key, actor, comment, at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (environment, kind, service, key) DO UPDATE SET
        actor = excluded.actor, comment = excluded.comment, at = excluded.at
"""


class EmbeddedPromotionStore:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = StateCalls(state, "the store of promotions", PromotionsUnavailable)

    async def record(self, promotion: Promotion) -> None:
        await self._calls.write(partial(_record, promotion=promotion))

    async def bases(self, source: str, target: str, services: Sequence[str]) -> Sequence[Base]:
        def read(connection: sqlite3.Connection) -> list[Base]:
            return [
                _base(row)
                for service in dict.fromkeys(services)
                for row in connection.execute(
                    "SELECT * FROM promotions WHERE source = ? AND target = ? AND service = ?",
                    (source, target, service),
                )
            ]

        return await self._calls.read(read)

    async def put_pin(self, pin: Pin) -> None:
        values = (*pin.place, pin.actor, pin.comment, format_timestamp(datetime.now(UTC)))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT_PIN, values)

        await self._calls.write(write)

    async def delete_pin(self, pin: Pin) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            deleted = connection.execute(
                "DELETE FROM promotion_pins"
                " WHERE environment = ? AND kind = ? AND service = ? AND key = ?",
                pin.place,
            )
            return deleted.rowcount > 0

        return await self._calls.write(write)

    async def pins_of(self, environment: str) -> Sequence[Pin]:
        return await self._pins(
            "SELECT * FROM promotion_pins WHERE environment = ? ORDER BY kind, service, key",
            environment,
        )

    async def pins_after(self, place: tuple[str, str, str, str], limit: int) -> Sequence[Pin]:
        return await self._pins(
            "SELECT * FROM promotion_pins WHERE (environment, kind, service, key) > (?, ?, ?, ?)"
            " ORDER BY environment, kind, service, key LIMIT ?",
            *place,
            limit,
        )

    async def _pins(self, query: str, *values: object) -> list[Pin]:
        def read(connection: sqlite3.Connection) -> list[Pin]:
            return [_pin(row) for row in connection.execute(query, values)]

        return await self._calls.read(read)


def _record(connection: sqlite3.Connection, promotion: Promotion) -> None:
    now = format_timestamp(datetime.now(UTC))
    connection.executemany(
        _RECORD,
        [
            (promotion.source, promotion.target, *subject, version, promotion.actor, now)
            for subject, version in promotion.versions
        ],
    )


def _base(row: sqlite3.Row) -> Base:
    subject = RowKey(row["kind"], row["service"], row["key"])
    return Base(subject, row["version"], row["actor"], datetime.fromisoformat(row["at"]))


def _pin(row: sqlite3.Row) -> Pin:
    return Pin(
        row["environment"],
        row["kind"],
        row["service"],
        row["key"],
        row["actor"],
        row["comment"],
        datetime.fromisoformat(row["at"]),
    )
