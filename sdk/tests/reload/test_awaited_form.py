"""The form of hot reload in which everything is awaited: a layer over the one manager."""

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse import get_config as get_config_at_once
from pilothouse import hot_reload, reload
from pilothouse.hot_reload import (
    ConfigChange,
    ConfigManager,
    ConfigMetrics,
    ConfigSource,
    ConfigVersion,
    EnvironmentConfigSource,
    FileConfigSource,
    ReloadStatus,
    RemoteConfigSource,
    get_config,
    get_config_manager,
    get_config_section,
    initialize_config_manager,
    shutdown_config_manager,
)
from pilothouse.reload import NotInitialized, StartFailed
from sdk.tests.reload.waiting import until
from sdk.tests.scripted import ScriptedServer, of_json

AWAY = "http://127.0.0.1:9/config"


class Counting(ConfigSource):
    """A source in the documented form, of somebody else's program."""

    def __init__(self, name: str, priority: int = 0) -> None:
        super().__init__(name, priority)
        self.content: Any = {"n": 0}

    async def load_config(self) -> dict[str, Any]:
        if isinstance(self.content, Exception):
            raise self.content
        return dict(self.content)

    async def is_modified(self) -> bool:
        return True


class Judging(Counting):
    async def validate_config(self, config: Mapping[str, Any]) -> tuple[bool, list[str]]:
        return (True, []) if config["n"] >= 0 else (False, ["n is negative"])


async def manager_of(*sources: Any, **options: Any) -> ConfigManager:
    manager = ConfigManager(**options)
    for source in sources:
        await manager.add_source(source)
    return manager


async def test_everything_is_read_without_a_path() -> None:
    async with await manager_of(Counting("s")) as manager:
        assert await manager.get_config() == {"n": 0}
        assert await manager.get_config(None, "default") == {"n": 0}
        assert await manager.get_config("absent", 7) == 7
        assert await manager.get_section("absent") == {}
        assert (await manager.get_config()) is not (await manager.get_config())


async def test_a_subscriber_gets_the_list_of_all_changes_of_a_reload() -> None:
    source, heard, below = Counting("s"), list[Any](), list[Any]()
    async with await manager_of(source) as manager:
        reference = manager.subscribe(heard.append)
        manager.subscribe(below.append, path="a")
        source.content = {"a": {"b": 1}, "c": 2}
        await manager.reload("s")
        assert isinstance(reference, weakref.ReferenceType)
        manager.unsubscribe(reference)
        assert reference() is None
        manager.unsubscribe(reference)
        source.content = {"c": 3}
        await manager.reload()

    assert [[change.path for change in changes] for changes in heard] == [["a.b", "c", "n"]]
    assert isinstance(heard[0], list)
    assert isinstance(heard[0][0], ConfigChange)
    assert [[change.path for change in changes] for changes in below] == [["a.b"], ["a.b"]]


async def test_a_local_function_stays_subscribed_and_a_method_goes_with_its_object() -> None:
    class Listener:
        heard = 0

        def hear(self, _: list[ConfigChange]) -> None:
            Listener.heard += 1

    batches = []

    def subscribe_locally(manager: ConfigManager) -> None:
        def show(changes: list[ConfigChange]) -> None:
            batches.append(len(changes))

        manager.subscribe(show)

    source, listener = Counting("s"), Listener()
    async with await manager_of(source) as manager:
        subscribe_locally(manager)
        reference = manager.subscribe(listener.hear)
        gc.collect()
        source.content = {"n": 1}
        await manager.reload()
        del listener
        gc.collect()
        source.content = {"n": 2}
        await manager.reload()

    assert batches == [1, 1]
    assert Listener.heard == 1
    assert reference() is None


async def test_subscribers_may_be_async_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    async def hear(changes: list[ConfigChange]) -> None:
        await asyncio.sleep(0)
        heard.append([change.new_value for change in changes])

    def fail(changes: list[ConfigChange]) -> None:
        raise ValueError(len(changes))

    source = Counting("s")
    async with await manager_of(source) as manager:
        manager.subscribe(fail)
        manager.subscribe(hear)
        for n in (1, 2):
            source.content = {"n": n}
            await manager.reload()
        await until(lambda: heard == [[1], [2]])

    assert "a callback failed on the change of n" in caplog.text


async def test_metrics_count_the_start_and_have_naive_times() -> None:
    source = Counting("s")
    manager = await manager_of(source)
    assert manager.get_metrics() == ConfigMetrics(config_sources_count=1)
    await asyncio.gather(manager.start(), manager.start())
    await manager.start()
    first = manager.get_metrics()
    source.content = ValueError("is broken")
    await manager.reload()
    second = manager.get_metrics()
    await manager.stop()

    assert (first.total_reloads, first.successful_reloads, first.failed_reloads) == (1, 1, 0)
    assert first.average_reload_time_ms > 0
    assert first.last_reload_time is not None
    age = datetime.now().astimezone().utcoffset()
    assert age is not None
    utc = datetime.now() - age  # noqa: DTZ005 - naive, as programs of this form reckon
    assert -1 < (utc - first.last_reload_time).total_seconds() < 60
    assert (second.total_reloads, second.successful_reloads, second.failed_reloads) == (2, 1, 1)
    assert second.last_reload_time is not None
    assert second.last_reload_time >= first.last_reload_time


async def test_versions_have_naive_times_and_rollbacks_go_back() -> None:
    source = Counting("s")
    async with await manager_of(source, max_config_versions=5) as manager:
        source.content = {"n": 1}
        await manager.reload()
        newest, oldest = manager.get_version_history()
        result = await manager.rollback(steps=1)
        too_far = await manager.rollback(steps=9)
        value = await manager.get_config("n")

    assert isinstance(newest, ConfigVersion)
    assert (newest.version, newest.is_current, newest.created_at.tzinfo) == (2, True, None)
    assert (oldest.version, oldest.cause) == (1, "start")
    assert (result.status, value) == (ReloadStatus.ROLLED_BACK, 0)
    assert too_far.status is ReloadStatus.FAILED


async def test_sources_are_the_ones_that_were_added(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1")
    added = [
        Counting("own", priority=1),
        FileConfigSource(tmp_path / "a.yaml", priority=2, name="file"),
        EnvironmentConfigSource(prefix="APP_", priority=3, environment={"APP_A": "2"}),
        reload.FileConfigSource(tmp_path / "a.yaml", priority=4, name="plain"),
    ]
    async with await manager_of(*added) as manager:
        sources = manager.get_sources()
        is_modified = [await source.is_modified() for source in sources]
        (tmp_path / "a.yaml").write_text("a: 3")
        is_file_modified = await sources[2].is_modified()

    assert sources == added[::-1]
    assert is_modified == [False, False, False, True]
    assert is_file_modified


async def test_a_circuit_opens_after_failures_in_a_row() -> None:
    source = RemoteConfigSource(url=AWAY, timeout=1, failures=2)
    async with await manager_of(source, Counting("s")) as manager:
        was_open = source._is_circuit_open()  # noqa: SLF001 - as programs of this form do
        await manager.reload(source.name)
        assert source._is_circuit_open()  # noqa: SLF001 - as programs of this form do

    assert not was_open


async def test_a_source_is_loaded_when_it_was_added_to_a_running_manager() -> None:
    async with await manager_of(Counting("s")) as manager:
        await manager.add_source(Judging("judging", priority=2))
        manager.get_sources()[0].content = {"n": 5}
        await manager.reload("judging")
        assert await manager.get_config("n") == 5


async def test_what_a_source_does_not_find_valid_is_not_loaded() -> None:
    source = Judging("s")
    async with await manager_of(source) as manager:
        source.content = {"n": -1}
        result = await manager.reload("s")
        value = await manager.get_config("n")

    assert (result.status, result.errors) == (ReloadStatus.FAILED, ("s: n is negative",))
    assert value == 0


async def test_credentials_are_named_unless_they_come_from_variables(tmp_path: Path) -> None:
    text = "db: {password: '${PW}', admin_password: '${ADMIN:sesame-horse-1}', key: '${KEY:x}'}\n"
    (tmp_path / "a.yaml").write_text(text + "more: {password: in-the-open-9}")
    source = FileConfigSource(tmp_path / "a.yaml", environment={"PW": "correct-horse-9"})
    config = await source.load_config()
    is_valid, errors = await source.validate_config(config)
    places = {error.partition(":")[0] for error in errors}
    own = await Counting("s").validate_config({"password": "in-the-open-9"})
    variables = EnvironmentConfigSource("APP", environment={"APP_PASSWORD": "in-the-open-9"})

    assert not is_valid
    assert places == {"db.admin_password", "more.password"}
    assert (await source.validate_config({"db": {"password": "correct-horse-8"}}))[0] is False
    assert own[0] is False
    assert await variables.validate_config(await variables.load_config()) == (True, [])


async def test_a_primary_and_a_backup_that_are_away_stop_no_start_while_something_answers(
    tmp_path: Path, scripted_server: ScriptedServer
) -> None:
    def remotes() -> list[Any]:
        return [
            RemoteConfigSource(url=AWAY, priority=30, name="primary"),
            RemoteConfigSource(url=AWAY, priority=25, name="backup"),
        ]

    (tmp_path / "cache.yaml").write_text("a: cached")
    file = FileConfigSource(tmp_path / "cache.yaml", priority=20)
    variables = EnvironmentConfigSource("APP", environment={"APP_A": "1"})
    nothing = EnvironmentConfigSource("APP", environment={})

    for answering in (file, variables):
        async with await manager_of(*remotes(), answering) as manager:
            assert await manager.get_config("a") in {"cached", 1}
            assert not manager.inner.health().is_healthy
    for silent in ([], [nothing]):
        with pytest.raises(StartFailed, match=r"primary: .*; backup: "):
            await (await manager_of(*remotes(), *silent)).start()
    strict = ConfigManager()
    await strict.add_source(remotes()[0], optional=False)
    await strict.add_source(file)
    with pytest.raises(StartFailed, match="primary"):
        await strict.start()

    scripted_server.answers["/config"] = lambda _: of_json(None, 503)
    late = RemoteConfigSource(
        f"{scripted_server.url}/config", priority=30, poll_seconds=0.01, failures=1000
    )
    async with await manager_of(late, file) as manager:
        scripted_server.answers["/config"] = lambda _: of_json({"a": "served"})
        await until(lambda: manager.inner.get_config("a") == "served")


async def test_the_manager_of_the_process_is_the_same_in_both_forms() -> None:
    with pytest.raises(NotInitialized):
        await get_config("n")
    assert get_config_manager() is None

    manager = await initialize_config_manager([Counting("s")], watch_files=True)
    assert get_config_manager() is manager
    assert await get_config("n", 9) == get_config_at_once("n") == 0
    assert await get_config() == {"n": 0}
    assert await get_config_section("absent") == {}
    second = await initialize_config_manager([Judging("t")])
    assert not manager.inner.is_running
    assert get_config_manager() is second
    await shutdown_config_manager()
    assert get_config_manager() is None

    inner = await reload.initialize_config_manager()
    shared = get_config_manager()
    assert shared is not None
    assert shared.inner is inner
    assert get_config_manager() is shared
    [source] = shared.get_sources()
    assert isinstance(source, EnvironmentConfigSource)
    await reload.shutdown_config_manager()
    assert get_config_manager() is None


async def test_the_words_of_the_environment_mean_what_they_say(
    tmp_path: Path, scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database.yaml").write_text("{database: {host: db1, port: 5432}, from: file}")
    scripted_server.answers["/config.json"] = lambda _: of_json({"from": "remote"})
    for name, value in {
        "CONFIG_DIR": str(tmp_path),
        "APP_CONFIG_WATCH": "true",
        "APP_CONFIG_SOURCES": "file,env,remote",
        "APP_CONFIG_URL": f"{scripted_server.url}/config.json",
        "APP_DATABASE_HOST": "db2",
        "APP_DEBUG_MODE": "false",
        "APP_FROM": "variable",
    }.items():
        monkeypatch.setenv(name, value)

    await initialize_config_manager()
    config = await get_config()
    kinds = [type(source) for source in get_config_manager().get_sources()]  # type: ignore[union-attr]
    await shutdown_config_manager()
    monkeypatch.setenv("APP_CONFIG_URL", "")
    with pytest.raises(reload.BadConfig, match="APP_CONFIG_URL is not set"):
        await initialize_config_manager()

    assert config == {
        "database": {"host": "db2", "port": 5432},
        "database_host": "db2",
        "debug": {"mode": False},
        "debug_mode": False,
        "from": "remote",
    }
    assert kinds == [RemoteConfigSource, EnvironmentConfigSource, reload.DirectoryConfigSource]


FORGETFUL = """
import asyncio
from pilothouse.hot_reload import FileConfigSource, get_config, initialize_config_manager

async def main():
    await initialize_config_manager([FileConfigSource("app.yaml")])
    print(await get_config("a"))

asyncio.run(main())
"""


def test_a_program_that_ends_without_stopping_says_nothing_odd(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("a: 1")
    ran = subprocess.run(
        (sys.executable, "-W", "error", "-c", FORGETFUL),
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran.stderr
    assert "Traceback" not in ran.stderr


def test_every_name_is_there() -> None:
    assert all(hasattr(hot_reload, name) for name in hot_reload.__all__)
