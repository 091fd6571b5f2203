"""The use cases of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.access.errors import AccessOpen, Denied, TokenNotFound
from app.access.identity import Maker
from app.access.model import Caller, Grant, Right
from app.access.tokens.cache import TokenCache
from app.access.tokens.creation import TokenRequest, create_token
from app.access.tokens.model import Token, grants_of, is_token_id, missing_grant
from app.access.tokens.port import ChangeOrigin, TokenStore
from app.actors import actor_name


@dataclass(frozen=True, slots=True)
class TokenService:
    """Creates, revokes and lists tokens for callers who have `token:manage` somewhere."""

    store: TokenStore
    cache: TokenCache
    key: bytes  # for digests

    async def create(self, wanted: TokenRequest, caller: Caller) -> tuple[Token, str]:
        """Return a new token and its text, which cannot be recovered later.

        Raises BadToken, Denied if the token exceeds the caller's rights, and AccessOpen with open
        access, where no caller is authenticated: the token would still be valid once access is
        required.
        """
        if not caller.is_known:
            raise AccessOpen
        maker = Maker(actor_name(caller.actor()), caller.principal.identity)
        token, text = create_token(wanted, self.key, maker, datetime.now(UTC))
        _require_grants(caller, grants_of(token))
        kept = await self.store.create(token, _origin(caller))
        self.cache.update([kept])
        return kept, text

    async def revoke(self, token_id: str, caller: Caller) -> Token:
        """Revoke a token, on this replica at once.

        Raises TokenNotFound, and Denied for a token wider than the caller's own rights.
        """
        token = await self.get(token_id)
        manage = Grant(frozenset({Right.MANAGE_TOKENS}), token.environments, token.services)
        _require_grants(caller, (manage,))
        revoked = await self.store.revoke(token_id, _origin(caller))
        self.cache.update([revoked])
        return revoked

    async def get(self, token_id: str) -> Token:
        """Return a token, revoked or not; raises TokenNotFound."""
        if not is_token_id(token_id):
            raise TokenNotFound(token_id[:100])
        return await self.store.get(token_id)

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        return await self.store.page(after, limit)


def _require_grants(caller: Caller, given: tuple[Grant, ...]) -> None:
    """Raise Denied unless the caller has all given rights."""
    lacking = missing_grant(caller.principal, given)
    if lacking is not None:
        raise Denied(min(lacking.rights), lacking.environments[0], lacking.services[0])


def _origin(caller: Caller) -> ChangeOrigin:
    return ChangeOrigin(caller.actor(), caller.request_id, caller.source)
