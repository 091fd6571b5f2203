"""Releases in this process's own state: the default, for one replica."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Action, Change
from app.configs.errors import ReleaseRunning
from app.proposals.releases.errors import (
    ReleaseEnded,
    ReleaseMoved,
    ReleaseNotFound,
    ReleasesUnavailable,
    TooManyReleases,
)
from app.proposals.releases.model import (
    MOST_ACTIVE,
    Item,
    Move,
    NewRelease,
    Origin,
    Release,
    Selection,
    Subject,
    audit_facts,
)
from app.proposals.releases.store.plan_text import plan_of_text, plan_text
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_ACTIVE = "state IN ('running', 'held', 'finishing')"


class EmbeddedReleaseStore:
    def __init__(self, state: SQLiteState, moved: Callable[[], None]) -> None:
        """Keep releases in `state`, and call `moved` when something was logged there."""
        self._calls = StateCalls(state, "the store of releases", ReleasesUnavailable)
        self._moved = moved

    async def start(self, release: NewRelease, origin: Origin) -> Release:
        started = await self._calls.write(partial(_start, new=release, origin=origin))
        self._moved()
        return started

    async def move(self, move: Move, origin: Origin) -> Release:
        moved = await self._calls.write(partial(_move, move=move, origin=origin))
        self._moved()
        return moved

    async def get(self, release: str) -> Release:
        return await self._calls.read(partial(_require, release=release))

    async def active(self) -> tuple[datetime, Sequence[Release]]:
        query = f"SELECT * FROM releases WHERE {_ACTIVE} ORDER BY started_at, id"  # noqa: S608
        return datetime.now(UTC), await self._select(query)

    async def changed_after(self, after: int, limit: int) -> Sequence[Release]:
        query = "SELECT * FROM releases WHERE revision > ? ORDER BY revision LIMIT ?"
        return await self._select(query, after, limit)

    async def page(
        self, selection: Selection, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Release]:
        started_at, release = ("~", "") if after is None else (format_timestamp(after[0]), after[1])
        states = None if selection.states is None else json.dumps(sorted(selection.states))
        query = (
            "SELECT * FROM releases WHERE (started_at, id) < (?, ?)"
            " AND environment = ifnull(?, environment) AND service = ifnull(?, service)"
            " AND (? IS NULL OR proposal = ?)"
            " AND (? IS NULL OR state IN (SELECT value FROM json_each(?)))"
            " ORDER BY started_at DESC, id DESC LIMIT ?"
        )
        return await self._select(
            query,
            started_at,
            release,
            selection.environment,
            selection.service,
            selection.proposal,
            selection.proposal,
            states,
            states,
            limit,
        )

    async def _select(self, query: str, *values: object) -> list[Release]:
        def select(connection: sqlite3.Connection) -> list[Release]:
            return [_release_of_row(row) for row in connection.execute(query, values)]

        return await self._calls.read(select)


def _start(connection: sqlite3.Connection, new: NewRelease, origin: Origin) -> Release:
    known = _one(connection, "id = ?", new.id)
    if known is not None:
        return known
    running = _one(
        connection,
        f"{_ACTIVE} AND (kind, environment, service, flag) = (?, ?, ?, ?)",
        *astuple(new.subject),
    )
    if running is not None:
        raise ReleaseRunning(running.id, str(new.subject))
    (active,) = connection.execute(f"SELECT count(*) FROM releases WHERE {_ACTIVE}").fetchone()  # noqa: S608
    if active >= MOST_ACTIVE:
        raise TooManyReleases(MOST_ACTIVE)
    now = datetime.now(UTC)
    release = Release(
        id=new.id,
        version=1,
        subject=new.subject,
        plan=new.plan,
        keys=new.keys,
        base=new.base,
        item=new.item,
        members=frozenset(new.members),
        state="running",
        step=0,
        step_since=now,
        started_at=now,
        started_by=origin.actor,
        ended_at=None,
        signal="",
        actor=origin.actor,
        comment=origin.comment,
        revision=0,
    )
    return _write(connection, release, origin, "created", now)


def _move(connection: sqlite3.Connection, move: Move, origin: Origin) -> Release:
    known = _require(connection, move.release)
    if not known.is_active:
        raise ReleaseEnded(move.release, known.state)
    if known.version != move.version:
        raise ReleaseMoved(move.release, known.version)
    now = datetime.now(UTC)
    moved = replace(
        known,
        version=known.version + 1,
        state=move.state,
        step=move.step,
        step_since=now if move.restarts else known.step_since,
        members=known.members if move.members is None else frozenset(move.members),
        ended_at=now if move.state in ("done", "aborted") else None,
        signal=move.signal,
        actor=origin.actor,
        comment=origin.comment,
    )
    return _write(connection, moved, origin, "updated", now)


def _write(
    connection: sqlite3.Connection,
    release: Release,
    origin: Origin,
    action: Action,
    now: datetime,
) -> Release:
    """Write a release with its change in the log and the audit."""
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=release.entity,
        version=release.version,
        action=action,
        actor=origin.actor,
        comment=origin.comment,
        at=now,
    )
    facts = audit_facts(release.subject, release.item, release.state, release.step, release.signal)
    revision = append_change(
        connection, change, origin.request_id, origin.source, json.dumps(facts)
    )
    logged = replace(release, revision=revision)
    row = _row_of(logged)
    names = ", ".join(f":{name}" for name in row)
    connection.execute(
        f"INSERT OR REPLACE INTO releases ({', '.join(row)}) VALUES ({names})",  # noqa: S608
        row,
    )
    return logged


def _one(connection: sqlite3.Connection, condition: str, *values: object) -> Release | None:
    query = f"SELECT * FROM releases WHERE {condition}"  # noqa: S608 - a text of this module
    row = connection.execute(query, values).fetchone()
    return None if row is None else _release_of_row(row)


def _require(connection: sqlite3.Connection, release: str) -> Release:
    known = _one(connection, "id = ?", release)
    if known is None:
        raise ReleaseNotFound(release)
    return known


def _row_of(release: Release) -> Mapping[str, object]:
    item = release.item
    return {
        "id": release.id,
        "version": release.version,
        "kind": release.subject.kind,
        "environment": release.subject.environment,
        "service": release.subject.service,
        "flag": release.subject.flag,
        "plan": plan_text(release.plan),
        "keys": json.dumps(release.keys),
        "base": release.base,
        "proposal": item and item.proposal,
        "round": item and item.round,
        "item": item and item.item,
        "members": json.dumps(sorted(release.members)),
        "state": release.state,
        "step": release.step,
        "step_since": format_timestamp(release.step_since),
        "started_at": format_timestamp(release.started_at),
        "started_by": release.started_by,
        "ended_at": release.ended_at and format_timestamp(release.ended_at),
        "signal": release.signal,
        "actor": release.actor,
        "comment": release.comment,
        "revision": release.revision,
    }


def _release_of_row(row: sqlite3.Row) -> Release:
    ended_at, proposal = row["ended_at"], row["proposal"]
    return Release(
        id=row["id"],
        version=row["version"],
        subject=Subject(row["kind"], row["environment"], row["service"], row["flag"]),
        plan=plan_of_text(row["plan"]),
        keys=tuple(json.loads(row["keys"])),
        base=row["base"],
        item=None if proposal is None else Item(proposal, row["round"], row["item"]),
        members=frozenset(json.loads(row["members"])),
        state=row["state"],
        step=row["step"],
        step_since=datetime.fromisoformat(row["step_since"]),
        started_at=datetime.fromisoformat(row["started_at"]),
        started_by=row["started_by"],
        ended_at=ended_at and datetime.fromisoformat(ended_at),
        signal=row["signal"],
        actor=row["actor"],
        comment=row["comment"],
        revision=row["revision"],
    )
