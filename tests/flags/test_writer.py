"""Writers of one environment: they queue, and nobody is refused before the stated bound."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from threading import Event

import pytest

from app.audit.fingerprints import Fingerprints
from app.changes.errors import IdempotencyKeyReused
from app.changes.model import Idempotency
from app.flags.cache import FlagCache
from app.flags.definitions.plans import CreateFlag
from app.flags.definitions.representations import read_flag_body
from app.flags.errors import FlagContended, FlagExists
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.writer import FlagWriter, WriteRequest
from app.sqlite.state import SQLiteState

pytestmark = pytest.mark.anyio
ENVIRONMENT = "staging"


def never(_: str, __: str) -> datetime | None:
    """Say of every flag that it was never evaluated."""
    return None


class Replica:
    """A replica's writer with the flags it knows."""

    def __init__(
        self,
        state: SQLiteState,
        seconds: float = 60,
        last_evaluated_at: Callable[[str, str], datetime | None] = never,
    ) -> None:
        self.store = EmbeddedFlagStore(state, lambda: None)
        self.sets = FlagCache(self.store)
        fingerprints = Fingerprints(b"pepper")
        self.writer = FlagWriter(self.store, self.sets, fingerprints, last_evaluated_at, seconds)

    async def create(self, name: str, key: str | None = None) -> int:
        idempotency = None if key is None else Idempotency(key, f"create {name}")
        request = WriteRequest("ann", "", "request", idempotency=idempotency)
        plan = CreateFlag(read_flag_body({"name": name}))
        return (await self.writer.write(ENVIRONMENT, plan, request))[0].revision


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[SQLiteState]:
    state = SQLiteState(tmp_path)
    yield state
    await state.close()


async def test_writers_of_one_environment_queue_and_none_is_refused(state: SQLiteState) -> None:
    replica = Replica(state)
    await replica.sets.refresh()

    revisions = await asyncio.gather(*(replica.create(f"f{n}") for n in range(60)))

    assert len(set(revisions)) == 60
    assert len(replica.sets.environment(ENVIRONMENT).names()) == 60


async def test_writers_on_two_replicas_are_not_refused_either(state: SQLiteState) -> None:
    replicas = [Replica(state), Replica(state)]
    for replica in replicas:
        await replica.sets.refresh()

    await asyncio.gather(*(replicas[n % 2].create(f"f{n}") for n in range(40)))

    for replica in replicas:
        await replica.sets.refresh()
        assert len(replica.sets.environment(ENVIRONMENT).names()) == 40


async def test_a_writer_is_refused_at_the_bound_while_another_environment_is_written(
    state: SQLiteState,
) -> None:
    may_end, has_begun = Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_slow(_: str, flag: str) -> None:
        if flag == "slow":
            loop.call_soon_threadsafe(has_begun.set)
            assert may_end.wait(60)

    replica = Replica(state, 0.1, wait_for_slow)
    await replica.sets.refresh()
    first = asyncio.create_task(replica.create("slow"))
    await has_begun.wait()
    try:
        with pytest.raises(FlagContended) as refused:
            await replica.create("f")
        plan = CreateFlag(read_flag_body({"name": "f"}))
        others = await replica.writer.write("other", plan, WriteRequest("ann", "", "request"))
    finally:
        may_end.set()

    assert refused.value.retry_after > 0
    assert "0.1 s" in str(refused.value)
    assert len(others) == 1
    assert await first > 0
    assert await replica.create("f") > 0


async def test_the_same_request_sent_many_times_at_once_is_answered_alike(
    state: SQLiteState,
) -> None:
    replicas = [Replica(state), Replica(state)]
    for replica in replicas:
        await replica.sets.refresh()

    revisions = await asyncio.gather(*(replicas[n % 2].create("f", "key") for n in range(20)))

    assert len(set(revisions)) == 1
    with pytest.raises(FlagExists):
        await replicas[0].create("f", "another")


async def test_a_refused_request_whose_key_was_closed_is_never_committed(
    state: SQLiteState,
) -> None:
    one, other = Replica(state), Replica(state)
    request = WriteRequest("ann", "", "request", idempotency=Idempotency("key", "create f"))

    await one.writer.close_key(ENVIRONMENT, request)
    await one.writer.close_key(ENVIRONMENT, request)

    with pytest.raises(IdempotencyKeyReused):
        await other.create("f", "key")
    assert await other.create("f") > 0


async def test_the_key_of_a_committed_request_is_not_closed(state: SQLiteState) -> None:
    one, other = Replica(state), Replica(state)
    revision = await one.create("f", "key")
    request = WriteRequest("ann", "", "request", idempotency=Idempotency("key", "create f"))

    with pytest.raises(FlagContended):
        await other.writer.close_key(ENVIRONMENT, request)

    assert await other.create("f", "key") == revision
