"""In-memory cache of all tokens, so that authentication needs no I/O."""

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from heapq import heappop, heappush
from math import inf
from time import time
from typing import Final

from app.access.errors import TokenRefused, TokensUnavailable
from app.access.tokens.model import PREFIX, Token, parse_token_id, token_digest
from app.access.tokens.port import TokenStore
from app.changes.follower import Follower

KINDS: Final = frozenset({"token"})
# Twice the time a replica may lag behind the log at the most, twice the interval of its poll.
MAX_SILENCE_SECONDS: Final = 1.0
ADMIN: Final = "admin"  # id and name of the token of the settings
_PAGE: Final = 1000
_EXPIRE_SECONDS: Final = 0.5
_ALL: Final = ("*",)
_NO_DIGEST: Final = bytes(32)

TokenEnded = Callable[[str], None]


class TokenCache:
    """All tokens by id, as of the newest followed change.

    `generation` increases with every change, so that callers can cache what they looked up.
    """

    def __init__(
        self,
        store: TokenStore,
        follower: Follower,
        key: bytes,
        admin: str | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        """Compute digests under `key`; `admin` is the text of the admin token of the settings."""
        self._store = store
        self._follower = follower
        self._key = key
        self._now = now
        self._tokens: dict[str, Token] = {}
        self._after = 0
        self._is_read = False
        self._used: dict[str, float] = {}
        self._listeners: list[TokenEnded] = []
        self._expiring: list[tuple[float, str]] = []
        self._admin = None if admin is None else _admin_token(token_digest(key, admin), now())
        self.generation = 0

    @property
    def tokens(self) -> Mapping[str, Token]:
        return self._tokens

    @property
    def is_loaded(self) -> bool:
        """Whether the store has been read since the start."""
        return self._is_read

    @property
    def has_admin(self) -> bool:
        """Whether there is a token that can create others."""
        now = self._now()
        return self._admin is not None or any(
            token.is_live(now)
            for token in self._tokens.values()
            if token.token_class == "admin"  # noqa: S105 - no secret
        )

    def authenticate(self, text: str) -> Token | None:
        """Return the token whose text is `text`, and record its use; None if it is of another kind.

        Raises TokenRefused if it is wrong, expired or revoked, and TokensUnavailable if its id is
        unknown while the log is unavailable. An unknown id takes as long as a wrong secret.
        """
        given = token_digest(self._key, text)
        if self._admin is not None and hmac.compare_digest(given, self._admin.digest):
            return self._admin
        token_id = parse_token_id(text)
        if token_id is None:
            if text.startswith(PREFIX):
                raise TokenRefused
            return None
        token = self._tokens.get(token_id)
        is_same = hmac.compare_digest(given, _NO_DIGEST if token is None else token.digest)
        if token is None:
            if not self._is_read or self._follower.silence > MAX_SILENCE_SECONDS:
                raise TokensUnavailable
            raise TokenRefused
        now = self._now()
        if not is_same or not token.is_live(now):
            raise TokenRefused
        self._used[token_id] = now
        return token

    def is_live(self, token_id: str) -> bool:
        """Tell whether the token of this id may be used now."""
        token = self._admin if token_id == ADMIN else self._tokens.get(token_id)
        return token is not None and token.is_live(self._now())

    def is_ended(self, token_id: str) -> bool:
        """Tell whether the token of this id was revoked or has expired."""
        token = self._tokens.get(token_id)
        return token is not None and not token.is_live(self._now())

    def record_use(self, token_id: str) -> None:
        """Record that a token was used that a caller has cached."""
        self._used[token_id] = self._now()

    def pop_last_uses(self) -> dict[str, datetime]:
        """Remove and return the last uses since the previous call."""
        used, self._used = self._used, {}
        return {
            token_id: datetime.fromtimestamp(at, UTC)
            for token_id, at in used.items()
            if token_id in self._tokens
        }

    def listen(self, ended: TokenEnded) -> None:
        """Call `ended` with the id of every token that is revoked or expires from now on."""
        self._listeners.append(ended)

    def update(self, tokens: Iterable[Token]) -> None:
        """Store changed tokens; those older than the cached ones are skipped."""
        for token in tokens:
            present = self._tokens.get(token.id)
            if present is not None and present.revision >= token.revision:
                continue
            self._tokens[token.id] = token
            self.generation += 1
            if token.revoked_at is not None:
                if present is not None and present.revoked_at is None:
                    self._notify(token.id)
            elif self._now() < token.expires < inf:
                heappush(self._expiring, (token.expires, token.id))

    def report_expired(self) -> None:
        """Notify the listeners of tokens that have expired."""
        while self._expiring and self._expiring[0][0] <= self._now():
            _, token_id = heappop(self._expiring)
            if self._tokens[token_id].revoked_at is None:
                self._notify(token_id)

    async def watch_expiry(self) -> None:
        """Report expired tokens, without end."""
        while True:
            self.report_expired()
            await asyncio.sleep(_EXPIRE_SECONDS)

    def _notify(self, token_id: str) -> None:
        for ended in self._listeners:
            ended(token_id)

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Refresh if changes of these kinds concern tokens."""
        if kinds & KINDS or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read the changed tokens; raises TokenStoreUnavailable."""
        while True:
            page = await self._store.changed_after(self._after, _PAGE)
            self.update(page)
            self._after = max([self._after, *(token.revision for token in page)])
            if len(page) < _PAGE:
                break
        self._is_read = True


def _admin_token(shown: bytes, now: float) -> Token:
    return Token(
        id=ADMIN,
        name=ADMIN,
        token_class="admin",  # noqa: S106 - no secret
        environments=_ALL,
        services=_ALL,
        roles=("secrets:reveal", "change:bypass"),
        created_at=datetime.fromtimestamp(now, UTC),
        created_by="settings",
        digest=shown,
    )
