"""The port: the store of tokens.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_token_store.py`. Every method
is one transaction, committed before it returns, and raises `TokenStoreUnavailable` within its
deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.access.tokens.model import Token


@dataclass(frozen=True, slots=True)
class ChangeOrigin:
    """The origin of a change to a token: who, from where, in which request."""

    actor: str
    request_id: str
    source: str = ""


class TokenStore(Protocol):
    async def create(self, token: Token, event: ChangeOrigin) -> Token:
        """Store a new token and log it; return it with the store's time and its revision."""
        ...

    async def revoke(self, token_id: str, event: ChangeOrigin) -> Token:
        """Mark a token as revoked and log it; raises TokenNotFound.

        A token that is already revoked is returned unchanged, and nothing is logged.
        """
        ...

    async def changed_after(self, after: int, limit: int) -> Sequence[Token]:
        """Return tokens that were created or revoked after this revision, ascending."""
        ...

    async def page(self, after: tuple[datetime, str] | None, limit: int) -> Sequence[Token]:
        """Return tokens by time of creation and id, those after the given ones."""
        ...

    async def get(self, token_id: str) -> Token:
        """Return a token, revoked or not; raises TokenNotFound."""
        ...

    async def record_uses(self, times: Mapping[str, datetime]) -> None:
        """Record when tokens were last used; a later stored time is kept."""
        ...
