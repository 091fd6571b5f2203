"""The outbox in Postgres: the changes that have no time of sending yet."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from sqlalchemy import ARRAY, BigInteger, cast, extract, func, select, update

from app.changes.log.port import Leadership
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.leadership import hold_leadership
from app.changes.log.postgres.rows import change_of_row
from app.changes.model import Change
from app.postgres.tables import changes

_UNSENT: Final = changes.c.sent_at.is_(None)
_AGE: Final = extract("epoch", func.clock_timestamp() - changes.c.logged_at)


class PostgresOutbox:
    def __init__(self, connection: LogConnection) -> None:
        self._dsn = connection.dsn
        self._calls = connection.calls

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        query = select(changes).where(_UNSENT).order_by(changes.c.revision).limit(limit)
        return [change_of_row(row) for row in await self._calls.run("unsent", query)]

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        ours = changes.c.revision == func.any(cast(list(revisions), ARRAY(BigInteger)))
        mark = update(changes).where(ours, _UNSENT).values(sent_at=func.now())
        await self._calls.run("mark_sent", mark)

    async def oldest_unsent(self) -> float | None:
        query = select(_AGE).where(_UNSENT).order_by(changes.c.revision).limit(1)
        age = (await self._calls.run("oldest_unsent", query)).scalar_one_or_none()
        return None if age is None else float(age)

    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        return hold_leadership(self._dsn, self._calls.deadlines)
