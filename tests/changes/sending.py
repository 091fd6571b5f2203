"""One replica's sending side, in this process, and changes for it to send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from uuid import uuid4

from app.background import run_background_tasks
from app.changes.events.port import EventPublisher
from app.changes.events.relay import Relay
from app.changes.follower import Follower
from app.changes.log.postgres import PostgresChangeLog
from app.changes.model import Entity, Intent, Written
from app.postgres.engine import open_engine
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS


@asynccontextmanager
async def replica(url: str, publisher: EventPublisher) -> AsyncIterator[Relay]:
    """Run all that relays in one replica until the block is left, as a kill would end it."""
    log = PostgresChangeLog(open_engine(url, PATIENT_SECONDS), url)
    follower = Follower(log)
    relay = Relay(log, publisher, follower)
    tasks = {"follow": follower.follow, "relay": relay.run, "watch": relay.watch}
    try:
        async with run_background_tasks(tasks):
            yield relay
    finally:
        await log.close()


def of_service(number: int) -> Entity:
    name = f"s{number}"
    return Entity("config", "staging", name, f"layers/staging/{name}")


async def write(log: PostgresChangeLog, about: Entity, base: int) -> int:
    now = datetime.now(UTC)
    intent = Intent(uuid4().hex, about, base, "updated", "ana", "because", "request", now)
    begun = await log.begin(intent)
    pointer = await log.advance(about, [Written(base + 1, begun.id, at=now)])
    return pointer.revision


async def write_many(log: PostgresChangeLog, *, services: int = 5, rounds: int = 20) -> list[int]:
    async def writer(number: int) -> list[int]:
        return [await write(log, of_service(number), base) for base in range(rounds)]

    written = await asyncio.gather(*(writer(number) for number in range(services)))
    return [revision for revisions in written for revision in revisions]


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, within: float = PATIENCE_SECONDS
) -> float:
    """Wait for a condition, and tell how many seconds it took."""
    began = monotonic()
    while not await holds():
        assert monotonic() - began < within, f"waited {within:g} s in vain until {what}"
        await asyncio.sleep(0.01)
    return monotonic() - began


async def drained(log: PostgresChangeLog, within: float = PATIENCE_SECONDS) -> float:
    async def nothing_waits() -> bool:
        return not await log.unsent_changes(1)

    return await until(nothing_waits, "all is sent", within)
