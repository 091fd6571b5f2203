"""Starts and stops on loops that end, several starts, and sources that are removed."""

import asyncio
import threading

import pytest

from sdk.tests.reload.test_manager import Held, manager_of


def test_a_manager_may_be_started_and_stopped_on_loops_of_their_own() -> None:
    manager = manager_of(Held("a", {"x": 1}))

    asyncio.run(manager.start())
    health = manager.health()
    asyncio.run(manager.stop())

    assert not health.is_healthy
    assert health.error is not None
    assert "has ended: nothing is watched" in health.error
    assert manager.get_config("x") == 1
    assert manager.health().error is None


def test_a_second_start_watches_where_the_first_ones_loop_has_ended() -> None:
    manager = manager_of(Held("a", {"x": 1}))
    asyncio.run(manager.start())

    async def again() -> None:
        await manager.start()
        assert manager.health().is_healthy
        assert [source.is_watched for source in manager.get_sources()] == [True]
        await manager.stop()

    asyncio.run(again())


def test_start_sync_begins_again_where_the_first_ones_loop_has_ended() -> None:
    manager = manager_of(Held("a", {"x": 1}))
    asyncio.run(manager.start())

    manager.start_sync()

    assert manager.health().is_healthy
    manager.stop_sync()


def test_stop_without_sync_ends_the_thread_of_start_sync() -> None:
    manager = manager_of(Held("a", {"x": 1}))
    before = set(threading.enumerate())
    manager.start_sync()

    asyncio.run(manager.stop())

    new = set(threading.enumerate()) - before
    assert not [one for one in new if one.name == "pilothouse-config"]


async def test_two_starts_at_once_are_one() -> None:
    source = Held("a", {"x": 1})
    source.gate = asyncio.Event()
    manager = manager_of(source)

    starting = [asyncio.create_task(manager.start()) for _ in range(2)]
    await asyncio.sleep(0)
    source.gate.set()
    results = await asyncio.gather(*starting)

    assert [result.version for result in results] == [1, 1]
    await manager.stop()


async def test_a_removed_source_takes_along_what_it_brought() -> None:
    low, high = Held("low", {"x": 1}, 1), Held("high", {"x": 2, "y": 2}, 2)
    async with manager_of(low, high) as manager:
        manager.remove_source("high")

        assert manager.get_section() == {"x": 1}
        assert [source.name for source in manager.get_sources()] == ["low"]
        await manager.rollback()
        assert manager.get_section() == {"x": 1}
        with pytest.raises(LookupError, match="high"):
            manager.remove_source("high")


async def test_values_are_read_as_the_type_that_is_asked_for() -> None:
    content = {"port": "8080", "debug": "False", "hosts": "a, b", "rate": "1.10", "n": None}
    async with manager_of(Held("a", content)) as manager:
        assert manager.get_int("port") == 8080
        assert manager.get_bool("debug") is False
        assert manager.get_list("hosts") == ["a", "b"]
        assert manager.get_float("rate") == 1.1
        assert manager.get_str("rate") == "1.10"
        assert manager.get_int("rate", 7) == 7
        assert manager.get_int("absent", 7) == 7
        assert manager.get_str("n") is None
