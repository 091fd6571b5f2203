"""Proposals in this process's own state: the default, for one replica."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from app.changes.errors import IdempotencyKeyReused
from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Change
from app.proposals.errors import (
    ProposalMoved,
    ProposalNotFound,
    ProposalsUnavailable,
    TooManyProposals,
)
from app.proposals.model import MOST_OPEN, OPEN_STATES, Proposal, ProposalCommit, ProposalFilter
from app.proposals.serialization import proposal_json, read_proposal
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_KEY_LIFE = timedelta(hours=24)
_LIST = (
    "SELECT * FROM proposals WHERE (:states IS NULL OR state IN (SELECT value FROM"
    " json_each(:states))) AND (:environment IS NULL OR EXISTS (SELECT 1 FROM"
    " json_each(environments) WHERE value = :environment)) AND (:author IS NULL OR author ="
    " :author) AND (:before IS NULL OR number < :before) ORDER BY number DESC LIMIT :limit"
)
_DUE = (
    "SELECT * FROM proposals WHERE (state = 'scheduled' AND apply_at <= :now)"
    " OR (state = 'applying' AND updated_at <= :idle)"
    " ORDER BY ifnull(apply_at, updated_at) LIMIT :limit"
)


class EmbeddedProposalStore:
    def __init__(self, state: SQLiteState, moved: Callable[[], None]) -> None:
        """Keep proposals in `state`, and call `moved` when something was logged there."""
        self._calls = StateCalls(state, "the store of proposals", ProposalsUnavailable)
        self._moved = moved

    async def create(self, commit: ProposalCommit) -> tuple[Proposal, bool]:
        proposal, is_new = await self._calls.write(partial(_create, commit=commit))
        self._moved()
        return proposal, is_new

    async def proposal_under(self, key: str, digest: str) -> Proposal | None:
        return await self._calls.read(partial(_earlier, key=key, digest=digest))

    async def replace(self, commit: ProposalCommit) -> Proposal:
        proposal = await self._calls.write(partial(_replace, commit=commit))
        self._moved()
        return proposal

    async def proposal(self, proposal_id: str) -> Proposal:
        proposals = await self._query("SELECT * FROM proposals WHERE id = :id", id=proposal_id)
        if not proposals:
            raise ProposalNotFound(proposal_id)
        return proposals[0]

    async def proposals(
        self, filters: ProposalFilter, limit: int, before: int | None = None
    ) -> Sequence[Proposal]:
        return await self._query(
            _LIST,
            states=None if filters.states is None else json.dumps(sorted(filters.states)),
            environment=filters.environment,
            author=filters.author,
            before=before,
            limit=limit,
        )

    async def due_proposals(self, limit: int, idle_seconds: float) -> Sequence[Proposal]:
        now = datetime.now(UTC)
        return await self._query(
            _DUE,
            now=format_timestamp(now),
            idle=format_timestamp(now - timedelta(seconds=idle_seconds)),
            limit=limit,
        )

    async def now(self) -> datetime:
        return datetime.now(UTC)

    async def _query(self, query: str, **values: object) -> list[Proposal]:
        def work(connection: sqlite3.Connection) -> list[Proposal]:
            return [_proposal(row) for row in connection.execute(query, values)]

        return await self._calls.read(work)


def _create(connection: sqlite3.Connection, commit: ProposalCommit) -> tuple[Proposal, bool]:
    now = datetime.now(UTC)
    if commit.idempotency_key is not None:
        earlier = _earlier(connection, commit.idempotency_key, commit.digest)
        if earlier is not None:
            return earlier, False
        connection.execute(
            "UPDATE proposals SET idempotency_key = NULL WHERE idempotency_key = ?",
            (commit.idempotency_key,),
        )
    (count,) = connection.execute("SELECT count(*) FROM proposals WHERE is_open").fetchone()
    if count >= MOST_OPEN and commit.proposal.is_open:
        raise TooManyProposals(MOST_OPEN)
    (number,) = connection.execute("SELECT ifnull(max(number), 0) + 1 FROM proposals").fetchone()
    return _write(connection, commit, number, now, now), True


def _earlier(connection: sqlite3.Connection, key: str, digest: str | None) -> Proposal | None:
    row = connection.execute(
        "SELECT * FROM proposals WHERE idempotency_key = ? AND created_at > ?",
        (key, format_timestamp(datetime.now(UTC) - _KEY_LIFE)),
    ).fetchone()
    if row is not None and row["digest"] != digest:
        raise IdempotencyKeyReused
    return None if row is None else _proposal(row)


def _replace(connection: sqlite3.Connection, commit: ProposalCommit) -> Proposal:
    row = connection.execute(
        "SELECT version, number, created_at FROM proposals WHERE id = ?", (commit.proposal.id,)
    ).fetchone()
    if row is None or row["version"] != commit.proposal.version:
        raise ProposalMoved(commit.proposal.id)
    created_at = datetime.fromisoformat(row["created_at"])
    return _write(connection, commit, row["number"], created_at, datetime.now(UTC))


def _write(
    connection: sqlite3.Connection,
    commit: ProposalCommit,
    number: int,
    created_at: datetime,
    now: datetime,
) -> Proposal:
    """Write the next version of a row, with its change."""
    made = commit.proposal
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=made.entity,
        version=made.version + 1,
        action="updated" if made.version else "created",
        actor=commit.actor,
        comment=commit.comment,
        at=now,
    )
    facts = json.dumps(commit.facts) if commit.facts else None
    revision = append_change(connection, change, commit.request_id, commit.source, facts)
    connection.execute(
        "INSERT INTO proposals (id, version, number, state, is_open, author, environments,"
        " apply_at, document, created_at, updated_at, revision, idempotency_key, digest)"
        " VALUES (:id, :version, :number, :state, :is_open, :author, :environments, :apply_at,"
        " :document, :created_at, :updated_at, :revision, :key, :digest)"
        " ON CONFLICT (id) DO UPDATE SET version = :version, state = :state, is_open = :is_open,"
        " environments = :environments, apply_at = :apply_at, document = :document,"
        " updated_at = :updated_at, revision = :revision",
        {
            "id": made.id,
            "version": made.version + 1,
            "number": number,
            "state": made.state,
            "is_open": made.state in OPEN_STATES,
            "author": made.authors[0].actor,
            "environments": json.dumps(sorted({item.target.environment for item in made.items})),
            "apply_at": made.apply_at and format_timestamp(made.apply_at),
            "document": json.dumps(proposal_json(made)),
            "created_at": format_timestamp(created_at),
            "updated_at": format_timestamp(now),
            "revision": revision,
            "key": commit.idempotency_key,
            "digest": commit.digest,
        },
    )
    row = connection.execute("SELECT * FROM proposals WHERE id = ?", (made.id,)).fetchone()
    return _proposal(row)


def _proposal(row: sqlite3.Row) -> Proposal:
    columns: dict[str, Any] = {name: row[name] for name in row.keys()}  # noqa: SIM118 - not a dict
    for name in ("created_at", "updated_at", "apply_at"):
        columns[name] = columns[name] and datetime.fromisoformat(columns[name])
    return read_proposal(columns, json.loads(row["document"]))
