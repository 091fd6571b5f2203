"""Schemas, templates and policies in Postgres: one statement a call."""

import json
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from sqlalchemy import Row, select, text, true
from sqlalchemy.ext.asyncio import AsyncEngine

from app.changes.errors import GuardMoved, RelatedIntentOpen
from app.postgres.calls import Calls
from app.postgres.tables import definition_items, definition_versions
from app.rules.definitions.model import Definition, DefinitionCommit, DefinitionEdit, Kind, Scope
from app.rules.errors import DefinitionMoved, DefinitionsUnavailable, PoliciesMoved
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.name_patterns import like_pattern

_COMMIT: Final = text(
    "SELECT * FROM commit_definitions(CAST(:edits AS jsonb), :judged_at, CAST(:judged AS jsonb),"
    " :actor, :comment, :request_id, :source, :policies_at)"
)


class PostgresDefinitionStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine,
            lambda why: DefinitionsUnavailable(f"the store of definitions does not answer: {why}"),
        )

    async def commit(self, commit: DefinitionCommit) -> Sequence[Definition]:
        parameters = {
            "edits": await run_apart(_is_large(commit), _edits, commit),
            "judged_at": commit.judged_at,
            "judged": json.dumps(_scopes(commit.judged)),
            "actor": commit.actor,
            "comment": commit.comment,
            "request_id": commit.request_id,
            "source": commit.source,
            "policies_at": commit.policies_at,
        }
        # Not asked again: if the first was committed unheard, the second would find it moved.
        made = await self._calls.run("definitions_commit", _COMMIT, parameters, again=False)
        row = made.one()
        if row.outcome == "definition":
            moved = commit.edits[row.moved_place - 1]
            raise DefinitionMoved(moved.kind, moved.name, row.moved)
        if row.outcome == "policies":
            raise PoliciesMoved
        if row.outcome == "moved":
            raise GuardMoved(row.moved)
        if row.outcome == "open":
            raise RelatedIntentOpen
        return _definitions_of(commit, row)

    async def definitions_after(self, after: int, limit: int) -> Sequence[Definition]:
        query = (
            select(definition_items)
            .where(definition_items.c.revision > after)
            .order_by(definition_items.c.revision)
            .limit(limit)
        )
        return [_definition(row) for row in await self._calls.run("definitions_newer", query)]

    async def history(
        self, kind: Kind, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        versions = definition_versions.c
        query = (
            select(definition_versions)
            .where(
                versions.kind == kind,
                versions.name == name,
                true() if before is None else versions.version < before,
            )
            .order_by(versions.version.desc())
            .limit(limit)
        )
        return [_definition(row) for row in await self._calls.run("definitions_history", query)]


def _is_large(commit: DefinitionCommit) -> bool:
    return sum(len(edit.text) for edit in commit.edits) > LARGE_TEXT


def _edits(commit: DefinitionCommit) -> str:
    """Write each by itself: the interpreter does nothing else until one is written."""
    return f"[{','.join(json.dumps(_facts(edit)) for edit in commit.edits)}]"


def _facts(edit: DefinitionEdit) -> dict[str, object]:
    # Omitted if the edit has no facts: the null of JSON is not the null of SQL.
    audited: dict[str, object] = {} if edit.facts is None else {"facts": edit.facts}
    return {
        **audited,
        "kind": edit.kind,
        "name": edit.name,
        "base": edit.base,
        "definition": edit.text,
        "action": edit.action,
        "scopes": _scopes(edit.scopes),
    }


def _scopes(scopes: Iterable[Scope]) -> list[dict[str, list[str]]]:
    return [
        {
            "environments": [like_pattern(pattern) for pattern in scope.environments],
            "services": [like_pattern(pattern) for pattern in scope.services],
        }
        for scope in scopes
    ]


def _definitions_of(commit: DefinitionCommit, row: Row[Any]) -> list[Definition]:
    """Combine the edits with the revisions and times that the database assigned."""
    if not commit.edits:
        return []
    return [
        Definition(
            kind=edit.kind,
            name=edit.name,
            version=edit.base + 1,
            text=edit.text,
            action=edit.action,
            actor=commit.actor,
            comment=commit.comment,
            at=row.moment,
            created_at=created_at,
            revision=revision,
        )
        for revision, edit, created_at in zip(
            count(row.first_revision), commit.edits, row.created, strict=False
        )
    ]


def _definition(row: Row[Any]) -> Definition:
    return Definition(
        kind=row.kind,
        name=row.name,
        version=row.version,
        text=row.definition,
        action=row.action,
        actor=row.actor,
        comment=row.comment,
        at=row.at,
        created_at=row.created_at,
        revision=row.revision,
    )
