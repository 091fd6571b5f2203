"""Releases in Postgres: one statement a call."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, func, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.configs.errors import ReleaseRunning
from app.postgres.calls import Calls
from app.postgres.tables import releases
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

_START: Final = text(
    "SELECT outcome, (release).* FROM start_release(CAST(:release AS jsonb), :most, :actor,"
    " :comment, :request_id, :source, CAST(:facts AS jsonb))"
)
_MOVE: Final = text(
    "SELECT outcome, (release).* FROM move_release(:id, :version, :state, :step, :restarts,"
    " CAST(:members AS text[]), :signal, :actor, :comment, :request_id, :source,"
    " CAST(:facts AS jsonb))"
)
_IS_ACTIVE: Final = text("state IN ('running', 'held', 'finishing')")  # as the index has it


class PostgresReleaseStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine, lambda why: ReleasesUnavailable(f"the store of releases does not answer: {why}")
        )

    async def start(self, release: NewRelease, origin: Origin) -> Release:
        facts = audit_facts(release.subject, release.item, "running", 0, "")
        parameters = {
            "release": json.dumps(_members(release)),
            "most": MOST_ACTIVE,
            **_origin_members(origin, facts),
        }
        row = (await self._calls.run("releases_start", _START, parameters)).one()
        if row.outcome == "running":
            raise ReleaseRunning(row.id, str(release.subject))
        if row.outcome == "too_many":
            raise TooManyReleases(MOST_ACTIVE)
        return _release(row)

    async def move(self, move: Move, origin: Origin) -> Release:
        facts: dict[str, object] = {"state": move.state, "step": move.step}
        if move.signal:
            facts["signal"] = move.signal
        parameters = {
            "id": move.release,
            "version": move.version,
            "state": move.state,
            "step": move.step,
            "restarts": move.restarts,
            "members": None if move.members is None else sorted(move.members),
            "signal": move.signal,
            **_origin_members(origin, facts),
        }
        # Not asked again: if the first was committed unheard, the second would find it moved.
        done = await self._calls.run("releases_move", _MOVE, parameters, again=False)
        row = done.one()
        if row.outcome == "unknown":
            raise ReleaseNotFound(move.release)
        if row.outcome == "ended":
            raise ReleaseEnded(move.release, row.state)
        if row.outcome == "moved":
            raise ReleaseMoved(move.release, row.version)
        return _release(row)

    async def get(self, release: str) -> Release:
        query = select(releases).where(releases.c.id == release)
        row = (await self._calls.run("releases_one", query)).one_or_none()
        if row is None:
            raise ReleaseNotFound(release)
        return _release(row)

    async def active(self) -> tuple[datetime, Sequence[Release]]:
        now = select(func.clock_timestamp().label("now")).subquery()
        query = (
            select(now.c.now, releases)
            .select_from(now.outerjoin(releases, _IS_ACTIVE))
            .order_by(releases.c.started_at, releases.c.id)
        )
        rows = (await self._calls.run("releases_active", query)).all()
        return rows[0].now, [_release(row) for row in rows if row.id is not None]

    async def changed_after(self, after: int, limit: int) -> Sequence[Release]:
        query = (
            select(releases)
            .where(releases.c.revision > after)
            .order_by(releases.c.revision)
            .limit(limit)
        )
        return [_release(row) for row in await self._calls.run("releases_newer", query)]

    async def page(
        self, selection: Selection, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Release]:
        place = tuple_(releases.c.started_at, releases.c.id)
        query = (
            select(releases)
            .where(
                *_conditions(selection),
                true() if after is None else place < after,
            )
            .order_by(releases.c.started_at.desc(), releases.c.id.desc())
            .limit(limit)
        )
        return [_release(row) for row in await self._calls.run("releases_page", query)]


def _conditions(selection: Selection) -> list[ColumnElement[bool]]:
    columns, conditions = releases.c, list[ColumnElement[bool]]()
    for column, value in (
        (columns.environment, selection.environment),
        (columns.service, selection.service),
        (columns.proposal, selection.proposal),
    ):
        if value is not None:
            conditions.append(column == value)
    if selection.states is not None:
        conditions.append(columns.state.in_(sorted(selection.states)))
    return conditions


def _members(release: NewRelease) -> dict[str, object]:
    item = release.item
    return {
        "id": release.id,
        "kind": release.subject.kind,
        "environment": release.subject.environment,
        "service": release.subject.service,
        "flag": release.subject.flag,
        "plan": plan_text(release.plan),
        "keys": release.keys,
        "base": release.base,
        "proposal": item and item.proposal,
        "round": item and item.round,
        "item": item and item.item,
        "members": sorted(release.members),
    }


def _origin_members(origin: Origin, facts: dict[str, object]) -> dict[str, object]:
    return {
        "actor": origin.actor,
        "comment": origin.comment,
        "request_id": origin.request_id,
        "source": origin.source,
        "facts": json.dumps(facts),
    }


def _release(row: Row[Any]) -> Release:
    return Release(
        id=row.id,
        version=row.version,
        subject=Subject(row.kind, row.environment, row.service, row.flag),
        plan=plan_of_text(row.plan),
        keys=tuple(row.keys),
        base=row.base,
        item=None if row.proposal is None else Item(row.proposal, row.round, row.item),
        members=frozenset(row.members),
        state=row.state,
        step=row.step,
        step_since=row.step_since,
        started_at=row.started_at,
        started_by=row.started_by,
        ended_at=row.ended_at,
        signal=row.signal,
        actor=row.actor,
        comment=row.comment,
        revision=row.revision,
    )
