"""The desired state of the registry in Postgres: one statement a call.

Those who register at the same time share a transaction. What a call changes it finds, locks in one
order and, where it is logged, hands to `log_instances`. Conditions are looked at again when a lock
was waited for.
"""
# ruff: noqa: S608 - the statements are put together of constants

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from functools import partial
from typing import Any, Final

from sqlalchemy import CursorResult, Executable, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import ANSWER_SECONDS, REGISTER_LOCK, Calls
from app.registry.errors import InstanceNotFound, OldEpoch, RegistryUnavailable, TooManyInstances
from app.registry.gathering import Gathering
from app.registry.rows import (
    ACTOR,
    AT_ONCE,
    INSTANCES_AT_MOST,
    Beat,
    Counts,
    Health,
    Key,
    Overdue,
    Registered,
    Registration,
    Row,
    Tag,
)

# As long as the server lets a statement run: a call may be about thousands of rows.
_MANY_SECONDS: Final = 2.0
_PING_SECONDS: Final = 0.8
_REGISTERED_TOGETHER: Final = 50  # nobody else logs anything meanwhile

# The members of a Registration, as its statement calls them.
_REGISTRATION: Final = (
    "services",
    "ids",
    "definitions",
    "leases",
    "ttls",
    "owners",
    "actors",
    "request_ids",
    "sources",
    "fingerprints",
)

# Read by place, not by name, which takes several times as long for thousands of rows.
_FIELDS: Final = ", ".join(field.name for field in fields(Row))
_TAGS: Final = """unnest(
        CAST(:services AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[]),
        CAST(:terms AS bigint[])
    ) AS t (service, instance_id, epoch, term)"""
_MARKS: Final = """unnest(
        CAST(:services AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[]),
        CAST(:terms AS bigint[]), CAST(:healths AS text[])
    ) AS t (service, instance_id, epoch, term, health)"""
_BEATS: Final = """unnest(
        CAST(:services AS text[]), CAST(:ids AS text[]), CAST(:epochs AS bigint[])
    ) AS b (service, instance_id, epoch)"""


def _silent(times: int) -> str:
    """Return what is true of a row that was not heard for so many times its ttl."""
    return (
        "i.state = 'registered' AND i.lease = 'heartbeat'"
        f" AND i.heartbeat_at < now() - {times} * i.ttl_seconds * interval '1 second'"
    )


# Of several registrations, before the first takes LOG_LOCK: whoever holds that waits for nobody.
_TURNS: Final = text(f"""
    SELECT pg_advisory_xact_lock({REGISTER_LOCK}, turn) FROM (
        SELECT DISTINCT hashtext(service) AS turn
        FROM unnest(CAST(:services AS text[])) AS s (service) ORDER BY turn
    ) turns
""")
_HELD: Final = text("""
    SELECT 1 FROM instances i JOIN (
        SELECT DISTINCT * FROM unnest(CAST(:services AS text[]), CAST(:ids AS text[]))
            AS k (service, instance_id)
    ) asked USING (service, instance_id)
    ORDER BY i.service, i.instance_id FOR UPDATE OF i
""")
_REGISTER: Final = text(f"""
    SELECT {_FIELDS}, outcome FROM (
        SELECT r.number, m.outcome, (m.made).* FROM unnest(
            CAST(:services AS text[]), CAST(:ids AS text[]), CAST(:definitions AS text[]),
            CAST(:leases AS text[]), CAST(:ttls AS double precision[]), CAST(:owners AS text[]),
            CAST(:actors AS text[]), CAST(:request_ids AS text[]), CAST(:sources AS text[]),
            CAST(:fingerprints AS text[])
        ) WITH ORDINALITY AS r (
            service, id, definition, lease, ttl, owner, actor, request_id, source, fingerprint,
            number
        ), LATERAL register_instance(
            r.service, r.id, r.definition, r.lease, r.ttl, r.owner, r.actor, r.request_id,
            CAST(:at_most AS integer), r.source, r.fingerprint
        ) m
    ) registered ORDER BY number
""")


def _one(action: str, facts: str) -> TextClause:
    """Return the statement that moves one row; if another epoch is registered, it returns that."""
    return text(f"""
        WITH found AS MATERIALIZED (
            SELECT i AS was FROM instances i
            WHERE i.service = :service AND i.instance_id = :instance_id AND i.state = 'registered'
            FOR UPDATE
        )
        SELECT {_FIELDS} FROM log_instances(
            ARRAY(
                SELECT jsonb_populate_record(was, jsonb_build_object({facts})) FROM found
                WHERE (was).epoch = coalesce(CAST(:epoch AS bigint), (was).epoch)
            ),
            '{action}', :actor, :request_id, :source
        )
        UNION ALL
        SELECT {_FIELDS} FROM (SELECT (was).* FROM found) other
        WHERE epoch <> CAST(:epoch AS bigint)
    """)


_DEREGISTER: Final = _one("deleted", "'state', 'deregistered', 'term', (was).term + 1")
_DRAIN: Final = _one(
    "updated",
    "'draining_until', now() + CAST(:grace AS double precision) * interval '1 second'",
)
_CLAIM: Final = text(f"""
    WITH free AS (
        SELECT i.service, i.instance_id
        FROM instances i JOIN {_TAGS} USING (service, instance_id, epoch, term)
        WHERE i.state = 'registered' AND (
            i.owner = :owner
            OR i.claimed_at <= now() - CAST(:settle AS double precision) * interval '1 second'
        )
        ORDER BY i.service, i.instance_id FOR UPDATE OF i
    ), claimed AS (
        UPDATE instances i SET owner = :owner, term = i.term + 1, claimed_at = now() FROM free
        WHERE i.service = free.service AND i.instance_id = free.instance_id
        RETURNING i.*
    )
    SELECT {_FIELDS} FROM claimed
""")
# Each row is found once: `beat` asks for none twice.
_BEAT: Final = text(f"""
    WITH heard AS MATERIALIZED (
        SELECT i AS was, i.health = 'suspect' AND i.lease = 'heartbeat' AS suspected
        FROM instances i JOIN {_BEATS} ON b.service = i.service AND b.instance_id = i.instance_id
        WHERE i.state = 'registered' AND coalesce(b.epoch, i.epoch) = i.epoch
        ORDER BY i.service, i.instance_id FOR UPDATE OF i
    ), noted AS (
        UPDATE instances i SET heartbeat_at = greatest(i.heartbeat_at, now()) FROM heard
        WHERE i.service = (was).service AND i.instance_id = (was).instance_id AND NOT suspected
        RETURNING i.*
    )
    SELECT {_FIELDS} FROM noted
    UNION ALL
    SELECT {_FIELDS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                was, jsonb_build_object('health', 'up', 'heartbeat_at', now())
            )
            FROM heard WHERE suspected
        ),
        'updated', '{ACTOR}', NULL
    )
""")
_JUDGE: Final = text(f"""
    SELECT {_FIELDS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(i, jsonb_build_object('health', t.health))
            FROM instances i JOIN {_MARKS} USING (service, instance_id, epoch, term)
            WHERE i.state = 'registered' AND i.health <> t.health
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'updated', '{ACTOR}', NULL
    )
""")
# Which ones is found first, by age: locks are taken by name, as everywhere.
_SUSPECT: Final = text(
    f"""
    SELECT count(*) FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(i, jsonb_build_object('health', 'suspect'))
            FROM instances i
            WHERE {_silent(1)} AND i.health = 'up' AND (i.service, i.instance_id) IN (
                SELECT i.service, i.instance_id FROM instances i
                WHERE {_silent(1)} AND i.health = 'up' ORDER BY i.heartbeat_at LIMIT {AT_ONCE}
            )
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'updated', '{ACTOR}', NULL
    )
"""
)
_DUE: Final = text(f"""
    SELECT {_FIELDS} FROM instances i WHERE {_silent(2)} ORDER BY i.heartbeat_at LIMIT {AT_ONCE}
""")
_COUNTS: Final = text(f"""
    SELECT
        i.service, count(*) FILTER (WHERE i.state = 'registered') AS registered,
        count(*) FILTER (WHERE {_silent(1)}) AS overdue,
        count(*) FILTER (WHERE i.state = 'evicted') AS evicted
    FROM instances i
    WHERE i.state = 'registered'
        OR i.state = 'evicted' AND i.moved_at > now() - interval '1 minute'
    GROUP BY i.service
""")
_EVICT: Final = text(f"""
    SELECT {_FIELDS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                i, jsonb_build_object('state', 'evicted', 'term', i.term + 1)
            )
            FROM instances i JOIN {_TAGS} USING (service, instance_id, epoch, term)
            WHERE {_silent(2)}
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'deleted', '{ACTOR}', NULL
    )
""")
_DRAINED: Final = text(f"""
    SELECT {_FIELDS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                i, jsonb_build_object('state', 'deregistered', 'term', i.term + 1)
            )
            FROM instances i WHERE i.state = 'registered' AND i.draining_until <= now()
            ORDER BY i.service, i.instance_id LIMIT {AT_ONCE} FOR UPDATE
        ),
        'deleted', '{ACTOR}', NULL
    )
""")
_REAP: Final = text(f"""
    WITH old AS (
        SELECT i.service, i.instance_id FROM instances i
        WHERE i.state <> 'registered'
            AND i.moved_at < now() - CAST(:age AS double precision) * interval '1 second'
        ORDER BY i.service, i.instance_id LIMIT {AT_ONCE} FOR UPDATE
    )
    DELETE FROM instances i USING old
    WHERE i.service = old.service AND i.instance_id = old.instance_id
    RETURNING i.service, i.instance_id, i.epoch, i.term
""")
_CURRENT: Final = text(f"""
    SELECT {_FIELDS} FROM instances i JOIN (
        SELECT DISTINCT * FROM unnest(CAST(:services AS text[]), CAST(:ids AS text[]))
            AS k (service, instance_id)
    ) asked USING (service, instance_id)
""")
_OWNED: Final = text(
    f"SELECT {_FIELDS} FROM instances WHERE state = 'registered' AND owner = :owner"
)
_NEWER: Final = text(
    f"SELECT {_FIELDS} FROM instances WHERE revision > :after ORDER BY revision LIMIT :limit"
)
_PING: Final = text("SELECT 1")


class PostgresInstanceRows:
    def __init__(self, engine: AsyncEngine, at_most: int = INSTANCES_AT_MOST) -> None:
        """Keep rows in a migrated database, and register `at_most` instances of a service."""
        self._engine = engine
        self._at_most = at_most
        self._away = partial(RegistryUnavailable, "the store of the registry does not answer")
        self._calls = Calls(engine, self._away)
        self._registering = Gathering(self._register, _REGISTERED_TOGETHER)

    async def register(self, registration: Registration) -> Registered:
        try:
            async with asyncio.timeout(_MANY_SECONDS):
                return await self._registering.add(registration)
        except TimeoutError as error:
            raise self._away() from error

    async def _register(
        self, registrations: Sequence[Registration]
    ) -> Sequence[Registered | Exception]:
        """Register in one transaction: one commit, and one turn at the log, for all of them."""
        columns = zip(*map(astuple, registrations), strict=True)
        facts = {
            **dict(zip(_REGISTRATION, map(list, columns), strict=True)),
            "at_most": self._at_most,
        }
        if len(registrations) == 1:
            found = (await self._write("instances_register", _REGISTER, facts)).all()
        else:
            once = partial(self._register_many, facts)
            found = await self._calls.ask("instances_register", once, _MANY_SECONDS, again=False)
        return [
            TooManyInstances(registration.service)
            if made.outcome == "full"
            else Registered(_row(made[:-1]), created=made.outcome == "created")
            for registration, made in zip(registrations, found, strict=True)
        ]

    async def _register_many(self, facts: Mapping[str, object]) -> Sequence[Any]:
        async with self._engine.begin() as connection:
            await connection.execute(_TURNS, {"services": facts["services"]})
            await connection.execute(_HELD, {name: facts[name] for name in ("services", "ids")})
            return (await connection.execute(_REGISTER, facts)).all()

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> Row:
        facts = {
            "service": service,
            "instance_id": instance_id,
            "epoch": epoch,
            "actor": actor,
            "request_id": request_id,
            "source": source,
        }
        return _of_epoch(await self._write("instances_deregister", _DEREGISTER, facts), facts)

    async def drain(  # noqa: PLR0913, PLR0917 - as the port says
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> Row:
        facts = {
            "service": service,
            "instance_id": instance_id,
            "epoch": epoch,
            "grace": grace_seconds,
            "actor": actor,
            "request_id": request_id,
            "source": source,
        }
        return _of_epoch(await self._write("instances_drain", _DRAIN, facts), facts)

    async def drained(self) -> Sequence[Row]:
        return _rows(await self._write("instances_drained", _DRAINED))

    async def claim(self, tags: Sequence[Tag], owner: str, settle_seconds: float) -> Sequence[Row]:
        facts = {**_columns(tags), "owner": owner, "settle": settle_seconds}
        return _rows(await self._write("instances_claim", _CLAIM, facts))

    async def beat(self, beats: Sequence[Beat]) -> Mapping[Key, Row]:
        # Each once, or the row would be logged twice; who names no epoch speaks for all.
        of_any = {beat[:2] for beat in beats if beat.epoch is None}
        asked = [beat for beat in {*beats} if beat.epoch is None or beat[:2] not in of_any]
        columns = list(zip(*asked, strict=True)) or [()] * 3
        names = ("services", "ids", "epochs")
        facts = {name: list(column) for name, column in zip(names, columns, strict=True)}
        # Asked again if the connection was lost: a heartbeat counted twice is one heartbeat.
        found = await self._calls.run("instances_beat", _BEAT, facts, seconds=_MANY_SECONDS)
        return {row.key: row for row in _rows(found)}

    async def judge(self, marks: Mapping[Tag, Health]) -> Sequence[Row]:
        facts = {**_columns(tuple(marks)), "healths": list(marks.values())}
        return _rows(await self._write("instances_judge", _JUDGE, facts))

    async def overdue(self) -> Overdue:
        return await self._calls.ask("instances_overdue", self._overdue, _MANY_SECONDS, again=False)

    async def _overdue(self) -> Overdue:
        async with self._engine.begin() as connection:
            counts = {
                row.service: Counts(row.registered, row.overdue, row.evicted)
                for row in await connection.execute(_COUNTS)
            }
            # Each of the others reads all rows too, and mostly nobody is silent.
            if not any(of.overdue for of in counts.values()):
                return Overdue([], counts)
            await connection.execute(_SUSPECT)
            return Overdue(_rows(await connection.execute(_DUE)), counts)

    async def evict(self, tags: Sequence[Tag]) -> Sequence[Row]:
        # Each once, or the row would be logged twice.
        facts = _columns(tuple(dict.fromkeys(tags)))
        return _rows(await self._write("instances_evict", _EVICT, facts))

    async def row(self, service: str, instance_id: str) -> Row | None:
        return (await self._found([(service, instance_id)])).get((service, instance_id))

    async def current(self, keys: Sequence[Key]) -> Mapping[Key, Row]:
        return await self._found(keys, seconds=_MANY_SECONDS)

    async def _found(
        self, keys: Sequence[Key], seconds: float = ANSWER_SECONDS
    ) -> Mapping[Key, Row]:
        columns = list(zip(*keys, strict=True)) or [()] * 2
        facts = {"services": list(columns[0]), "ids": list(columns[1])}
        found = await self._calls.run("instances_current", _CURRENT, facts, seconds=seconds)
        return {row.key: row for row in _rows(found)}

    async def owned(self, owner: str) -> Sequence[Row]:
        found = await self._calls.run(
            "instances_owned", _OWNED, {"owner": owner}, seconds=_MANY_SECONDS
        )
        return _rows(found)

    async def newer(self, after: int, limit: int) -> Sequence[Row]:
        bounds = {"after": after, "limit": limit}
        return _rows(await self._calls.run("instances_newer", _NEWER, bounds))

    async def reap(self, older_than_seconds: float) -> Sequence[Tag]:
        gone = await self._write("instances_reap", _REAP, {"age": older_than_seconds})
        return [Tag(row.service, row.instance_id, row.epoch, row.term) for row in gone]

    async def ping(self) -> None:
        await self._calls.run("instances_ping", _PING, seconds=_PING_SECONDS)

    async def _write(
        self, operation: str, statement: Executable, facts: Mapping[str, object] | None = None
    ) -> CursorResult[Any]:
        # Not asked again: what the first has done unheard, the second would not find to do.
        return await self._calls.run(
            operation, statement, facts, seconds=_MANY_SECONDS, again=False
        )


def _columns(tags: Sequence[Tag]) -> dict[str, object]:
    columns = list(zip(*tags, strict=True)) or [()] * 4
    names = ("services", "ids", "epochs", "terms")
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _of_epoch(found: CursorResult[Any], facts: Mapping[str, Any]) -> Row:
    """Return the row that was moved, or raise why none was."""
    row = found.one_or_none()
    if row is None:
        raise InstanceNotFound(facts["service"], facts["instance_id"])
    if facts["epoch"] not in (None, row.epoch):
        raise OldEpoch(row.epoch)
    return _row(row)


def _rows(found: CursorResult[Any]) -> list[Row]:
    return [_row(row) for row in found]


def _row(columns: Iterable[Any]) -> Row:
    return Row(*columns)
