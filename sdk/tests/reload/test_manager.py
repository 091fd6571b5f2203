"""The manager over sources in memory: reloads, rollbacks, overrides, who is told and from where."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.reload import ConfigManager, ReloadStatus, SourceUnavailable, StartFailed
from pilothouse_core.trees import KeysConflict
from sdk.tests.reload.waiting import Heard
from tests.servers.process import PATIENCE_SECONDS


class Held:
    """A source whose content a test sets; an exception is raised."""

    def __init__(self, name: str, content: Any, priority: int = 0) -> None:
        self.name, self.priority, self.content = name, priority, content
        self.gate: asyncio.Event | None = None
        self.is_closed = False
        self.is_remote = False
        self._stirred = asyncio.Queue[Any]()

    async def load_config(self) -> Mapping[str, Any]:
        content = self.content
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(content, Exception):
            raise content
        return content  # type: ignore[no-any-return] # some are no mappings on purpose

    async def watch(self) -> AsyncGenerator[None, None]:
        while True:
            if isinstance(content := await self._stirred.get(), Exception):
                raise content
            self.content = content
            yield

    def stir(self, content: Any) -> None:
        self._stirred.put_nowait(content)

    async def close(self) -> None:
        self.is_closed = True


def manager_of(*sources: Held, **options: Any) -> ConfigManager:
    manager = ConfigManager(**options)
    for source in sources:
        manager.add_source(source)
    return manager


async def test_sources_are_merged_and_read_by_path() -> None:
    low, high = (
        Held("low", {"a": {"b": 1, "c": [1]}, "n": None}, 1),
        Held("high", {"a": {"b": 2}}, 2),
    )
    async with manager_of(high, low) as manager:
        manager.get_config("a.c").append(2)
        manager.get_section("a")["b"] = 9

        assert manager.get_config("a.b") == 2
        assert manager.get_config("a") == {"b": 2, "c": [1]}
        assert manager.get_config("n", "default") is None
        assert manager.get_config("absent", "default") == "default"
        assert manager.get_section("a") == {"b": 2, "c": [1]}
        assert manager.get_section("absent") == {}
        assert manager.get_origin("a.b") == "high"
        with pytest.raises(TypeError, match=r"a\.b is a value"):
            manager.get_section("a.b")
        assert [source.name for source in manager.get_sources()] == ["high", "low"]
    assert low.is_closed
    assert high.is_closed
    assert manager.get_config("a.b") == 2


async def test_a_reload_tells_what_changed() -> None:
    source = Held("s", {"a": 1, "b": {"c": 1}, "same": 1})
    async with manager_of(source) as manager:
        source.content = {"a": 2, "d": 1, "same": 1}
        result = await manager.reload("s")

    assert (result.status, result.source, result.version) == (ReloadStatus.SUCCESS, "s", 2)
    assert {
        (one.path, one.old_value, one.new_value, one.change_type) for one in result.changes
    } == {
        ("a", 1, 2, ChangeType.MODIFIED),
        ("b.c", 1, None, ChangeType.REMOVED),
        ("d", None, 1, ChangeType.ADDED),
    }
    assert [kind.value for kind in ChangeType] == ["added", "modified", "removed"]
    assert result.duration > 0
    assert "old_value" not in repr(result)


async def test_a_broken_source_keeps_its_last_good_part() -> None:
    broken, sound = Held("broken", {"a": 1}), Held("sound", {"b": 1})
    async with manager_of(broken, sound) as manager:
        broken.content, sound.content = SourceUnavailable("is away"), {"b": 2}
        failed = await manager.reload()
        health = manager.health()
        broken.content = "no mapping"
        odd = await manager.reload("broken")
        broken.content = {"a": 3}
        repaired = await manager.reload()

        assert (failed.status, failed.errors) == (ReloadStatus.FAILED, ("broken: is away",))
        assert [change.path for change in failed.changes] == ["b"]
        assert (health.is_healthy, dict(health.sources)) == (
            False,
            {"broken": "is away", "sound": None},
        )
        assert odd.errors == ("broken: returned str where a mapping is expected",)
        assert repaired.succeeded
        assert manager.health().is_healthy
        assert manager.get_section() == {"a": 3, "b": 2}


async def test_a_start_without_a_needed_source_fails_and_names_it() -> None:
    away = Held("away", SourceUnavailable("is away"))
    with pytest.raises(StartFailed, match="away: is away") as failed:
        await manager_of(away).start()
    assert failed.value.errors == {"away": "is away"}

    manager = ConfigManager()
    manager.add_source(away, optional=True)
    async with manager:
        assert not manager.health().is_healthy
        away.content = {"a": 1}
        assert (await manager.reload()).succeeded
        assert manager.get_config("a") == 1


async def test_of_a_primary_and_its_backup_one_is_enough_to_start() -> None:
    primary, backup = Held("primary", SourceUnavailable("is away"), 2), Held("backup", {"a": 1}, 1)
    primary.is_remote = backup.is_remote = True
    manager = manager_of(primary, backup)
    async with manager:
        assert manager.get_config("a") == 1
        assert not manager.health().is_healthy
        primary.content = {"a": 2}
        assert (await manager.reload()).succeeded
        assert manager.get_config("a") == 2

    broken = Held("broken", ValueError("is wrong"))
    broken.is_remote = True
    with pytest.raises(StartFailed, match="broken: ValueError: is wrong"):
        await manager_of(broken, backup).start()


async def test_what_is_not_known_is_refused() -> None:
    manager = manager_of(Held("s", {}))
    for name in ("s", "runtime", "configuration"):
        with pytest.raises(ValueError, match="already"):
            manager.add_source(Held(name, {}))
    with pytest.raises(LookupError, match="'t'"):
        await manager.reload("t")
    for path in ("", "a..b", ".a"):
        with pytest.raises(ValueError, match="dotted path"):
            manager.override(path, 1)
    with pytest.raises(ValueError, match="one step"):
        await manager.rollback(0)
    with pytest.raises(ValueError, match="one version"):
        ConfigManager(max_config_versions=0)


async def test_a_load_that_began_earlier_never_replaces_a_later_one() -> None:
    source = Held("s", {"a": 0})
    async with manager_of(source) as manager:
        source.gate, source.content = asyncio.Event(), {"a": "old"}
        gate = source.gate
        slow = asyncio.create_task(manager.reload())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.gate, source.content = None, {"a": "new"}
        await manager.reload()
        gate.set()
        await slow

        assert manager.get_config("a") == "new"


async def test_a_rollback_holds_until_its_source_changes() -> None:
    one, two = Held("one", {"a": 1}), Held("two", {"b": 1})
    heard = Heard()
    async with manager_of(one, two) as manager:
        one.content = {"a": "bad"}
        await manager.reload()
        manager.subscribe(heard)

        result = await manager.rollback(steps=1)
        two.stir({"b": 2})
        await heard.until(lambda: len(heard.changes) == 2)
        held = manager.get_section()
        too_far = await manager.rollback(steps=9)
        history = manager.get_version_history()
        await manager.reload()

        assert result.status is ReloadStatus.ROLLED_BACK
        assert [change.new_value for change in heard.changes[:2]] == [1, 2]
        assert held == {"a": 1, "b": 2}
        assert (too_far.status, too_far.version) == (ReloadStatus.FAILED, 4)
        assert [(one.version, one.is_current) for one in history] == [
            (4, True),
            (3, False),
            (2, False),
            (1, False),
        ]
        assert [one.cause for one in history] == [
            "reload of two",
            "rollback to 1",
            "reload of all sources",
            "start",
        ]
        assert manager.get_config("a") == "bad"


async def test_an_override_is_above_all_sources_until_it_is_cleared() -> None:
    source = Held("s", {"a": {"b": 1, "c": 1}}, 10**6)
    async with manager_of(source) as manager:
        given = [1]
        manager.override("a.b", given)
        given.append(2)
        manager.override("new", {"x": {"y": 1}})
        source.content = {"a": {"b": 5, "c": 5}}
        await manager.reload()

        assert manager.get_section() == {"a": {"b": [1], "c": 5}, "new": {"x": {"y": 1}}}
        assert manager.get_origin("a.b") == "runtime"
        with pytest.raises(KeysConflict):
            manager.override("a.b.c", 1)
        manager.override("a", {"c": 0})
        assert manager.get_section("a") == {"b": 5, "c": 0}
        manager.clear_override("a.c")
        assert manager.get_section("a") == {"b": 5, "c": 5}
        manager.clear_override()
        assert manager.get_section() == source.content


async def test_subscribers_hear_of_their_path_only_and_errors_stay_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Held("s", {"db": {"host": 1}, "dbx": 1})
    everything, section, leaf = Heard(), Heard(), Heard()

    def raise_bug(_: ConfigChange) -> None:
        raise RuntimeError("a bug of the caller")

    async with manager_of(source) as manager:
        manager.subscribe(raise_bug)
        manager.subscribe(section, "db")
        manager.subscribe(leaf, path="db.host")
        reference = manager.subscribe(everything)
        source.content = {"db": {"host": 2, "port": 1}, "dbx": 2}
        await manager.reload()

        assert manager.unsubscribe(reference)
        assert not manager.unsubscribe(reference)
        source.content = {}
        await manager.reload()

    assert [change.path for change in everything.changes] == ["db.host", "db.port", "dbx"]
    assert [one.path for one in section.changes] == ["db.host", "db.port", "db.host", "db.port"]
    assert [change.new_value for change in leaf.changes] == [2, None]
    assert sum("a callback failed" in record.message for record in caplog.records) == 6


async def test_bound_methods_are_held_weakly_and_functions_strongly() -> None:
    manager = manager_of(Held("s", {}))
    kept, gone, seen = Heard(), Heard(), []
    manager.subscribe(kept.method)
    manager.subscribe(gone.method)
    manager.subscribe(lambda change: seen.append(change.path))
    was_gone = weakref.ref(gone)

    del gone
    gc.collect()
    manager.override("a", 1)

    assert was_gone() is None
    assert seen == ["a"]
    assert len(kept.changes) == 1
    assert len(manager._subscriptions) == 2  # noqa: SLF001 - that nothing is left behind


async def test_async_callbacks_hear_changes_one_after_the_other() -> None:
    heard = Heard()
    first = asyncio.Event()

    async def slowly(change: ConfigChange) -> None:
        if change.new_value == 1:
            await first.wait()
        heard(change)
        if change.new_value == 2:
            raise RuntimeError("a bug of the caller")

    async with manager_of(Held("s", {})) as manager:
        manager.subscribe(slowly)
        for value in (1, 2, 3):
            manager.override("a", value)
        first.set()
        await heard.until(lambda: len(heard.changes) == 3)

    assert [change.new_value for change in heard.changes] == [1, 2, 3]


async def test_a_callback_may_change_the_configuration_and_order_is_kept() -> None:
    first, second = Heard(), Heard()
    async with manager_of(Held("s", {})) as manager:

        def follow(change: ConfigChange) -> None:
            first(change)
            if change.path == "a":
                manager.override("b", change.new_value)

        manager.subscribe(follow)
        manager.subscribe(second)
        manager.override("a", 1)

    assert [change.path for change in first.changes] == ["a", "b"]
    assert [change.path for change in second.changes] == ["a", "b"]


async def test_a_watched_source_is_reloaded_and_a_broken_watch_begins_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pilothouse.reload.watchers._LONGEST_PAUSE_SECONDS", 0.01)
    source, heard = Held("s", {"a": 1}), Heard()
    async with manager_of(source) as manager:
        manager.subscribe(heard)
        source.stir({"a": 2})
        await heard.until(lambda: manager.get_config("a") == 2)
        source.stir(OSError("the watch broke"))
        source.stir({"a": 3})
        await heard.until(lambda: manager.get_config("a") == 3)


async def test_a_source_may_be_added_while_the_manager_runs() -> None:
    heard = Heard()
    async with manager_of(Held("s", {"a": 1})) as manager:
        manager.subscribe(heard)
        late = Held("late", {"b": 1})
        manager.add_source(late)
        await heard.until(lambda: manager.get_config("b") == 1)
        late.stir({"b": 2})
        await heard.until(lambda: manager.get_config("b") == 2)
        assert manager.get_metrics()["config_sources_count"] == 2


async def test_reloads_are_counted() -> None:
    registry = CollectorRegistry()
    source = Held("s", {})
    manager = manager_of(source, Held("t", {}), metrics_registry=registry)
    before = datetime.now(UTC)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for _ in range(2):  # a manager may be started again
        async with manager:
            assert sample("config_sources_healthy") == 2
            await manager.reload()
            source.content = SourceUnavailable("is away")
            await manager.reload("s")
            assert sample("config_sources_healthy") == 1
            source.content = {}
            await manager.rollback()
        assert sample("config_sources_healthy") is None
    metrics = manager.get_metrics()
    async with manager:
        assert sample("config_reloads_total", status="success") == 2
        assert sample("config_reloads_total", status="failed") == 2
        assert sample("config_reload_duration_seconds_count") == 4

    last = metrics.pop("last_reload_time")  # type: ignore[misc] # compared below
    assert isinstance(last, datetime)
    assert last >= before
    assert metrics.pop("average_reload_time_ms") > 0  # type: ignore[misc] # any will do
    assert dict(metrics) == {
        "total_reloads": 4,
        "successful_reloads": 2,
        "failed_reloads": 2,
        "config_sources_count": 2,
    }


def test_a_script_needs_no_event_loop() -> None:
    source = Held("s", {"a": 1})
    threads: list[str] = []

    async def later(change: ConfigChange) -> None:
        threads.append(threading.current_thread().name)
        heard.set()

    heard = threading.Event()
    with manager_of(source) as manager:
        manager.subscribe(later)
        source.content = {"a": 2}
        assert manager.reload_sync().version == 2
        assert manager.get_config("a") == 2
        assert manager.rollback_sync().status is ReloadStatus.ROLLED_BACK
        assert heard.wait(PATIENCE_SECONDS)
    assert manager.reload_sync().succeeded
    assert threads[0] == "pilothouse-config"
    assert not [one for one in threading.enumerate() if one.name == "pilothouse-config"]


def test_a_start_that_fails_leaves_no_thread() -> None:
    with pytest.raises(StartFailed):
        manager_of(Held("s", SourceUnavailable("is away"))).start_sync()

    assert not [one for one in threading.enumerate() if one.name == "pilothouse-config"]


async def test_sync_methods_refuse_to_block_an_event_loop() -> None:
    manager = manager_of(Held("s", {}))
    with pytest.raises(RuntimeError, match="await the method without _sync"):
        manager.reload_sync()


def test_another_loop_asks_the_one_the_manager_lives_on() -> None:
    threads: list[str] = []

    class Noting(Held):
        async def load_config(self) -> Mapping[str, Any]:
            threads.append(threading.current_thread().name)
            return await super().load_config()

    with manager_of(Noting("s", {"a": 1})) as manager:
        result = asyncio.run(manager.reload())

    assert result.succeeded
    assert threads == ["pilothouse-config"] * 2


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Let threads take turns as often as they can: more ways to meet, and no waiting in line."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_readers_see_whole_configurations_while_reloads_swap_them(often_switched: None) -> None:
    source = Held("s", {"x": {"n": 0}, "y": {"n": 0}})
    stop = threading.Event()
    torn: list[Any] = []
    reads = 0

    def read_sections() -> None:
        nonlocal reads
        while not stop.is_set():
            everything = manager.get_section()
            reads += 1
            if everything["x"] != everything["y"]:
                torn.append(everything)

    with manager_of(source, max_config_versions=3) as manager:
        readers = [threading.Thread(target=read_sections) for _ in range(4)]
        for reader in readers:
            reader.start()
        for number in range(100):
            source.content = {"x": {"n": number}, "y": {"n": number}}
            manager.reload_sync()
            manager.override("z", number)
        stop.set()
        for reader in readers:
            reader.join()

    assert torn == []
    assert reads > 100


def test_overrides_from_many_threads_are_all_there_and_told_in_order() -> None:
    values: list[int] = []
    with manager_of(Held("s", {})) as manager:
        manager.subscribe(lambda change: values.append(change.new_value))

        def write(thread: int) -> None:
            for number in range(50):
                manager.override(f"t{thread}.n{number}", thread * 1000 + number)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manager.reload_sync()  # what was told on the loop before it has been told

        assert sum(len(section) for section in manager.get_section().values()) == 200

    assert len(values) == 200
    for thread_number in range(4):
        own = [value for value in values if value // 1000 == thread_number]
        assert own == sorted(own)
