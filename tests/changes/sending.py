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
from app.changes.log.port import LogPorts
from app.changes.model import Entity, Intent, Written
from tests.changes.ports import opened_ports
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS


@asynccontextmanager
async def replica(url: str, publisher: EventPublisher) -> AsyncIterator[Relay]:
    """Run all that relays in one replica until the block is left, as a kill would end it."""
    async with opened_ports(url, PATIENT_SECONDS) as ports:
        follower = Follower(ports.log)
        relay = Relay(ports.outbox, publisher, follower)
        tasks = {"follow": follower.follow, "relay": relay.run, "watch": relay.watch}
        async with run_background_tasks(tasks):
            yield relay


def of_service(number: int) -> Entity:
    name = f"s{number}"
    return Entity("config", "staging", name, f"layers/staging/{name}")


async def write(ports: LogPorts, about: Entity, base: int) -> int:
    now = datetime.now(UTC)
    intent = Intent(uuid4().hex, about, base, "updated", "ana", "because", "request", now)
    begun = await ports.intents.begin(intent)
    pointer = await ports.log.advance(about, [Written(base + 1, begun.id, at=now)])
    return pointer.revision


async def write_many(ports: LogPorts, *, services: int = 5, rounds: int = 20) -> list[int]:
    async def writer(number: int) -> list[int]:
        return [await write(ports, of_service(number), base) for base in range(rounds)]

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


async def wait_until_sent(ports: LogPorts, within: float = PATIENCE_SECONDS) -> float:
    async def nothing_waits() -> bool:
        return not await ports.outbox.unsent_changes(1)

    return await until(nothing_waits, "all is sent", within)
