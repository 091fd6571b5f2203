"""What one replica knows of tokens, on a real store and log."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app.access.tokens.cache import TokenCache
from app.access.tokens.model import Token
from app.access.tokens.port import ChangeOrigin, TokenStore
from app.background import run_background_tasks
from app.changes.follower import Follower
from app.changes.log.port import ChangeLog
from tests.access.tokens import KEY, NOW, new_token
from tests.servers.process import PATIENCE_SECONDS

EVENT = ChangeOrigin("ana", "request-1")


@dataclass
class Clock:
    """Stands still, `ahead` seconds after the tests were begun."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return NOW.timestamp() + self.ahead


@dataclass
class Replica:
    store: TokenStore
    known: TokenCache
    follower: Follower
    clock: Clock
    ended: list[str] = field(default_factory=list)

    async def create(self, **members: Any) -> tuple[Token, str]:
        """Make a token here; others hear of it."""
        token, text = new_token(**members)
        kept = await self.store.create(token, EVENT)
        self.known.update([kept])
        return kept, text

    async def revoke(self, token: Token) -> None:
        self.known.update([await self.store.revoke(token.id, EVENT)])

    async def caught_up(self, revision: int) -> None:
        await self.follower.wait_for_revision(revision, within=PATIENCE_SECONDS)


@asynccontextmanager
async def replica(
    store: TokenStore, log: ChangeLog, admin: str | None = None
) -> AsyncIterator[Replica]:
    """Follow the log as long as the block lasts, from before it begins if the log is there."""
    follower, clock = Follower(log), Clock()
    known = TokenCache(store, follower, KEY, admin, clock)
    made = Replica(store, known, follower, clock)
    known.listen(made.ended.append)
    follower.listeners.before_apply(known.prepare)
    await follower.start()
    async with run_background_tasks({"follow": follower.follow}):
        yield made


async def until(holds: Callable[[], bool], within: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
