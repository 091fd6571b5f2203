"""Desired state of the registry in PostgreSQL, one statement for each call.

Concurrent registrations share a transaction. A call finds its rows, locks them in one order and
passes logged transitions to `log_instances`. Conditions are evaluated again after waiting for a
lock.
"""
# ruff: noqa: S608 - the statements are built from constants

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import CursorResult, Executable, Text, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres.calls import Calls
from app.postgres.locks import REGISTER_LOCK
from app.registry.batching import Batcher
from app.registry.errors import InstanceNotFound, OldEpoch, RegistryUnavailable, TooManyInstances
from app.registry.model import (
    ACTOR,
    ALL_SERVICES,
    MAX_INSTANCES,
    MAX_LOGGED_PER_CALL,
    MAX_ROWS_PER_CALL,
    PROTECTED_LEASES,
    RELEASE_ACTION,
    EvictionCandidates,
    HealthStatus,
    Heartbeat,
    InstanceKey,
    InstanceRow,
    Registration,
    RegistrationResult,
    RowToken,
    ServiceCounts,
)

_REGISTERED_TOGETHER: Final = 50  # no other transaction can log during the call

# Parameters of the statement for the fields of a Registration.
_REGISTRATION_COLUMNS: Final = (
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
_registration_values: Final = attrgetter(
    *(field.name for field in fields(Registration) if field.name != "replaces")
)

# Read by position: reading by name takes several times as long for thousands of rows.
_COLUMNS: Final = ", ".join(field.name for field in fields(InstanceRow))
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


def _silence_condition(times: int) -> str:
    """Return the SQL condition for rows without a heartbeat for this many ttl."""
    return (
        "i.state = 'registered' AND i.lease = 'heartbeat'"
        f" AND i.heartbeat_at < now() - {times} * i.ttl_seconds * interval '1 second'"
    )


# Taken before LOG_LOCK: its holder must not wait for another lock.
_LOCK_SERVICES: Final = text(f"""
    SELECT pg_advisory_xact_lock({REGISTER_LOCK}, turn) FROM (
        SELECT DISTINCT hashtext(service) AS turn
        FROM unnest(CAST(:services AS text[])) AS s (service) ORDER BY turn
    ) turns
""")
_LOCK_ROWS: Final = text("""
    SELECT i.service, i.instance_id, CASE i.state WHEN 'registered' THEN i.epoch ELSE 0 END AS epoch
    FROM instances i JOIN (
        SELECT DISTINCT * FROM unnest(CAST(:services AS text[]), CAST(:ids AS text[]))
            AS k (service, instance_id)
    ) asked USING (service, instance_id)
    ORDER BY i.service, i.instance_id FOR UPDATE OF i
""")
_REGISTER: Final = text(f"""
    SELECT {_COLUMNS}, outcome FROM (
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


def _single_row_statement(action: str, facts: str) -> TextClause:
    """Return the statement that changes one row; for another epoch it returns the row unchanged."""
    return text(f"""
        WITH found AS MATERIALIZED (
            SELECT i AS was FROM instances i
            WHERE i.service = :service AND i.instance_id = :instance_id AND i.state = 'registered'
            FOR UPDATE
        )
        SELECT {_COLUMNS} FROM log_instances(
            ARRAY(
                SELECT jsonb_populate_record(was, jsonb_build_object({facts})) FROM found
                WHERE (was).epoch = coalesce(CAST(:epoch AS bigint), (was).epoch)
            ),
            '{action}', :actor, :request_id, :source
        )
        UNION ALL
        SELECT {_COLUMNS} FROM (SELECT (was).* FROM found) other
        WHERE epoch <> CAST(:epoch AS bigint)
    """)


_DEREGISTER: Final = _single_row_statement(
    "deleted", "'state', 'deregistered', 'term', (was).term + 1"
)
_DRAIN: Final = _single_row_statement(
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
    SELECT {_COLUMNS} FROM claimed
""")
# Each row occurs once: `record_heartbeats` removes duplicates.
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
    SELECT {_COLUMNS} FROM noted
    UNION ALL
    SELECT {_COLUMNS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                was, jsonb_build_object('health', 'up', 'heartbeat_at', now())
            )
            FROM heard WHERE suspected
        ),
        'updated', '{ACTOR}', NULL
    )
""")
_SET_HEALTH: Final = text(f"""
    SELECT {_COLUMNS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(i, jsonb_build_object('health', t.health))
            FROM instances i JOIN {_MARKS} USING (service, instance_id, epoch, term)
            WHERE i.state = 'registered' AND i.health <> t.health
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'updated', '{ACTOR}', NULL
    )
""")
# The subquery selects by age; locks are taken in the order of names, as everywhere.
_SUSPECT: Final = text(
    f"""
    SELECT count(*) FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(i, jsonb_build_object('health', 'suspect'))
            FROM instances i
            WHERE {_silence_condition(1)} AND i.health = 'up' AND (i.service, i.instance_id) IN (
                SELECT i.service, i.instance_id FROM instances i
                WHERE {_silence_condition(1)} AND i.health = 'up'
                ORDER BY i.heartbeat_at LIMIT {MAX_LOGGED_PER_CALL}
            )
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'updated', '{ACTOR}', NULL
    )
"""
)
_IS_RELEASED: Final = "coalesce(i.released_at > i.heartbeat_at, false)"
_DUE: Final = text(f"""
    SELECT
        {_COLUMNS}, extract(epoch FROM now() - i.heartbeat_at)::double precision AS silent,
        {_IS_RELEASED} AS is_released
    FROM (
        SELECT i.*, row_number() OVER (
            PARTITION BY i.service
            ORDER BY extract(epoch FROM now() - i.heartbeat_at) / i.ttl_seconds DESC
        ) AS place
        FROM instances i WHERE {_silence_condition(2)}
    ) i
    ORDER BY i.place LIMIT {MAX_ROWS_PER_CALL}
""")
# An instance registered within the first ttl of another starts together with it: it replaces none.
_COUNTS: Final = text(f"""
    WITH known AS (
        SELECT
            i.service, i.heartbeat_at, i.registered_at, i.epoch, i.ttl_seconds, i.health,
            i.state = 'registered' AS is_registered, {_silence_condition(1)} AS is_silent,
            {_IS_RELEASED} AS is_released
        FROM instances i
        WHERE i.state = 'registered' OR (
            i.state = 'evicted' AND i.moved_at > now() - interval '1 minute'
            AND i.heartbeat_at > i.moved_at - {PROTECTED_LEASES} * i.ttl_seconds * interval '1 s'
            AND NOT {_IS_RELEASED}
        )
    ), vanished AS (
        SELECT
            service,
            min(
                greatest(heartbeat_at, registered_at + ttl_seconds * interval '1 second')
            ) AS since,
            min(heartbeat_at) AS first, max(heartbeat_at + ttl_seconds * interval '1 s') AS last
        FROM known WHERE (is_silent OR NOT is_registered) AND NOT is_released GROUP BY service
    )
    SELECT
        service,
        count(*) FILTER (WHERE is_registered AND NOT (is_silent AND is_released)) AS registered,
        count(*) FILTER (WHERE is_silent AND NOT is_released) AS overdue,
        count(*) FILTER (WHERE NOT is_registered) AS evicted,
        count(*) FILTER (
            WHERE is_registered AND NOT is_silent AND health = 'up' AND epoch = 1
                AND registered_at > since
        ) AS newcomers,
        coalesce(extract(epoch FROM now() - min(first)), 0)::double precision AS first_seconds,
        coalesce(extract(epoch FROM now() - max(last)), 0)::double precision AS last_seconds,
        count(*) FILTER (WHERE is_silent) AS silent
    FROM known LEFT JOIN vanished USING (service) GROUP BY service
""")
_RELEASE: Final = text(f"""
    WITH silent AS MATERIALIZED (
        SELECT i.service, i.instance_id FROM instances i
        WHERE {_silence_condition(1)} AND i.service = coalesce(:service, i.service)
        ORDER BY i.service, i.instance_id FOR UPDATE
    ), released AS (
        UPDATE instances i SET released_at = now() FROM silent
        WHERE i.service = silent.service AND i.instance_id = silent.instance_id
        RETURNING i.service, i.instance_id
    ), noted AS (
        INSERT INTO audit (actor, action, kind, environment, name, request_id, source, facts)
        SELECT
            :actor, '{RELEASE_ACTION}', 'instance', 'default', coalesce(:service, '{ALL_SERVICES}'),
            :request_id, :source, jsonb_build_object('instances', count(*))
        FROM released
    )
    SELECT service, instance_id FROM released ORDER BY service, instance_id
""").bindparams(bindparam("service", type_=Text))
_EVICT: Final = text(f"""
    SELECT {_COLUMNS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                i, jsonb_build_object('state', 'evicted', 'term', i.term + 1)
            )
            FROM instances i JOIN {_TAGS} USING (service, instance_id, epoch, term)
            WHERE {_silence_condition(2)}
            ORDER BY i.service, i.instance_id FOR UPDATE OF i
        ),
        'deleted', '{ACTOR}', NULL
    )
""")
_FINISH_DRAINS: Final = text(f"""
    SELECT {_COLUMNS} FROM log_instances(
        ARRAY(
            SELECT jsonb_populate_record(
                i, jsonb_build_object('state', 'deregistered', 'term', i.term + 1)
            )
            FROM instances i WHERE i.state = 'registered' AND i.draining_until <= now()
            ORDER BY i.service, i.instance_id LIMIT {MAX_LOGGED_PER_CALL} FOR UPDATE
        ),
        'deleted', '{ACTOR}', NULL
    )
""")
_REAP: Final = text(f"""
    WITH old AS (
        SELECT i.service, i.instance_id FROM instances i
        WHERE i.state <> 'registered'
            AND i.moved_at < now() - CAST(:age AS double precision) * interval '1 second'
        ORDER BY i.service, i.instance_id LIMIT {MAX_ROWS_PER_CALL} FOR UPDATE
    )
    DELETE FROM instances i USING old
    WHERE i.service = old.service AND i.instance_id = old.instance_id
    RETURNING i.service, i.instance_id, i.epoch, i.term
""")
_CURRENT: Final = text(f"""
    SELECT {_COLUMNS} FROM instances i JOIN (
        SELECT DISTINCT * FROM unnest(CAST(:services AS text[]), CAST(:ids AS text[]))
            AS k (service, instance_id)
    ) asked USING (service, instance_id)
""")
_OWNED: Final = text(
    f"SELECT {_COLUMNS} FROM instances WHERE state = 'registered' AND owner = :owner"
)
_NEWER: Final = text(
    f"SELECT {_COLUMNS} FROM instances WHERE revision > :after ORDER BY revision LIMIT :limit"
)
_PING: Final = text("SELECT 1")


class PostgresInstanceStore:
    def __init__(self, engine: AsyncEngine, at_most: int = MAX_INSTANCES) -> None:
        """Store rows in a migrated database; at most `at_most` registered instances per service."""
        self._engine = engine
        self._at_most = at_most
        self._calls = Calls(engine, _store_unavailable)
        self._registering = Batcher(self._register, _REGISTERED_TOGETHER)

    async def register(self, registration: Registration) -> RegistrationResult:
        try:
            async with asyncio.timeout(self._calls.deadlines.server):
                return await self._registering.submit(registration)
        except TimeoutError as error:
            raise _store_unavailable("not in time") from error

    async def _register(
        self, registrations: Sequence[Registration]
    ) -> Sequence[RegistrationResult | Exception]:
        """Register all in one transaction, with one commit and one lock of the log."""
        if len(registrations) == 1 and registrations[0].replaces is None:
            facts = self._facts(registrations)
            rows = (await self._write("instances_register", _REGISTER, facts)).all()
            return [_registration_result(registrations[0], rows[0])]
        once = partial(self._register_many, registrations)
        return await self._calls.ask("instances_register", once, again=False)

    async def _register_many(
        self, registrations: Sequence[Registration]
    ) -> Sequence[RegistrationResult | Exception]:
        facts = self._facts(registrations)
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK_SERVICES, {"services": facts["services"]})
            keys = {name: facts[name] for name in ("services", "ids")}
            held = (await connection.execute(_LOCK_ROWS, keys)).all()
            refused = _conflicting_epochs(registrations, {(row[0], row[1]): row[2] for row in held})
            taken = [one for n, one in enumerate(registrations) if n not in refused]
            made: Sequence[Any] = []
            if taken:
                made = (await connection.execute(_REGISTER, self._facts(taken))).all()
        outcomes = iter(made)
        return [
            refused[n] if n in refused else _registration_result(one, next(outcomes))
            for n, one in enumerate(registrations)
        ]

    def _facts(self, registrations: Sequence[Registration]) -> dict[str, object]:
        columns = zip(*map(_registration_values, registrations), strict=True)
        return {
            **dict(zip(_REGISTRATION_COLUMNS, map(list, columns), strict=True)),
            "at_most": self._at_most,
        }

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> InstanceRow:
        facts = {
            "service": service,
            "instance_id": instance_id,
            "epoch": epoch,
            "actor": actor,
            "request_id": request_id,
            "source": source,
        }
        return _row_of_epoch(await self._write("instances_deregister", _DEREGISTER, facts), facts)

    async def drain(  # noqa: PLR0913, PLR0917 - as the port says
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> InstanceRow:
        facts = {
            "service": service,
            "instance_id": instance_id,
            "epoch": epoch,
            "grace": grace_seconds,
            "actor": actor,
            "request_id": request_id,
            "source": source,
        }
        return _row_of_epoch(await self._write("instances_drain", _DRAIN, facts), facts)

    async def finish_drains(self) -> Sequence[InstanceRow]:
        return _rows(await self._write("instances_drained", _FINISH_DRAINS))

    async def claim(
        self, tokens: Sequence[RowToken], owner: str, settle_seconds: float
    ) -> Sequence[InstanceRow]:
        facts = {**_token_columns(tokens), "owner": owner, "settle": settle_seconds}
        return _rows(await self._write("instances_claim", _CLAIM, facts))

    async def record_heartbeats(
        self, heartbeats: Sequence[Heartbeat]
    ) -> Mapping[InstanceKey, InstanceRow]:
        # Without duplicates, or the row would be logged twice; one without epoch covers all.
        of_any = {beat[:2] for beat in heartbeats if beat.epoch is None}
        beats = [beat for beat in {*heartbeats} if beat.epoch is None or beat[:2] not in of_any]
        columns = list(zip(*beats, strict=True)) or [()] * 3
        names = ("services", "ids", "epochs")
        facts = {name: list(column) for name, column in zip(names, columns, strict=True)}
        # Repeated after a lost connection: heartbeats are idempotent.
        result = await self._calls.run("instances_beat", _BEAT, facts)
        return {row.key: row for row in _rows(result)}

    async def set_health(self, marks: Mapping[RowToken, HealthStatus]) -> Sequence[InstanceRow]:
        facts = {**_token_columns(tuple(marks)), "healths": list(marks.values())}
        return _rows(await self._write("instances_judge", _SET_HEALTH, facts))

    async def mark_suspects(self) -> EvictionCandidates:
        return await self._calls.ask("instances_overdue", self._mark_suspects, again=False)

    async def _mark_suspects(self) -> EvictionCandidates:
        async with self._engine.begin() as connection:
            rows = (await connection.execute(_COUNTS)).all()
            counts = {row.service: ServiceCounts(*row[1:-1]) for row in rows}
            # The other statements read all rows too, and usually no instance is silent.
            if not any(row.silent for row in rows):
                return EvictionCandidates([], counts)
            await connection.execute(_SUSPECT)
            due = [(_row(row[:-2]), *row[-2:]) for row in await connection.execute(_DUE)]
            due.sort(key=lambda one: one[1] / one[0].ttl_seconds, reverse=True)
            return EvictionCandidates(
                due=[row for row, _, _ in due],
                counts=counts,
                silent_seconds={row.key: seconds for row, seconds, _ in due},
                released=frozenset(row.key for row, _, is_released in due if is_released),
            )

    async def release(
        self, service: str | None, actor: str, request_id: str, source: str | None = None
    ) -> Sequence[InstanceKey]:
        facts = {"service": service, "actor": actor, "request_id": request_id, "source": source}
        released = await self._write("instances_release", _RELEASE, facts)
        return [(row.service, row.instance_id) for row in released]

    async def evict(self, tokens: Sequence[RowToken]) -> Sequence[InstanceRow]:
        # Without duplicates, or the row would be logged twice.
        facts = _token_columns(tuple(dict.fromkeys(tokens)))
        return _rows(await self._write("instances_evict", _EVICT, facts))

    async def row(self, service: str, instance_id: str) -> InstanceRow | None:
        return (await self._find_rows([(service, instance_id)])).get((service, instance_id))

    async def rows_by_key(self, keys: Sequence[InstanceKey]) -> Mapping[InstanceKey, InstanceRow]:
        return await self._find_rows(keys)

    async def _find_rows(self, keys: Sequence[InstanceKey]) -> Mapping[InstanceKey, InstanceRow]:
        columns = list(zip(*keys, strict=True)) or [()] * 2
        facts = {"services": list(columns[0]), "ids": list(columns[1])}
        result = await self._calls.run("instances_current", _CURRENT, facts)
        return {row.key: row for row in _rows(result)}

    async def rows_of_owner(self, owner: str) -> Sequence[InstanceRow]:
        return _rows(await self._calls.run("instances_owned", _OWNED, {"owner": owner}))

    async def rows_after(self, after: int, limit: int) -> Sequence[InstanceRow]:
        bounds = {"after": after, "limit": limit}
        return _rows(await self._calls.run("instances_newer", _NEWER, bounds))

    async def reap(self, older_than_seconds: float) -> Sequence[RowToken]:
        gone = await self._write("instances_reap", _REAP, {"age": older_than_seconds})
        return [RowToken(row.service, row.instance_id, row.epoch, row.term) for row in gone]

    async def ping(self) -> None:
        await self._calls.run("instances_ping", _PING, seconds=self._calls.deadlines.ping)

    async def _write(
        self, operation: str, statement: Executable, facts: Mapping[str, object] | None = None
    ) -> CursorResult[Any]:
        # Not repeated: if the first attempt took effect, a second one would find nothing to do.
        return await self._calls.run(operation, statement, facts, again=False)


def _conflicting_epochs(
    registrations: Sequence[Registration], epochs: Mapping[InstanceKey, int]
) -> dict[int, OldEpoch]:
    """Return the errors of registrations that may not replace another epoch, by position."""
    refused: dict[int, OldEpoch] = {}
    moved: set[InstanceKey] = set()
    for place, one in enumerate(registrations):
        key = one.service, one.instance_id
        epoch = epochs.get(key, 0)
        if one.replaces is not None and (key in moved or one.replaces != epoch):
            refused[place] = OldEpoch(epoch)
        else:
            moved.add(key)
    return refused


def _registration_result(registration: Registration, made: Any) -> RegistrationResult | Exception:
    if made.outcome == "full":
        return TooManyInstances(registration.service)
    return RegistrationResult(_row(made[:-1]), created=made.outcome == "created")


def _token_columns(tokens: Sequence[RowToken]) -> dict[str, object]:
    columns = list(zip(*tokens, strict=True)) or [()] * 4
    names = ("services", "ids", "epochs", "terms")
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _row_of_epoch(result: CursorResult[Any], facts: Mapping[str, Any]) -> InstanceRow:
    """Return the changed row, or raise the reason why no row changed."""
    row = result.one_or_none()
    if row is None:
        raise InstanceNotFound(facts["service"], facts["instance_id"])
    if facts["epoch"] not in (None, row.epoch):
        raise OldEpoch(row.epoch)
    return _row(row)


def _rows(result: CursorResult[Any]) -> list[InstanceRow]:
    return [_row(row) for row in result]


def _row(columns: Iterable[Any]) -> InstanceRow:
    return InstanceRow(*columns)


def _store_unavailable(why: str) -> RegistryUnavailable:
    return RegistryUnavailable(f"the store of the registry does not answer: {why}")
