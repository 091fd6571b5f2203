"""The desired state of the registry in this process's own state: the default, for one replica."""
# ruff: noqa: S608 - the statements are put together of constants

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import uuid4

from app.changes.model import Action, Change
from app.changes.rows import log_change, stamp
from app.registry.errors import InstanceNotFound, OldEpoch, RegistryUnavailable, TooManyInstances
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
    entity,
)
from app.state import State, StateUnavailable

_MINUTE: Final = timedelta(minutes=1)
# Not heard for :times its ttl. Days as numbers are exact to the millisecond.
_SILENT: Final = (
    "state = 'registered' AND lease = 'heartbeat'"
    " AND julianday(heartbeat_at) < julianday(:now) - :times * ttl_seconds / 86400"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Origin:
    """Who asks for a change, and for a registration the fingerprint of its definition."""

    actor: str = ACTOR
    request_id: str | None = None
    source: str | None = None
    registers: bool = False
    fingerprint: str | None = None


_NOBODY: Final = _Origin()


class EmbeddedInstanceRows:
    def __init__(
        self, state: State, moved: Callable[[], None], at_most: int = INSTANCES_AT_MOST
    ) -> None:
        """Keep rows in `state`, and call `moved` when something was logged there.

        Of each service `at_most` instances are registered.
        """
        self._state = state
        self._moved = moved
        self._at_most = at_most

    async def register(self, registration: Registration) -> Registered:
        made = partial(_register, registration=registration, at_most=self._at_most)
        return await self._write(made)

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> Row:
        def deregister(connection: sqlite3.Connection) -> Row:
            ended = _ended(_registered(connection, service, instance_id, epoch))
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
    ) -> Row:
        def drain(connection: sqlite3.Connection) -> Row:
            until = datetime.now(UTC) + timedelta(seconds=grace_seconds)
            row = _registered(connection, service, instance_id, epoch)
            draining = replace(row, draining_until=until)
            return _log(connection, draining, "updated", _Origin(actor, request_id, source))

        return await self._write(drain)

    async def drained(self) -> Sequence[Row]:
        return await self._write(_drained)

    async def claim(self, tags: Sequence[Tag], owner: str, settle_seconds: float) -> Sequence[Row]:
        return await self._write(
            partial(_claim, tags=tags, owner=owner, settle=timedelta(seconds=settle_seconds))
        )

    async def beat(self, beats: Sequence[Beat]) -> Mapping[Key, Row]:
        return await self._write(partial(_beat, beats=beats))

    async def judge(self, marks: Mapping[Tag, Health]) -> Sequence[Row]:
        return await self._write(partial(_judge, marks=marks))

    async def overdue(self) -> Overdue:
        return await self._write(_overdue)

    async def evict(self, tags: Sequence[Tag]) -> Sequence[Row]:
        return await self._write(partial(_evict, tags=tags))

    async def row(self, service: str, instance_id: str) -> Row | None:
        return await self._read(partial(_find, service=service, instance_id=instance_id))

    async def current(self, keys: Sequence[Key]) -> Mapping[Key, Row]:
        def current(connection: sqlite3.Connection) -> dict[Key, Row]:
            found = (_find(connection, *key) for key in keys)
            return {row.key: row for row in found if row is not None}

        return await self._read(current)

    async def owned(self, owner: str) -> Sequence[Row]:
        query = "SELECT * FROM instances WHERE state = 'registered' AND owner = :owner"
        return await self._read(lambda connection: _rows(connection, query, owner=owner))

    async def newer(self, after: int, limit: int) -> Sequence[Row]:
        query = "SELECT * FROM instances WHERE revision > :after ORDER BY revision LIMIT :limit"
        return await self._read(
            lambda connection: _rows(connection, query, after=after, limit=limit)
        )

    async def reap(self, older_than_seconds: float) -> Sequence[Tag]:
        return await self._write(partial(_reap, age=timedelta(seconds=older_than_seconds)))

    async def ping(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT 1").fetchone())

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            done = await self._state.run(work)
        except StateUnavailable as failure:
            raise RegistryUnavailable("the store of the registry cannot be written") from failure
        self._moved()
        return done

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._state.read(work)
        except StateUnavailable as failure:
            raise RegistryUnavailable("the store of the registry cannot be read") from failure


def _register(
    connection: sqlite3.Connection, registration: Registration, at_most: int
) -> Registered:
    service, instance_id = registration.service, registration.instance_id
    now = datetime.now(UTC)
    before = _find(connection, service, instance_id)
    created = before is None or before.state != "registered"
    if created:
        (registered,) = connection.execute(
            "SELECT count(*) FROM instances WHERE service = ? AND state = 'registered'", (service,)
        ).fetchone()
        if registered >= at_most:
            raise TooManyInstances(service)
    logged = 0 if before is not None else _logged(connection, service, instance_id)
    row = Row(
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
        revision=0,  # not known yet
    )
    action: Action = "created" if created else "updated"
    made = _log(connection, row, action, _origin(registration))
    _note_claim(connection, made, now)
    return Registered(made, created)


def _origin(of: Registration) -> _Origin:
    return _Origin(of.actor, of.request_id, of.source, registers=True, fingerprint=of.fingerprint)


def _logged(connection: sqlite3.Connection, service: str, instance_id: str) -> int:
    """Return the last version that a row had before it was reaped.

    No epoch was later: each registration is one version of many.
    """
    found = connection.execute(
        "SELECT logged_version FROM documents WHERE doc = ?", (entity(service, instance_id).key,)
    ).fetchone()
    return 0 if found is None else int(found["logged_version"])


def _registered(
    connection: sqlite3.Connection, service: str, instance_id: str, epoch: int | None
) -> Row:
    row = _find(connection, service, instance_id)
    if row is None or row.state != "registered":
        raise InstanceNotFound(service, instance_id)
    if epoch not in (None, row.epoch):
        raise OldEpoch(row.epoch)
    return row


def _drained(connection: sqlite3.Connection) -> list[Row]:
    over = _rows(
        connection,
        "SELECT * FROM instances WHERE state = 'registered' AND draining_until <= :now"
        " ORDER BY service, instance_id LIMIT :limit",
        now=stamp(datetime.now(UTC)),
        limit=AT_ONCE,
    )
    return [_log(connection, _ended(row), "deleted") for row in over]


def _claim(
    connection: sqlite3.Connection, tags: Sequence[Tag], owner: str, settle: timedelta
) -> list[Row]:
    now = datetime.now(UTC)
    claimed: list[Row] = []
    for row in _at(connection, tags):
        (claimed_at,) = connection.execute(
            "SELECT claimed_at FROM instances WHERE service = ? AND instance_id = ?", row.key
        ).fetchone()
        if row.owner == owner or claimed_at <= stamp(now - settle):
            claimed.append(replace(row, owner=owner, term=row.term + 1))
            _keep(connection, claimed[-1])
            _note_claim(connection, row, now)
    return claimed


def _beat(connection: sqlite3.Connection, beats: Sequence[Beat]) -> dict[Key, Row]:
    now = datetime.now(UTC)
    heard: dict[Key, Row] = {}
    for service, instance_id, epoch in dict.fromkeys(beats):
        row = _find(connection, service, instance_id)
        if row is None or row.state != "registered" or epoch not in (None, row.epoch):
            continue
        row = replace(row, heartbeat_at=max(now, row.heartbeat_at))
        if row.health == "suspect" and row.lease == "heartbeat":
            row = _log(connection, replace(row, health="up"), "updated")
        else:
            _keep(connection, row)
        heard[row.key] = row
    return heard


def _judge(connection: sqlite3.Connection, marks: Mapping[Tag, Health]) -> list[Row]:
    return [
        _log(connection, replace(row, health=marks[row.tag]), "updated")
        for row in _at(connection, tuple(marks))
        if row.health != marks[row.tag]
    ]


def _overdue(connection: sqlite3.Connection) -> Overdue:
    now = datetime.now(UTC)
    facts = {"now": stamp(now), "limit": AT_ONCE}
    late = f"SELECT * FROM instances WHERE {_SILENT}"
    oldest = "ORDER BY heartbeat_at LIMIT :limit"
    silent = _rows(connection, f"{late} AND health = 'up' {oldest}", times=1, **facts)
    for row in sorted(silent, key=lambda row: row.key):
        _log(connection, replace(row, health="suspect"), "updated")
    counts = connection.execute(
        "SELECT service, sum(state = 'registered') AS registered,"
        f" sum({_SILENT}) AS overdue, sum(state = 'evicted') AS evicted FROM instances"
        " WHERE state = 'registered' OR state = 'evicted' AND moved_at > :since GROUP BY service",
        {"now": stamp(now), "times": 1, "since": stamp(now - _MINUTE)},
    )
    return Overdue(
        due=_rows(connection, f"{late} {oldest}", times=2, **facts),
        counts={row["service"]: Counts(*row[1:]) for row in counts},
    )


def _evict(connection: sqlite3.Connection, tags: Sequence[Tag]) -> list[Row]:
    silent = _rows(
        connection,
        f"SELECT * FROM instances WHERE {_SILENT} ORDER BY service, instance_id",
        now=stamp(datetime.now(UTC)),
        times=2,
    )
    asked = set(tags)
    return [
        _log(connection, replace(_ended(row), state="evicted"), "deleted")
        for row in silent
        if row.tag in asked
    ]


def _reap(connection: sqlite3.Connection, age: timedelta) -> list[Tag]:
    gone = [
        row.tag
        for row in _rows(
            connection,
            "SELECT * FROM instances WHERE state <> 'registered' AND moved_at < :until"
            " ORDER BY service, instance_id LIMIT :limit",
            until=stamp(datetime.now(UTC) - age),
            limit=AT_ONCE,
        )
    ]
    connection.executemany(
        "DELETE FROM instances WHERE service = ? AND instance_id = ?", [tag[:2] for tag in gone]
    )
    return gone


def _ended(row: Row) -> Row:
    return replace(row, state="deregistered", term=row.term + 1)


def _at(connection: sqlite3.Connection, tags: Iterable[Tag]) -> list[Row]:
    """Return the registered rows that are still at their tag, each once."""
    found = (_find(connection, tag.service, tag.instance_id) for tag in tags)
    asked = set(tags)
    rows = {row.key: row for row in found if row is not None and row.tag in asked}
    return [row for _, row in sorted(rows.items()) if row.state == "registered"]


def _log(
    connection: sqlite3.Connection,
    row: Row,
    action: Action,
    origin: _Origin = _NOBODY,
) -> Row:
    """Store a changed row as its next version, with its change."""
    before, after = _fingerprints(connection, row, origin)
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=entity(row.service, row.instance_id),
        version=row.version + 1,
        action=action,
        actor=origin.actor,
        comment="",
        at=datetime.now(UTC),
        deleted=action == "deleted",
    )
    # Of what is registered: a health that moves changes nothing of that.
    facts = None
    if change.deleted or before != after:
        facts = json.dumps({"before": before, "after": None if change.deleted else after})
    revision = log_change(connection, change, origin.request_id, origin.source, facts)
    row = replace(row, version=change.version, revision=revision)
    _keep(connection, row)
    connection.execute(
        "UPDATE instances SET moved_at = ?, fingerprint = ? WHERE service = ? AND instance_id = ?",
        (stamp(change.at), after, *row.key),
    )
    return row


def _fingerprints(
    connection: sqlite3.Connection, row: Row, origin: _Origin
) -> tuple[str | None, str | None]:
    """Return what the audit says of the definition before (if it was registered) and after."""
    found = connection.execute(
        "SELECT state, fingerprint FROM instances WHERE service = ? AND instance_id = ?", row.key
    ).fetchone()
    state, present = found or (None, None)
    after = origin.fingerprint if origin.registers else present
    return present if state == "registered" else None, after


def _keep(connection: sqlite3.Connection, row: Row) -> None:
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
            "registered_at": stamp(row.registered_at),
            "heartbeat_at": stamp(row.heartbeat_at),
            "draining_until": None if row.draining_until is None else stamp(row.draining_until),
            "version": row.version,
            "revision": row.revision,
        },
    )


def _note_claim(connection: sqlite3.Connection, row: Row, at: datetime) -> None:
    connection.execute(
        "UPDATE instances SET claimed_at = ? WHERE service = ? AND instance_id = ?",
        (stamp(at), *row.key),
    )


def _find(connection: sqlite3.Connection, service: str, instance_id: str) -> Row | None:
    query = "SELECT * FROM instances WHERE service = :service AND instance_id = :instance_id"
    found = _rows(connection, query, service=service, instance_id=instance_id)
    return found[0] if found else None


def _rows(connection: sqlite3.Connection, query: str, **facts: object) -> list[Row]:
    return [_row(row) for row in connection.execute(query, facts)]


def _row(row: sqlite3.Row) -> Row:
    until = row["draining_until"]
    return Row(
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
