"""Desired state of the registry in the embedded SQLite database: the default, for one replica."""
# ruff: noqa: S608 - the statements are built from constants

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Action, Change
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
    instance_entity,
)
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_MINUTE: Final = timedelta(minutes=1)
# No heartbeat for :times its ttl. Julian days are exact to the millisecond.
_SILENT: Final = (
    "state = 'registered' AND lease = 'heartbeat'"
    " AND julianday(heartbeat_at) < julianday(:now) - :times * ttl_seconds / 86400"
)
_SILENT_SECONDS: Final = "(julianday(:now) - julianday(heartbeat_at)) * 86400"
_IS_RELEASED: Final = "ifnull(released_at > heartbeat_at, 0)"
_DUE: Final = (
    f"SELECT *, {_SILENT_SECONDS} AS silent, {_IS_RELEASED} AS is_released FROM ("
    " SELECT *, row_number() OVER ("
    f" PARTITION BY service ORDER BY {_SILENT_SECONDS} / ttl_seconds DESC) AS place"
    f" FROM instances WHERE {_SILENT}"
    ") ORDER BY place LIMIT :limit"
)
# An instance registered within the first ttl of another starts together with it: it replaces none.
_COUNTS: Final = f"""
    WITH known AS (
        SELECT
            service, julianday(heartbeat_at) AS heard, julianday(registered_at) AS registered,
            epoch, health, ttl_seconds / 86400 AS lease, state = 'registered' AS is_registered,
            {_SILENT} AS is_silent, {_IS_RELEASED} AS is_released
        FROM instances
        WHERE state = 'registered' OR (
            state = 'evicted' AND moved_at > :since AND NOT {_IS_RELEASED}
            AND julianday(heartbeat_at)
                > julianday(moved_at) - {PROTECTED_LEASES} * ttl_seconds / 86400
        )
    ), vanished AS (
        SELECT
            service, min(max(heard, registered + lease)) AS since,
            min(heard) AS first, max(heard + lease) AS last
        FROM known WHERE (is_silent OR NOT is_registered) AND NOT is_released GROUP BY service
    )
    SELECT
        service,
        sum(is_registered AND NOT (is_silent AND is_released)),
        sum(is_silent AND NOT is_released),
        sum(NOT is_registered),
        sum(
            is_registered AND NOT is_silent AND health = 'up' AND epoch = 1
            AND registered > ifnull(since, 1e9)
        ),
        ifnull((julianday(:now) - min(first)) * 86400, 0),
        ifnull((julianday(:now) - max(last)) * 86400, 0)
    FROM known LEFT JOIN vanished USING (service) GROUP BY service
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Origin:
    """The caller of a change, and for a registration the fingerprint of its definition."""

    actor: str = ACTOR
    request_id: str | None = None
    source: str | None = None
    registers: bool = False
    fingerprint: str | None = None


_SELF_ORIGIN: Final = _Origin()


class EmbeddedInstanceStore:
    def __init__(
        self, state: SQLiteState, on_change: Callable[[], None], at_most: int = MAX_INSTANCES
    ) -> None:
        """Store rows in `state`, and call `on_change` after each write.

        At most `at_most` instances of a service are registered.
        """
        self._calls = StateCalls(state, "the store of the registry", RegistryUnavailable)
        self._on_change = on_change
        self._at_most = at_most

    async def register(self, registration: Registration) -> RegistrationResult:
        return await self._write(
            partial(_register, registration=registration, at_most=self._at_most)
        )

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> InstanceRow:
        def deregister(connection: sqlite3.Connection) -> InstanceRow:
            ended = _deregistered_row(_require_registered(connection, service, instance_id, epoch))
            return _log(connection, ended, "deleted", _Origin(actor, request_id, source))

        return await self._write(deregister)

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
        def drain(connection: sqlite3.Connection) -> InstanceRow:
            until = datetime.now(UTC) + timedelta(seconds=grace_seconds)
            row = _require_registered(connection, service, instance_id, epoch)
            draining = replace(row, draining_until=until)
            return _log(connection, draining, "updated", _Origin(actor, request_id, source))

        return await self._write(drain)

    async def finish_drains(self) -> Sequence[InstanceRow]:
        return await self._write(_finish_drains)

    async def claim(
        self, tokens: Sequence[RowToken], owner: str, settle_seconds: float
    ) -> Sequence[InstanceRow]:
        return await self._write(
            partial(_claim, tokens=tokens, owner=owner, settle=timedelta(seconds=settle_seconds))
        )

    async def record_heartbeats(
        self, heartbeats: Sequence[Heartbeat]
    ) -> Mapping[InstanceKey, InstanceRow]:
        return await self._write(partial(_record_heartbeats, heartbeats=heartbeats))

    async def set_health(self, marks: Mapping[RowToken, HealthStatus]) -> Sequence[InstanceRow]:
        return await self._write(partial(_set_health, marks=marks))

    async def mark_suspects(self) -> EvictionCandidates:
        return await self._write(_mark_suspects)

    async def release(
        self, service: str | None, actor: str, request_id: str, source: str | None = None
    ) -> Sequence[InstanceKey]:
        origin = _Origin(actor, request_id, source)
        return await self._write(partial(_release, service=service, origin=origin))

    async def evict(self, tokens: Sequence[RowToken]) -> Sequence[InstanceRow]:
        return await self._write(partial(_evict, tokens=tokens))

    async def row(self, service: str, instance_id: str) -> InstanceRow | None:
        return await self._calls.read(partial(_find, service=service, instance_id=instance_id))

    async def rows_by_key(self, keys: Sequence[InstanceKey]) -> Mapping[InstanceKey, InstanceRow]:
        def current(connection: sqlite3.Connection) -> dict[InstanceKey, InstanceRow]:
            rows = (_find(connection, *key) for key in keys)
            return {row.key: row for row in rows if row is not None}

        return await self._calls.read(current)

    async def rows_of_owner(self, owner: str) -> Sequence[InstanceRow]:
        query = "SELECT * FROM instances WHERE state = 'registered' AND owner = :owner"
        return await self._calls.read(lambda connection: _rows(connection, query, owner=owner))

    async def rows_after(self, after: int, limit: int) -> Sequence[InstanceRow]:
        query = "SELECT * FROM instances WHERE revision > :after ORDER BY revision LIMIT :limit"
        return await self._calls.read(
            lambda connection: _rows(connection, query, after=after, limit=limit)
        )

    async def reap(self, older_than_seconds: float) -> Sequence[RowToken]:
        return await self._write(partial(_reap, age=timedelta(seconds=older_than_seconds)))

    async def ping(self) -> None:
        await self._calls.read(lambda connection: connection.execute("SELECT 1").fetchone())

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result = await self._calls.write(work)
        self._on_change()
        return result


def _register(
    connection: sqlite3.Connection, registration: Registration, at_most: int
) -> RegistrationResult:
    service, instance_id = registration.service, registration.instance_id
    now = datetime.now(UTC)
    before = _find(connection, service, instance_id)
    created = before is None or before.state != "registered"
    registered_epoch = 0 if before is None or created else before.epoch
    if registration.replaces not in {None, registered_epoch}:
        raise OldEpoch(registered_epoch)
    if created:
        (registered,) = connection.execute(
            "SELECT count(*) FROM instances WHERE service = ? AND state = 'registered'", (service,)
        ).fetchone()
        if registered >= at_most:
            raise TooManyInstances(service)
    logged = 0 if before is not None else _last_logged_version(connection, service, instance_id)
    row = InstanceRow(
        service=service,
        instance_id=instance_id,
        epoch=(logged if before is None else before.epoch) + 1,
        term=1,
        state="registered",
        health="up" if registration.lease == "heartbeat" else "starting",
        owner=registration.owner,
        definition=registration.definition,
        lease=registration.lease,
        ttl_seconds=registration.ttl_seconds,
        registered_at=now,
        heartbeat_at=now,
        draining_until=None,
        version=logged if before is None else before.version,
        revision=0,  # assigned later
    )
    action: Action = "created" if created else "updated"
    made = _log(connection, row, action, _origin(registration))
    _save_claim_time(connection, made, now)
    return RegistrationResult(made, created)


def _origin(of: Registration) -> _Origin:
    return _Origin(of.actor, of.request_id, of.source, registers=True, fingerprint=of.fingerprint)


def _last_logged_version(connection: sqlite3.Connection, service: str, instance_id: str) -> int:
    """Return the last version that a row had before it was reaped.

    No epoch was greater: each registration is at least one version.
    """
    row = connection.execute(
        "SELECT logged_version FROM documents WHERE doc = ?",
        (instance_entity(service, instance_id).key,),
    ).fetchone()
    return 0 if row is None else int(row["logged_version"])


def _require_registered(
    connection: sqlite3.Connection, service: str, instance_id: str, epoch: int | None
) -> InstanceRow:
    row = _find(connection, service, instance_id)
    if row is None or row.state != "registered":
        raise InstanceNotFound(service, instance_id)
    if epoch not in (None, row.epoch):
        raise OldEpoch(row.epoch)
    return row


def _finish_drains(connection: sqlite3.Connection) -> list[InstanceRow]:
    over = _rows(
        connection,
        "SELECT * FROM instances WHERE state = 'registered' AND draining_until <= :now"
        " ORDER BY service, instance_id LIMIT :limit",
        now=format_timestamp(datetime.now(UTC)),
        limit=MAX_LOGGED_PER_CALL,
    )
    return [_log(connection, _deregistered_row(row), "deleted") for row in over]


def _claim(
    connection: sqlite3.Connection, tokens: Sequence[RowToken], owner: str, settle: timedelta
) -> list[InstanceRow]:
    now = datetime.now(UTC)
    claimed: list[InstanceRow] = []
    for row in _rows_at_tokens(connection, tokens):
        (claimed_at,) = connection.execute(
            "SELECT claimed_at FROM instances WHERE service = ? AND instance_id = ?", row.key
        ).fetchone()
        if row.owner == owner or claimed_at <= format_timestamp(now - settle):
            claimed.append(replace(row, owner=owner, term=row.term + 1))
            _save_row(connection, claimed[-1])
            _save_claim_time(connection, row, now)
    return claimed


def _record_heartbeats(
    connection: sqlite3.Connection, heartbeats: Sequence[Heartbeat]
) -> dict[InstanceKey, InstanceRow]:
    now = datetime.now(UTC)
    heard: dict[InstanceKey, InstanceRow] = {}
    for service, instance_id, epoch in dict.fromkeys(heartbeats):
        row = _find(connection, service, instance_id)
        if row is None or row.state != "registered" or epoch not in (None, row.epoch):
            continue
        row = replace(row, heartbeat_at=max(now, row.heartbeat_at))
        if row.health == "suspect" and row.lease == "heartbeat":
            row = _log(connection, replace(row, health="up"), "updated")
        else:
            _save_row(connection, row)
        heard[row.key] = row
    return heard


def _set_health(
    connection: sqlite3.Connection, marks: Mapping[RowToken, HealthStatus]
) -> list[InstanceRow]:
    return [
        _log(connection, replace(row, health=marks[row.token]), "updated")
        for row in _rows_at_tokens(connection, tuple(marks))
        if row.health != marks[row.token]
    ]


def _mark_suspects(connection: sqlite3.Connection) -> EvictionCandidates:
    now = datetime.now(UTC)
    facts = {"now": format_timestamp(now), "limit": MAX_ROWS_PER_CALL}
    late = f"SELECT * FROM instances WHERE {_SILENT}"
    oldest = "ORDER BY heartbeat_at LIMIT :limit"
    early = {"now": facts["now"], "limit": MAX_LOGGED_PER_CALL, "times": 1}
    silent = _rows(connection, f"{late} AND health = 'up' {oldest}", **early)
    for row in sorted(silent, key=lambda row: row.key):
        _log(connection, replace(row, health="suspect"), "updated")
    counts = connection.execute(
        _COUNTS,
        {"now": format_timestamp(now), "times": 1, "since": format_timestamp(now - _MINUTE)},
    ).fetchall()
    due = connection.execute(_DUE, {**facts, "times": 2}).fetchall()
    due.sort(key=lambda row: row["silent"] / row["ttl_seconds"], reverse=True)
    return EvictionCandidates(
        due=[_row(row) for row in due],
        counts={service: ServiceCounts(*row) for service, *row in counts},
        silent_seconds={_key(row): row["silent"] for row in due},
        released=frozenset(_key(row) for row in due if row["is_released"]),
    )


def _key(row: sqlite3.Row) -> InstanceKey:
    return row["service"], row["instance_id"]


def _release(
    connection: sqlite3.Connection, service: str | None, origin: _Origin
) -> list[InstanceKey]:
    now = format_timestamp(datetime.now(UTC))
    facts = {"now": now, "times": 1, "service": service}
    condition = f"{_SILENT} AND service = ifnull(:service, service)"
    silent = connection.execute(
        f"SELECT * FROM instances WHERE {condition} ORDER BY service, instance_id", facts
    ).fetchall()
    connection.execute(f"UPDATE instances SET released_at = :now WHERE {condition}", facts)
    connection.execute(
        "INSERT INTO audit (at, actor, action, kind, environment, name, request_id, source, facts)"
        " VALUES (?, ?, ?, 'instance', 'default', ?, ?, ?, ?)",
        (
            now,
            origin.actor,
            RELEASE_ACTION,
            ALL_SERVICES if service is None else service,
            origin.request_id,
            origin.source,
            json.dumps({"instances": len(silent)}),
        ),
    )
    return [_key(row) for row in silent]


def _evict(connection: sqlite3.Connection, tokens: Sequence[RowToken]) -> list[InstanceRow]:
    silent = _rows(
        connection,
        f"SELECT * FROM instances WHERE {_SILENT} ORDER BY service, instance_id",
        now=format_timestamp(datetime.now(UTC)),
        times=2,
    )
    wanted = set(tokens)
    return [
        _log(connection, replace(_deregistered_row(row), state="evicted"), "deleted")
        for row in silent
        if row.token in wanted
    ]


def _reap(connection: sqlite3.Connection, age: timedelta) -> list[RowToken]:
    gone = [
        row.token
        for row in _rows(
            connection,
            "SELECT * FROM instances WHERE state <> 'registered' AND moved_at < :until"
            " ORDER BY service, instance_id LIMIT :limit",
            until=format_timestamp(datetime.now(UTC) - age),
            limit=MAX_ROWS_PER_CALL,
        )
    ]
    connection.executemany(
        "DELETE FROM instances WHERE service = ? AND instance_id = ?", [token[:2] for token in gone]
    )
    return gone


def _deregistered_row(row: InstanceRow) -> InstanceRow:
    return replace(row, state="deregistered", term=row.term + 1)


def _rows_at_tokens(
    connection: sqlite3.Connection, tokens: Iterable[RowToken]
) -> list[InstanceRow]:
    """Return the registered rows that are still at their token, without duplicates."""
    candidates = (_find(connection, token.service, token.instance_id) for token in tokens)
    wanted = set(tokens)
    rows = {row.key: row for row in candidates if row is not None and row.token in wanted}
    return [row for _, row in sorted(rows.items()) if row.state == "registered"]


def _log(
    connection: sqlite3.Connection,
    row: InstanceRow,
    action: Action,
    origin: _Origin = _SELF_ORIGIN,
) -> InstanceRow:
    """Store a changed row as its next version, and log the change."""
    before, after = _fingerprints(connection, row, origin)
    change = Change(
        revision=0,  # assigned later
        id=str(uuid4()),
        entity=instance_entity(row.service, row.instance_id),
        version=row.version + 1,
        action=action,
        actor=origin.actor,
        comment="",
        at=datetime.now(UTC),
        deleted=action == "deleted",
    )
    # Only for the definition: a change of health does not affect it.
    facts = None
    if change.deleted or before != after:
        facts = json.dumps({"before": before, "after": None if change.deleted else after})
    revision = append_change(connection, change, origin.request_id, origin.source, facts)
    row = replace(row, version=change.version, revision=revision)
    _save_row(connection, row)
    connection.execute(
        "UPDATE instances SET moved_at = ?, fingerprint = ? WHERE service = ? AND instance_id = ?",
        (format_timestamp(change.at), after, *row.key),
    )
    return row


def _fingerprints(
    connection: sqlite3.Connection, row: InstanceRow, origin: _Origin
) -> tuple[str | None, str | None]:
    """Return the fingerprints of the definition before (if it was registered) and after."""
    stored = connection.execute(
        "SELECT state, fingerprint FROM instances WHERE service = ? AND instance_id = ?", row.key
    ).fetchone()
    state, present = stored or (None, None)
    after = origin.fingerprint if origin.registers else present
    return present if state == "registered" else None, after


def _save_row(connection: sqlite3.Connection, row: InstanceRow) -> None:
    connection.execute(
        "INSERT INTO instances (service, instance_id, epoch, term, state, health, owner,"
        " definition, lease, ttl_seconds, registered_at, heartbeat_at, claimed_at,"
        " draining_until, version, revision, moved_at)"
        " VALUES (:service, :instance_id, :epoch, :term, :state, :health,"
        " :owner, :definition, :lease, :ttl_seconds, :registered_at, :heartbeat_at, '',"
        " :draining_until, :version, :revision, '')"
        " ON CONFLICT (service, instance_id) DO UPDATE SET epoch = :epoch, term = :term,"
        " state = :state, health = :health, owner = :owner, definition = :definition,"
        " lease = :lease, ttl_seconds = :ttl_seconds, registered_at = :registered_at,"
        " heartbeat_at = :heartbeat_at, draining_until = :draining_until, version = :version,"
        " revision = :revision",
        {
            "service": row.service,
            "instance_id": row.instance_id,
            "epoch": row.epoch,
            "term": row.term,
            "state": row.state,
            "health": row.health,
            "owner": row.owner,
            "definition": row.definition,
            "lease": row.lease,
            "ttl_seconds": row.ttl_seconds,
            "registered_at": format_timestamp(row.registered_at),
            "heartbeat_at": format_timestamp(row.heartbeat_at),
            "draining_until": None
            if row.draining_until is None
            else format_timestamp(row.draining_until),
            "version": row.version,
            "revision": row.revision,
        },
    )


def _save_claim_time(connection: sqlite3.Connection, row: InstanceRow, at: datetime) -> None:
    connection.execute(
        "UPDATE instances SET claimed_at = ? WHERE service = ? AND instance_id = ?",
        (format_timestamp(at), *row.key),
    )


def _find(connection: sqlite3.Connection, service: str, instance_id: str) -> InstanceRow | None:
    query = "SELECT * FROM instances WHERE service = :service AND instance_id = :instance_id"
    rows = _rows(connection, query, service=service, instance_id=instance_id)
    return rows[0] if rows else None


def _rows(connection: sqlite3.Connection, query: str, **facts: object) -> list[InstanceRow]:
    return [_row(row) for row in connection.execute(query, facts)]


def _row(row: sqlite3.Row) -> InstanceRow:
    until = row["draining_until"]
    return InstanceRow(
        service=row["service"],
        instance_id=row["instance_id"],
        epoch=row["epoch"],
        term=row["term"],
        state=row["state"],
        health=row["health"],
        owner=row["owner"],
        definition=row["definition"],
        lease=row["lease"],
        ttl_seconds=row["ttl_seconds"],
        registered_at=datetime.fromisoformat(row["registered_at"]),
        heartbeat_at=datetime.fromisoformat(row["heartbeat_at"]),
        draining_until=None if until is None else datetime.fromisoformat(until),
        version=row["version"],
        revision=row["revision"],
    )
