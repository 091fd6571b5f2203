"""Heartbeats: noted together, and answered whatever happens."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.registry.errors import RegistryUnavailable
from app.registry.heartbeats import HeartbeatRecorder
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.model import Heartbeat, InstanceRow
from app.registry.view import RegistryView
from tests.registry.bench import SERVICE, Store, embedded_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with embedded_store(tmp_path) as made:
        yield made


def beat(id_: str, epoch: int | None = None) -> Heartbeat:
    return Heartbeat(SERVICE, id_, epoch)


async def test_heartbeats_that_come_together_are_written_together(store: Store) -> None:
    rows = [await store.register(f"i-{number}") for number in range(50)]
    written: list[None] = []
    counted = EmbeddedInstanceStore(store.state, lambda: written.append(None))
    heartbeats = HeartbeatRecorder(counted, RegistryView())

    heard = await asyncio.gather(
        *(heartbeats.record(beat(row.instance_id, epoch)) for row in rows for epoch in (None, 1, 2))
    )

    assert len(written) == 1
    assert [row is not None for row in heard] == [True, True, False] * 50
    assert all(row.heartbeat_at > rows[-1].heartbeat_at for row in heard if row is not None)


async def test_what_comes_while_a_batch_is_written_makes_the_next(store: Store) -> None:
    await store.register("i-1")
    written: list[None] = []
    counted = EmbeddedInstanceStore(store.state, lambda: written.append(None))
    heartbeats = HeartbeatRecorder(counted, RegistryView())

    async def beats() -> None:
        for _ in range(10):
            assert await heartbeats.record(beat("i-1")) is not None

    await asyncio.gather(*(beats() for _ in range(20)))

    assert len(written) == 10


async def test_a_heartbeat_is_seen_and_wakes_nobody(store: Store) -> None:
    row = await store.register("i-1")
    view = RegistryView()
    view.learn([row])
    waiting = asyncio.ensure_future(view.wait_for_change(30))
    await asyncio.sleep(0)

    await HeartbeatRecorder(store.rows, view).record(beat("i-1"))

    known = view.row(SERVICE, "i-1")
    assert known is not None
    assert known.heartbeat_at > row.heartbeat_at
    assert not waiting.done()
    waiting.cancel()


async def test_a_heartbeat_for_nobody_is_told_so(store: Store) -> None:
    await store.register("i-1")
    await store.rows.deregister(SERVICE, "i-1", None, "ada", "request-1")
    heartbeats = HeartbeatRecorder(store.rows, RegistryView())

    assert await heartbeats.record(beat("i-1")) is None
    assert await heartbeats.record(beat("i-2")) is None
    assert await heartbeats.record(beat("i-2", 1)) is None


async def test_while_the_store_is_unavailable_no_heartbeat_is_acknowledged(store: Store) -> None:
    known = await store.register("known")
    view = RegistryView()
    view.learn([known])
    heartbeats = HeartbeatRecorder(store.rows, view)
    await store.fail()

    for unheard in (beat("known", 1), beat("known"), beat("nobody")):
        with pytest.raises(RegistryUnavailable):
            await heartbeats.record(unheard)
    await store.heal()

    heard = await heartbeats.record(beat("known", 1))
    assert heard is not None
    assert heard.heartbeat_at > known.heartbeat_at


async def test_a_mistake_reaches_who_waits_and_stops_nobody_else(store: Store) -> None:
    await store.register("i-1")
    heartbeats = HeartbeatRecorder(store.rows, RegistryView())

    with pytest.raises(sqlite3.Error):
        await heartbeats.record(Heartbeat(SERVICE, object()))  # type: ignore[arg-type]

    assert isinstance(await heartbeats.record(beat("i-1")), InstanceRow)


async def test_who_stops_waiting_takes_no_other_along(store: Store) -> None:
    await store.register("i-1")
    heartbeats = HeartbeatRecorder(store.rows, RegistryView())
    impatient = asyncio.ensure_future(heartbeats.record(beat("i-1")))
    patient = asyncio.ensure_future(heartbeats.record(beat("i-1")))
    await asyncio.sleep(0)

    impatient.cancel()

    assert await patient is not None
