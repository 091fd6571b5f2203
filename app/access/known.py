"""Every token in memory, on every replica: to tell who asks, nobody else is asked."""

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from heapq import heappop, heappush
from math import inf
from time import time
from typing import Final

from app.access.errors import TokenRefused, TokensUnavailable
from app.access.port import TokenStore
from app.access.tokens import PREFIX, Token, digest, parse
from app.changes.follower import Follower

KINDS: Final = frozenset({"token"})
# Twice the time a replica may lag behind the log at the most, twice the interval of its poll.
SILENT_SECONDS: Final = 1.0
ADMIN: Final = "admin"  # id and name of the token of the settings
_PAGE: Final = 1000
_EXPIRE_SECONDS: Final = 0.5
_ALL: Final = ("*",)
_NOBODYS: Final = bytes(32)

Ended = Callable[[str], None]


class KnownTokens:
    """Tokens by id, as of the newest change that was followed.

    `generation` moves with every change, to tell cheaply that nothing has changed.
    """

    def __init__(
        self,
        store: TokenStore,
        follower: Follower,
        key: bytes,
        admin: str | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        """Digest under `key`; `admin` is a token of class admin by its value."""
        self._store = store
        self._follower = follower
        self._key = key
        self._now = now
        self._tokens: dict[str, Token] = {}
        self._after = 0
        self._is_read = False
        self._used: dict[str, float] = {}
        self._listeners: list[Ended] = []
        self._expiring: list[tuple[float, str]] = []
        self._admin = None if admin is None else _admin(digest(key, admin), now())
        self.generation = 0

    @property
    def tokens(self) -> Mapping[str, Token]:
        return self._tokens

    @property
    def is_read(self) -> bool:
        """Whether the store was read since the start."""
        return self._is_read

    @property
    def has_admin(self) -> bool:
        """Whether there is a token that can make others."""
        now = self._now()
        return self._admin is not None or any(
            token.is_live(now)
            for token in self._tokens.values()
            if token.token_class == "admin"  # noqa: S105 - no secret
        )

    def find(self, text: str) -> Token | None:
        """Return the token that `text` is, and note its use; None if it is of another kind.

        Raises TokenRefused if it is wrong, expired or revoked, and TokensUnavailable if it is not
        known here while the log is away, so that nobody can tell. Takes the same time for an id
        that is not known as for a wrong secret.
        """
        shown = digest(self._key, text)
        if self._admin is not None and hmac.compare_digest(shown, self._admin.digest):
            return self._admin
        token_id = parse(text)
        if token_id is None:
            if text.startswith(PREFIX):
                raise TokenRefused
            return None
        token = self._tokens.get(token_id)
        is_same = hmac.compare_digest(shown, _NOBODYS if token is None else token.digest)
        if token is None:
            if not self._is_read or self._follower.silence > SILENT_SECONDS:
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

    def has_ended(self, token_id: str) -> bool:
        """Tell whether there was a token of this id that may be used no longer."""
        token = self._tokens.get(token_id)
        return token is not None and not token.is_live(self._now())

    def note(self, token_id: str) -> None:
        """Note that a token was used which was found before."""
        self._used[token_id] = self._now()

    def drained(self) -> dict[str, datetime]:
        """Return when tokens were last used, as far as it was not returned before."""
        used, self._used = self._used, {}
        return {
            token_id: datetime.fromtimestamp(at, UTC)
            for token_id, at in used.items()
            if token_id in self._tokens
        }

    def listen(self, ended: Ended) -> None:
        """Call `ended` with the id of every token that is revoked or expires from now on."""
        self._listeners.append(ended)

    def take(self, tokens: Iterable[Token]) -> None:
        """Take over tokens as they are after a change; what is older than known is passed over."""
        for token in tokens:
            present = self._tokens.get(token.id)
            if present is not None and present.revision >= token.revision:
                continue
            self._tokens[token.id] = token
            self.generation += 1
            if token.revoked_at is not None:
                if present is not None and present.revoked_at is None:
                    self._tell(token.id)
            elif self._now() < token.expires < inf:
                heappush(self._expiring, (token.expires, token.id))

    def expire(self) -> None:
        """Tell of the tokens that have expired meanwhile."""
        while self._expiring and self._expiring[0][0] <= self._now():
            _, token_id = heappop(self._expiring)
            if self._tokens[token_id].revoked_at is None:
                self._tell(token_id)

    async def watch(self) -> None:
        """Tell of tokens that expire, for ever."""
        while True:
            self.expire()
            await asyncio.sleep(_EXPIRE_SECONDS)

    def _tell(self, token_id: str) -> None:
        for ended in self._listeners:
            ended(token_id)

    async def prepare(self, kinds: frozenset[str]) -> None:
        """Read what has changed, if anything of these kinds concerns tokens."""
        if kinds & KINDS or not self._is_read:
            await self.refresh()

    async def refresh(self) -> None:
        """Read what has changed; raises TokenStoreUnavailable."""
        while True:
            page = await self._store.newer(self._after, _PAGE)
            self.take(page)
            self._after = max([self._after, *(token.revision for token in page)])
            if len(page) < _PAGE:
                break
        self._is_read = True


def _admin(shown: bytes, now: float) -> Token:
    return Token(
        id=ADMIN,
        name=ADMIN,
        token_class="admin",  # noqa: S106 - no secret
        environments=_ALL,
        services=_ALL,
        roles=("secrets:reveal",),
        created_at=datetime.fromtimestamp(now, UTC),
        created_by="settings",
        digest=shown,
    )
