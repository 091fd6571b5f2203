"""Maintenance of the log in Postgres."""

from datetime import timedelta
from typing import Final

from sqlalchemy import Boolean, Interval, bindparam, delete, func, select, text, union_all
from sqlalchemy.dialects.postgresql import insert as upsert

from app.changes.log.postgres.connection import LogConnection
from app.postgres.tables import claims, intents

_TRIM_AT_MOST: Final = 1000

_DECIDED: Final = text("state IN ('applied', 'lost')")  # as the index by time has it
_RESERVED: Final = text("state = 'reserved'")
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


class PostgresMaintenance:
    def __init__(self, connection: LogConnection) -> None:
        self._calls = connection.calls

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

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        age = timedelta(seconds=older_than)
        bounds = {"keep": keep, "age": age, "relayed": relayed, "limit": _TRIM_AT_MOST}
        return int((await self._calls.run("trim", _TRIM, bounds)).scalar_one())

    async def forget(self, older_than: float) -> int:
        before = func.now() - timedelta(seconds=older_than)
        decided = select(intents.c.id).where(_DECIDED, intents.c.at < before)
        lapsed = select(intents.c.id).where(_RESERVED, intents.c.look_after < before)
        doomed = union_all(decided, lapsed).limit(_TRIM_AT_MOST)
        deletion = delete(intents).where(intents.c.id.in_(doomed))
        return (await self._calls.run("forget", deletion)).rowcount
