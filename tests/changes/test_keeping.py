"""The last pointers in the shared cache, and what a replica makes of them that starts blind."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from app.cache.redis import RedisAddress, RedisCache
from app.changes.errors import LogUnavailable
from app.changes.follower import Follower
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import LogPorts
from app.changes.model import Change, Entity, Intent, Pointer, Snapshot, Written
from app.changes.warm_start import pointers as module
from app.changes.warm_start.pointers import PointerSnapshots, decode_snapshot, encode_snapshot
from app.sqlite.state import SQLiteState
from app.status.monitor import HealthMonitor
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.redis import RedisServer

CHECKOUT = Entity("config", "staging", "checkout/ann", "users/staging/checkout/ann")
PAYMENTS = Entity("config", "stäging", "payments", "layers/staging/payments")
NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
POINTERS = [
    Pointer(CHECKOUT, 3, 7, deleted=False, at=NOW, actor="ana \n ünïcode"),
    Pointer(PAYMENTS, 1, 2, deleted=True, at=NOW - timedelta(days=1), actor=""),
]


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    server = redis_server
    address = RedisAddress(server.host, server.port, server.password, server.db)
    opened = RedisCache(address, prefix=server.fresh_prefix(), seconds=PATIENT_SECONDS)
    yield opened
    await opened.close()


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[LogPorts]:
    state = SQLiteState(tmp_path)
    yield embedded_ports(state)
    await state.close()


async def write(ports: LogPorts, about: Entity = CHECKOUT, base: int = 0) -> Pointer:
    begun = await ports.intents.begin(
        Intent(str(uuid4()), about, base, "updated", "ana", "", "request", datetime.now(UTC))
    )
    return await ports.log.advance(about, [Written(base + 1, begun.id, begun.at)])


async def save_pointers(ports: LogPorts, cache: RedisCache) -> Follower:
    """Let a replica follow the log and save what it knows."""
    follower = Follower(ports.log)
    await follower.start()
    await PointerSnapshots(follower, cache).save()
    return follower


async def test_what_comes_back_is_what_was_written() -> None:
    found = decode_snapshot(await encode_snapshot(7, 1234.5, POINTERS))

    assert found == (Snapshot(7, {pointer.entity.key: pointer for pointer in POINTERS}), 1234.5)


async def test_anything_else_is_nothing() -> None:
    value = await encode_snapshot(7, 1234.5, POINTERS)

    assert decode_snapshot(None) is None
    for end in range(len(value)):
        assert decode_snapshot(value[:end]) is None
        assert decode_snapshot(value[:end] + bytes([value[end] ^ 1]) + value[end + 1 :]) is None


async def test_others_go_on_while_many_pointers_are_written() -> None:
    many = [
        Pointer(Entity("config", "e", str(n), str(n)), 1, n, deleted=False, at=NOW, actor="ana")
        for n in range(5_000)
    ]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    value = await encode_snapshot(5_000, 0, many)
    counting.cancel()

    assert turns > 5
    found = decode_snapshot(value)
    assert found is not None
    assert list(found[0].pointers.values()) == many


async def test_a_replica_that_starts_blind_reads_by_what_another_saved(
    ports: LogPorts, cache: RedisCache
) -> None:
    pointer = await write(ports)
    await save_pointers(ports, cache)
    follower = Follower(ports.log)

    await PointerSnapshots(follower, cache).adopt()

    assert follower.pointer(CHECKOUT.key) == pointer
    assert follower.revision == pointer.revision
    assert follower.has_pointers
    assert not follower.is_following
    assert HealthMonitor({}, follower).stale_seconds() is not None


async def test_where_nothing_was_saved_it_knows_nothing(ports: LogPorts, cache: RedisCache) -> None:
    follower = Follower(ports.log)

    await PointerSnapshots(follower, cache).adopt()

    with pytest.raises(LogUnavailable):
        follower.pointer(CHECKOUT.key)


async def test_it_follows_the_log_from_there_and_those_who_listen_miss_nothing(
    ports: LogPorts, cache: RedisCache
) -> None:
    await write(ports)
    await save_pointers(ports, cache)
    follower = Follower(ports.log)
    await PointerSnapshots(follower, cache).adopt()
    heard: list[Change] = []
    follower.listeners.on_change(heard.append)
    missed = [await write(ports, base=1), await write(ports, PAYMENTS), await write(ports, base=2)]

    await follower.start()

    assert [change.revision for change in heard] == [pointer.revision for pointer in missed]
    assert follower.pointer(CHECKOUT.key) == missed[-1]
    assert follower.is_following
    assert HealthMonitor({}, follower).stale_seconds() is None


async def test_a_replica_behind_does_not_take_back_what_another_saved(
    ports: LogPorts, cache: RedisCache
) -> None:
    await write(ports)
    behind = Follower(ports.log)
    await behind.start()
    newest = await write(ports, base=1)
    await save_pointers(ports, cache)

    await PointerSnapshots(behind, cache).save()

    starting = Follower(ports.log)
    await PointerSnapshots(starting, cache).adopt()
    assert starting.pointer(CHECKOUT.key) == newest


async def test_what_is_followed_is_not_replaced_by_what_was_saved(
    ports: LogPorts, cache: RedisCache
) -> None:
    await write(ports)
    await save_pointers(ports, cache)
    newest = await write(ports, base=1)
    follower = Follower(ports.log)
    await follower.start()

    await PointerSnapshots(follower, cache).adopt()

    assert follower.pointer(CHECKOUT.key) == newest
    assert follower.is_following


@pytest.mark.parametrize("logged", [0, 1, 2, 3])
async def test_a_log_that_was_made_anew_is_believed_and_what_was_read_forgotten(
    ports: LogPorts, logged: int
) -> None:
    follower = Follower(ports.log)
    forgotten: list[bool] = []
    follower.listeners.on_log_replaced(lambda: forgotten.append(True))
    adopted = Pointer(CHECKOUT, 2, 9, deleted=False, at=NOW, actor="of another log")
    follower.adopt_snapshot(Snapshot(9, {CHECKOUT.key: adopted}), age=5)
    for base in range(logged):
        await write(ports, base=base)
    generation = follower.generation

    await follower.start()

    assert follower.pointer(CHECKOUT.key) == await ports.log.pointer(CHECKOUT.key)
    assert follower.revision == logged
    assert follower.generation > generation
    # Above the adopted version, nothing tells this log from the same one gone on.
    assert bool(forgotten) == (logged <= 2)


async def test_an_own_write_is_not_denied_by_a_snapshot_taken_before_it(
    ports: LogPorts,
) -> None:
    first = await write(ports)
    follower = Follower(ports.log)
    follower.adopt_snapshot(Snapshot(first.revision, {CHECKOUT.key: first}), age=0)
    before = await ports.log.snapshot()
    own = await write(ports, base=1)

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(ports.log, name)

        async def snapshot(self) -> Snapshot:
            follower.advance_pointer(own)
            return before

    follower._log = Slow()  # type: ignore[assignment]  # noqa: SLF001 - an answer that is late
    await follower.start()

    assert follower.pointer(CHECKOUT.key) == own


async def test_it_is_saved_again_after_it_has_moved_and_not_while_the_log_is_unavailable(
    ports: LogPorts, cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.02)
    follower = Follower(ports.log)
    await follower.start()
    last = PointerSnapshots(follower, cache)
    keeping = asyncio.create_task(last.keep_saving())
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for base in range(3):
                pointer = await write(ports, base=base)
                while True:
                    await follower.catch_up()
                    found = decode_snapshot(await cache.get_newest(module.NAME))
                    if found is not None and found[0].pointers == {CHECKOUT.key: pointer}:
                        break
                    await asyncio.sleep(0.005)
    finally:
        keeping.cancel()


async def test_too_many_pointers_are_not_kept_and_that_is_told_once(
    ports: LogPorts,
    cache: RedisCache,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "AT_MOST_BYTES", 10)
    await write(ports)
    follower = Follower(ports.log)
    await follower.start()
    last = PointerSnapshots(follower, cache)

    await last.save()
    await last.save()

    assert await cache.get_newest(module.NAME) is None
    assert capsys.readouterr().out.count("pointers_too_large_to_keep") == 1
