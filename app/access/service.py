"""The use cases of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.access.errors import Denied, TokenNotFound
from app.access.known import KnownTokens
from app.access.minting import Wanted, made
from app.access.model import Caller, Grant, Right
from app.access.port import Event, TokenStore
from app.access.tokens import Token, grants_of, is_token_id, lacks


@dataclass(frozen=True, slots=True)
class TokenService:
    """Whoever comes here has `token:manage`, somewhere."""

    store: TokenStore
    known: KnownTokens
    key: bytes  # of digests

    async def create(self, wanted: Wanted, caller: Caller) -> tuple[Token, str]:
        """Return a new token and its text, which nobody can tell ever again.

        Raises BadToken, and Denied for what the caller may not do.
        """
        token, text = made(wanted, self.key, caller.actor(), datetime.now(UTC))
        _demand(caller, grants_of(token))
        kept = await self.store.create(token, _event(caller))
        self.known.take([kept])
        return kept, text

    async def revoke(self, token_id: str, caller: Caller) -> Token:
        """Make a token invalid for good, and here at once.

        Raises TokenNotFound, and Denied for one that is wider than what the caller manages.
        """
        token = await self.one(token_id)
        manage = Grant(frozenset({Right.MANAGE_TOKENS}), token.environments, token.services)
        _demand(caller, (manage,))
        revoked = await self.store.revoke(token_id, _event(caller))
        self.known.take([revoked])
        return revoked

    async def one(self, token_id: str) -> Token:
        """Return a token, revoked or not; raises TokenNotFound."""
        if not is_token_id(token_id):
            raise TokenNotFound(token_id[:100])
        return await self.store.one(token_id)

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        return await self.store.page(after, limit)


def _demand(caller: Caller, given: tuple[Grant, ...]) -> None:
    """Raise Denied unless the caller has all that is given."""
    lacking = lacks(caller.principal, given)
    if lacking is not None:
        raise Denied(min(lacking.rights), lacking.environments[0], lacking.services[0])


def _event(caller: Caller) -> Event:
    return Event(caller.actor(), caller.request_id, caller.source)
