"""Schemas, templates and policies in this process's own state: the default, for one replica."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from app.changes.errors import GuardMoved, RelatedIntentOpen
from app.changes.log.sqlite_guards import (
    is_covered_intent_under_way,
    newest_covered_change,
    newest_policy_change,
)
from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Change
from app.rules.definitions.model import (
    Definition,
    DefinitionCommit,
    DefinitionEdit,
    Kind,
    Scope,
    entity,
)
from app.rules.errors import DefinitionMoved, DefinitionsUnavailable, PoliciesMoved
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState


class EmbeddedDefinitionStore:
    def __init__(self, state: SQLiteState, moved: Callable[[], None]) -> None:
        """Keep definitions in `state`, and call `moved` when something was logged there."""
        self._calls = StateCalls(state, "the store of definitions", DefinitionsUnavailable)
        self._moved = moved

    async def commit(self, commit: DefinitionCommit) -> Sequence[Definition]:
        definitions = await self._calls.write(partial(_commit, commit=commit))
        self._moved()
        return definitions

    async def definitions_after(self, after: int, limit: int) -> Sequence[Definition]:
        return await self._query(
            "SELECT * FROM definition_items WHERE revision > ? ORDER BY revision LIMIT ?",
            after,
            limit,
        )

    async def history(
        self, kind: Kind, name: str, limit: int, before: int | None = None
    ) -> Sequence[Definition]:
        return await self._query(
            "SELECT * FROM definition_versions WHERE kind = ? AND name = ?"
            " AND version < ifnull(?, version + 1) ORDER BY version DESC LIMIT ?",
            kind,
            name,
            before,
            limit,
        )

    async def _query(self, query: str, *values: object) -> list[Definition]:
        return await self._calls.read(partial(_definitions, query=query, values=values))


def _commit(connection: sqlite3.Connection, commit: DefinitionCommit) -> list[Definition]:
    _check_bases(connection, commit.edits)
    if commit.policies_at is not None and newest_policy_change(connection, commit.policies_at):
        raise PoliciesMoved
    if commit.judged_at is not None:
        _check_judgement(connection, commit.judged_at, _scopes(commit.judged))
    now = datetime.now(UTC)
    return [_write(connection, commit, edit, now) for edit in commit.edits]


def _check_bases(connection: sqlite3.Connection, edits: Iterable[DefinitionEdit]) -> None:
    versions: dict[tuple[Kind, str], int] = {}
    for edit in edits:
        subject = (edit.kind, edit.name)
        if subject not in versions:
            row = _newest(connection, edit)
            versions[subject] = 0 if row is None else row["version"]
        if versions[subject] != edit.base:
            raise DefinitionMoved(edit.kind, edit.name, versions[subject])
        versions[subject] += 1


def _check_judgement(
    connection: sqlite3.Connection, judged_at: int, judged: list[dict[str, Sequence[str]]]
) -> None:
    if revision := newest_covered_change(connection, judged_at, judged):
        raise GuardMoved(revision)
    if is_covered_intent_under_way(connection, judged):
        raise RelatedIntentOpen


def _newest(connection: sqlite3.Connection, edit: DefinitionEdit) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT version, created_at FROM definition_items WHERE kind = ? AND name = ?",
        (edit.kind, edit.name),
    ).fetchone()
    return row


def _write(
    connection: sqlite3.Connection, commit: DefinitionCommit, edit: DefinitionEdit, now: datetime
) -> Definition:
    """Write one edit as the next version of its definition, with its change."""
    last = _newest(connection, edit)
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=entity(edit.kind, edit.name),
        version=edit.base + 1,
        action=edit.action,
        actor=commit.actor,
        comment=commit.comment,
        at=now,
        deleted=edit.action == "deleted",
    )
    definition = Definition(
        kind=edit.kind,
        name=edit.name,
        version=change.version,
        text=edit.text,
        action=edit.action,
        actor=commit.actor,
        comment=commit.comment,
        at=now,
        created_at=now if last is None else datetime.fromisoformat(last["created_at"]),
        revision=append_change(
            connection,
            change,
            commit.request_id,
            commit.source,
            None if edit.facts is None else json.dumps(edit.facts),
        ),
    )
    _keep(connection, definition, json.dumps(_scopes(edit.scopes)))
    return definition


def _keep(connection: sqlite3.Connection, definition: Definition, scopes: str) -> None:
    row = (
        definition.kind,
        definition.name,
        definition.version,
        definition.text,
        definition.action,
        definition.actor,
        definition.comment,
        format_timestamp(definition.at),
        format_timestamp(definition.created_at),
        definition.revision,
    )
    connection.execute("INSERT INTO definition_versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute(
        "INSERT OR REPLACE INTO definition_items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, scopes),
    )


def _scopes(scopes: Iterable[Scope]) -> list[dict[str, Sequence[str]]]:
    return [{"environments": scope.environments, "services": scope.services} for scope in scopes]


def _definitions(
    connection: sqlite3.Connection, query: str, values: Sequence[object]
) -> list[Definition]:
    return [_definition(row) for row in connection.execute(query, values)]


def _definition(row: sqlite3.Row) -> Definition:
    return Definition(
        kind=row["kind"],
        name=row["name"],
        version=row["version"],
        text=row["definition"],
        action=row["action"],
        actor=row["actor"],
        comment=row["comment"],
        at=datetime.fromisoformat(row["at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        revision=row["revision"],
    )
