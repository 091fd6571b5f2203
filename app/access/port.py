"""The port: where tokens are kept.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_token_store.py`. Every method
is one transaction, committed before it returns, and raises `TokenStoreUnavailable` within its
deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.access.tokens import Token


@dataclass(frozen=True, slots=True)
class Event:
    """Who changes a token, from where, in which request."""

    actor: str
    request_id: str
    source: str = ""


class TokenStore(Protocol):
    async def create(self, token: Token, event: Event) -> Token:
        """Keep a new token and log it; return it with the store's time and its revision."""
        ...

    async def revoke(self, token_id: str, event: Event) -> Token:
        """Mark a token as revoked and log it; raises TokenNotFound.

        One that is revoked already is returned as it is, and nothing is logged.
        """
        ...

    async def newer(self, after: int, limit: int) -> Sequence[Token]:
        """Return tokens that were created or revoked after this revision, ascending."""
        ...

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        """Return tokens by time of creation and id, those after the given ones."""
        ...

    async def one(self, token_id: str) -> Token:
        """Return a token, revoked or not; raises TokenNotFound."""
        ...

    async def used(self, times: Mapping[str, datetime]) -> None:
        """Note when tokens were used; a later moment that is known already stays."""
        ...
