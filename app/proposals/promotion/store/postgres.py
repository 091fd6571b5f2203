"""Promotions and pins in Postgres: one statement a call."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres.calls import Calls
from app.postgres.tables import promotion_pins, promotions
from app.proposals.promotion.errors import PromotionsUnavailable
from app.proposals.promotion.model import Base, Pin, Promotion, RowKey
from app.workers import run_apart

_MANY_VERSIONS: Final = 500  # to write them as JSON takes about as long as a thread does
# In one order everywhere, or replicas that write the same rows could deadlock.
_RECORD: Final = text("""
    INSERT INTO promotions (source, target, kind, service, digest, key, version, actor, at)
    SELECT
        CAST(:source AS text), CAST(:target AS text), given.kind, given.service,
        encode(sha256(convert_to(given.key, 'UTF8')), 'hex'), given.key, given.version,
        CAST(:actor AS text), now()
    FROM jsonb_to_recordset(CAST(:versions AS jsonb)) AS given (
        kind text, service text, key text, version integer
    )
    ORDER BY 3, 4, 5
    ON CONFLICT (source, target, kind, service, digest) DO UPDATE SET
        version = excluded.version, actor = excluded.actor, at = excluded.at
""")
_PLACE: Final = (
    promotion_pins.c.environment,
    promotion_pins.c.kind,
    promotion_pins.c.service,
    promotion_pins.c.key,
)


class PostgresPromotionStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine,
            lambda why: PromotionsUnavailable(f"the store of promotions does not answer: {why}"),
        )

    async def record(self, promotion: Promotion) -> None:
        is_large = len(promotion.versions) > _MANY_VERSIONS
        parameters = {
            "source": promotion.source,
            "target": promotion.target,
            "actor": promotion.actor,
            "versions": await run_apart(is_large, _versions_text, promotion),
        }
        await self._calls.run("promotions_record", _RECORD, parameters)

    async def bases(self, source: str, target: str, services: Sequence[str]) -> Sequence[Base]:
        query = select(promotions).where(
            promotions.c.source == source,
            promotions.c.target == target,
            promotions.c.service.in_(list(services)),
        )
        return [_base(row) for row in await self._calls.run("promotions_bases", query)]

    async def put_pin(self, pin: Pin) -> None:
        said = {"actor": pin.actor, "comment": pin.comment, "at": func.now()}
        environment, kind, service, key = pin.place
        made = insert(promotion_pins).values(
            environment=environment, kind=kind, service=service, key=key, **said
        )
        statement = made.on_conflict_do_update(index_elements=_PLACE, set_=said)
        await self._calls.run("promotions_put_pin", statement)

    async def delete_pin(self, pin: Pin) -> bool:
        statement = delete(promotion_pins).where(
            *(column == value for column, value in zip(_PLACE, pin.place, strict=True))
        )
        # Not asked again: the first may have deleted it unheard.
        deleted = await self._calls.run("promotions_delete_pin", statement, again=False)
        return deleted.rowcount > 0

    async def pins_of(self, environment: str) -> Sequence[Pin]:
        return await self._pins(select(promotion_pins).where(_PLACE[0] == environment))

    async def pins_after(self, place: tuple[str, str, str, str], limit: int) -> Sequence[Pin]:
        return await self._pins(
            select(promotion_pins).where(tuple_(*_PLACE) > tuple_(*place)).limit(limit)
        )

    async def _pins(self, query: Select[Any]) -> list[Pin]:
        rows = await self._calls.run("promotions_pins", query.order_by(*_PLACE))
        return [_pin(row) for row in rows]


def _versions_text(promotion: Promotion) -> str:
    return json.dumps(
        [{**subject._asdict(), "version": version} for subject, version in promotion.versions]
    )


def _base(row: Row[Any]) -> Base:
    return Base(RowKey(row.kind, row.service, row.key), row.version, row.actor, row.at)


def _pin(row: Row[Any]) -> Pin:
    return Pin(row.environment, row.kind, row.service, row.key, row.actor, row.comment, row.at)
