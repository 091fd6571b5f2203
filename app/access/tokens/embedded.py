"""Tokens in this process's own state: the default, for one replica."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from app.access.errors import TokenNotFound, TokenStoreUnavailable
from app.access.tokens.model import Token, audit_facts
from app.access.tokens.port import ChangeOrigin
from app.changes.log.sqlite_log import append_change, format_timestamp
from app.changes.model import Action, Change, Entity
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState


class EmbeddedTokenStore:
    def __init__(self, state: SQLiteState, moved: Callable[[], None]) -> None:
        """Store tokens in `state`, and call `moved` after each logged change."""
        self._calls = StateCalls(state, "the token store", TokenStoreUnavailable)
        self._moved = moved

    async def create(self, token: Token, event: ChangeOrigin) -> Token:
        made = await self._calls.write(partial(_insert_token, token=token, event=event))
        self._moved()
        return made

    async def revoke(self, token_id: str, event: ChangeOrigin) -> Token:
        revoked = await self._calls.write(partial(_revoke_token, token_id=token_id, event=event))
        self._moved()
        return revoked

    async def changed_after(self, after: int, limit: int) -> Sequence[Token]:
        return await self._select(
            "SELECT * FROM tokens WHERE revision > ? ORDER BY revision LIMIT ?", after, limit
        )

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        created_at, token_id = ("", "") if after is None else (format_timestamp(after[0]), after[1])
        return await self._select(
            "SELECT * FROM tokens WHERE (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?",
            created_at,
            token_id,
            limit,
        )

    async def get(self, token_id: str) -> Token:
        return await self._calls.read(partial(_require_token, token_id=token_id))

    async def record_uses(self, times: Mapping[str, datetime]) -> None:
        await self._calls.write(partial(_record_uses, times=times))

    async def _select(self, query: str, *values: object) -> list[Token]:
        def select(connection: sqlite3.Connection) -> list[Token]:
            return [_token_of_row(row) for row in connection.execute(query, values)]

        return await self._calls.read(select)


def _insert_token(connection: sqlite3.Connection, token: Token, event: ChangeOrigin) -> Token:
    now = datetime.now(UTC)
    revision = _log_change(connection, token, event, "created", now, audit_facts(token))
    made = replace(token, created_at=now, revision=revision)
    connection.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?)",
        (
            made.id,
            made.name,
            made.token_class,
            json.dumps(made.environments),
            json.dumps(made.services),
            json.dumps(made.roles),
            made.digest,
            format_timestamp(now),
            made.created_by,
            made.expires_at and format_timestamp(made.expires_at),
            revision,
            made.created_by_id,
        ),
    )
    return made


def _revoke_token(connection: sqlite3.Connection, token_id: str, event: ChangeOrigin) -> Token:
    token = _require_token(connection, token_id)
    if token.revoked_at is not None:
        return token
    now = datetime.now(UTC)
    facts = {"name": token.name, "class": token.token_class}
    revision = _log_change(connection, token, event, "deleted", now, facts)
    connection.execute(
        "UPDATE tokens SET revoked_at = ?, revision = ? WHERE id = ?",
        (format_timestamp(now), revision, token_id),
    )
    return replace(token, revoked_at=now, revision=revision)


def _log_change(
    connection: sqlite3.Connection,
    token: Token,
    event: ChangeOrigin,
    action: Action,
    now: datetime,
    facts: Mapping[str, object],
) -> int:
    change = Change(
        revision=0,  # not known yet
        id=str(uuid4()),
        entity=Entity("token", "default", token.id, f"tokens/{token.id}"),
        version=1 if action == "created" else 2,
        action=action,
        actor=event.actor,
        comment="",
        at=now,
        deleted=action == "deleted",
    )
    return append_change(connection, change, event.request_id, event.source, json.dumps(facts))


def _require_token(connection: sqlite3.Connection, token_id: str) -> Token:
    row = connection.execute("SELECT * FROM tokens WHERE id = ?", (token_id,)).fetchone()
    if row is None:
        raise TokenNotFound(token_id)
    return _token_of_row(row)


def _record_uses(connection: sqlite3.Connection, times: Mapping[str, datetime]) -> None:
    connection.executemany(
        "UPDATE tokens SET last_used_at = :at"
        " WHERE id = :id AND (last_used_at IS NULL OR last_used_at < :at)",
        [{"id": token_id, "at": format_timestamp(at)} for token_id, at in times.items()],
    )


def _token_of_row(row: sqlite3.Row) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        token_class=row["token_class"],
        environments=tuple(json.loads(row["environments"])),
        services=tuple(json.loads(row["services"])),
        roles=tuple(json.loads(row["roles"])),
        created_at=datetime.fromisoformat(row["created_at"]),
        created_by=row["created_by"],
        digest=bytes(row["digest"]),
        expires_at=_optional_time(row["expires_at"]),
        revoked_at=_optional_time(row["revoked_at"]),
        last_used_at=_optional_time(row["last_used_at"]),
        revision=row["revision"],
        created_by_id=row["created_by_id"],
    )


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
