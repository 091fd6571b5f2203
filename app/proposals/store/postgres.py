"""Proposals in Postgres: one statement a call."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.changes.errors import IdempotencyKeyReused
from app.postgres.calls import Calls
from app.proposals.errors import (
    ProposalMoved,
    ProposalNotFound,
    ProposalsUnavailable,
    TooManyProposals,
)
from app.proposals.model import MOST_OPEN, OPEN_STATES, Proposal, ProposalCommit, ProposalFilter
from app.proposals.serialization import COLUMNS, proposal_json, read_proposal

_COMMIT: Final = text(
    "SELECT * FROM commit_proposal(CAST(:row AS jsonb), CAST(:change AS jsonb), :key, :digest,"
    " :most_open)"
)
_ONE: Final = text("SELECT * FROM proposals WHERE id = :id")
_LIST: Final = text(
    "SELECT * FROM proposals"
    " WHERE (CAST(:states AS text[]) IS NULL OR state = ANY (:states))"
    " AND (CAST(:environment AS text) IS NULL OR environments @> ARRAY[CAST(:environment AS text)])"
    " AND (CAST(:author AS text) IS NULL OR author = :author)"
    " AND (CAST(:before AS bigint) IS NULL OR number < :before)"
    " ORDER BY number DESC LIMIT :limit"
)
_DUE: Final = text(
    "SELECT * FROM proposals WHERE state IN ('scheduled', 'applying') AND ("
    " (state = 'scheduled' AND apply_at <= clock_timestamp())"
    " OR (state = 'applying' AND updated_at <= clock_timestamp() - make_interval(secs => :idle)))"
    " ORDER BY coalesce(apply_at, updated_at) LIMIT :limit"
)
_UNDER_KEY: Final = text(
    "SELECT * FROM proposals WHERE idempotency_key = :key"
    " AND created_at > clock_timestamp() - interval '24 hours'"
)
_NOW: Final = text("SELECT clock_timestamp() AS moment")


class PostgresProposalStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine,
            lambda why: ProposalsUnavailable(f"the store of proposals does not answer: {why}"),
        )

    async def create(self, commit: ProposalCommit) -> tuple[Proposal, bool]:
        row = await self._commit(commit)
        if row.outcome == "full":
            raise TooManyProposals(MOST_OPEN)
        if row.outcome == "repeated":
            if row.earlier_digest != commit.digest:
                raise IdempotencyKeyReused
            return await self.proposal(row.earlier), False
        return _as_written(commit, row), True

    async def proposal_under(self, key: str, digest: str) -> Proposal | None:
        asked = await self._calls.run("proposals_key", _UNDER_KEY, {"key": key})
        row = asked.one_or_none()
        if row is None:
            return None
        if row.digest != digest:
            raise IdempotencyKeyReused
        return _proposal(row)

    async def replace(self, commit: ProposalCommit) -> Proposal:
        row = await self._commit(commit)
        if row.outcome != "committed":
            raise ProposalMoved(commit.proposal.id)
        return _as_written(commit, row)

    async def _commit(self, commit: ProposalCommit) -> Row[Any]:
        parameters = {
            "row": json.dumps(_row(commit.proposal)),
            "change": json.dumps(_change(commit)),
            "key": commit.idempotency_key,
            "digest": commit.digest,
            "most_open": MOST_OPEN,
        }
        # Not asked again: if the first was committed unheard, the second would find it moved.
        return (await self._calls.run("proposals_commit", _COMMIT, parameters, again=False)).one()

    async def proposal(self, proposal_id: str) -> Proposal:
        row = (await self._calls.run("proposals_read", _ONE, {"id": proposal_id})).one_or_none()
        if row is None:
            raise ProposalNotFound(proposal_id)
        return _proposal(row)

    async def proposals(
        self, filters: ProposalFilter, limit: int, before: int | None = None
    ) -> Sequence[Proposal]:
        parameters = {
            "states": None if filters.states is None else sorted(filters.states),
            "environment": filters.environment,
            "author": filters.author,
            "before": before,
            "limit": limit,
        }
        return [
            _proposal(row) for row in await self._calls.run("proposals_list", _LIST, parameters)
        ]

    async def due_proposals(self, limit: int, idle_seconds: float) -> Sequence[Proposal]:
        parameters = {"limit": limit, "idle": idle_seconds}
        return [_proposal(row) for row in await self._calls.run("proposals_due", _DUE, parameters)]

    async def now(self) -> datetime:
        moment: datetime = (await self._calls.run("proposals_now", _NOW)).scalar_one()
        return moment


def _row(proposal: Proposal) -> Mapping[str, object]:
    return {
        "id": proposal.id,
        "version": proposal.version,
        "state": proposal.state,
        "is_open": proposal.state in OPEN_STATES,
        "author": proposal.authors[0].actor,
        "environments": sorted({item.target.environment for item in proposal.items}),
        "apply_at": proposal.apply_at and proposal.apply_at.isoformat(),
        "document": proposal_json(proposal),
    }


def _change(commit: ProposalCommit) -> Mapping[str, object]:
    entity = commit.proposal.entity
    return {
        "environment": entity.environment,
        "name": entity.name,
        "actor": commit.actor,
        "comment": commit.comment,
        "request_id": commit.request_id,
        "source": commit.source,
        "facts": commit.facts,
    }


def _as_written(commit: ProposalCommit, row: Row[Any]) -> Proposal:
    made = commit.proposal
    columns = {
        "id": made.id,
        "version": made.version + 1,
        "number": row.number,
        "revision": row.revision,
        "created_at": row.created,
        "updated_at": row.moment,
        "apply_at": made.apply_at,
        "state": made.state,
    }
    return read_proposal(columns, proposal_json(made))


def _proposal(row: Row[Any]) -> Proposal:
    return read_proposal({name: getattr(row, name) for name in COLUMNS}, row.document)
