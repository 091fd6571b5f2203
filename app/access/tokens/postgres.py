"""Tokens in Postgres: one statement a call."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.access.errors import TokenNotFound, TokenStoreUnavailable
from app.access.tokens.model import Token, audit_facts
from app.access.tokens.port import ChangeOrigin
from app.postgres.calls import Calls
from app.postgres.tables import tokens

_CREATE: Final = text(
    "SELECT * FROM create_token("
    "CAST(:token AS jsonb), :actor, :request_id, :source, CAST(:facts AS jsonb))"
)
_REVOKE: Final = text("SELECT * FROM revoke_token(:id, :actor, :request_id, :source)")
# In one order everywhere, or replicas that update the same tokens could deadlock.
_USED: Final = text("""
    UPDATE tokens SET last_used_at = used.at
    FROM (
        SELECT known.id, given.at
        FROM unnest(CAST(:ids AS text[]), CAST(:times AS timestamptz[])) AS given (id, at)
        JOIN tokens known ON known.id = given.id
        WHERE known.last_used_at IS NULL OR known.last_used_at < given.at
        ORDER BY known.id FOR UPDATE OF known
    ) used
    WHERE tokens.id = used.id
""")


class PostgresTokenStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine, lambda why: TokenStoreUnavailable(f"the token store does not answer: {why}")
        )

    async def create(self, token: Token, event: ChangeOrigin) -> Token:
        facts = {
            "token": json.dumps(_row_members(token)),
            "facts": json.dumps(audit_facts(token)),
            **_origin_members(event),
        }
        # No retry: the first attempt may have been committed although its answer was lost.
        made = await self._calls.run("tokens_create", _CREATE, facts, again=False)
        return _token_of_row(made.one())

    async def revoke(self, token_id: str, event: ChangeOrigin) -> Token:
        facts = {"id": token_id, **_origin_members(event)}
        row = (await self._calls.run("tokens_revoke", _REVOKE, facts)).one()
        if row.id is None:
            raise TokenNotFound(token_id)
        return _token_of_row(row)

    async def changed_after(self, after: int, limit: int) -> Sequence[Token]:
        statement = (
            select(tokens).where(tokens.c.revision > after).order_by(tokens.c.revision).limit(limit)
        )
        return [_token_of_row(row) for row in await self._calls.run("tokens_newer", statement)]

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        place = tuple_(tokens.c.created_at, tokens.c.id)
        statement = (
            select(tokens)
            .where(true() if after is None else place > after)
            .order_by(tokens.c.created_at, tokens.c.id)
            .limit(limit)
        )
        return [_token_of_row(row) for row in await self._calls.run("tokens_page", statement)]

    async def get(self, token_id: str) -> Token:
        statement = select(tokens).where(tokens.c.id == token_id)
        row = (await self._calls.run("tokens_one", statement)).one_or_none()
        if row is None:
            raise TokenNotFound(token_id)
        return _token_of_row(row)

    async def record_uses(self, times: Mapping[str, datetime]) -> None:
        facts = {"ids": list(times), "times": list(times.values())}
        await self._calls.run("tokens_used", _USED, facts)


def _origin_members(event: ChangeOrigin) -> dict[str, object]:
    return {"actor": event.actor, "request_id": event.request_id, "source": event.source}


def _row_members(token: Token) -> dict[str, object]:
    """Return the row of a new token, except for what the store adds."""
    return {
        "id": token.id,
        "name": token.name,
        "token_class": token.token_class,
        "environments": token.environments,
        "services": token.services,
        "roles": token.roles,
        "digest": "\\x" + token.digest.hex(),
        "created_by": token.created_by,
        "created_by_id": token.created_by_id,
        "expires_at": token.expires_at and token.expires_at.isoformat(),
    }


def _token_of_row(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        token_class=row.token_class,
        environments=tuple(row.environments),
        services=tuple(row.services),
        roles=tuple(row.roles),
        created_at=row.created_at,
        created_by=row.created_by,
        digest=bytes(row.digest),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        revision=row.revision,
        created_by_id=row.created_by_id,
    )
