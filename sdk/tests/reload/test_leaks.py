"""Thousands of reloads leave nothing behind; benchmarks/reload.py does ten thousand."""
# ruff: noqa: ASYNC240 - a test may wait for its disk

import gc
from collections import Counter
from pathlib import Path

from pilothouse.reload import ConfigManager, EnvironmentConfigSource, FileConfigSource

WARM_UP, RELOADS = 100, 2000
VERSIONS = 10


def objects() -> Counter[str]:
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects())


async def reload_often(manager: ConfigManager, file: Path, times: int) -> None:
    for number in range(times):
        file.write_text(f'{{"a": {{"n": {number}}}, "list": [1, {number}]}}')
        assert (await manager.reload()).changes
        manager.unsubscribe(manager.subscribe(print))


async def test_reloads_leave_no_objects_behind(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    file.write_text("{}")
    manager = ConfigManager(watch_files=False, max_config_versions=VERSIONS)
    manager.add_source(FileConfigSource(file))
    manager.add_source(EnvironmentConfigSource("LEAKS", environment={"LEAKS_X": "1"}))
    async with manager:
        await reload_often(manager, file, WARM_UP)
        objects()  # the first call fills a cache of the interpreter
        before = objects()
        await reload_often(manager, file, RELOADS)
        grown = objects() - before

    assert sum(grown.values()) < 50, grown.most_common(5)


async def test_versions_share_what_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    members = ", ".join(f'"k{number}": [{number}]' for number in range(2000))
    manager = ConfigManager(watch_files=False)
    manager.add_source(FileConfigSource(file))
    file.write_text(f'{{"n": 0, "same": {{{members}}}}}')
    async with manager:
        before = sum(objects().values())
        for number in range(1, 40):
            file.write_text(f'{{"n": {number}, "same": {{{members}}}}}')
            await manager.reload()
        grown = sum(objects().values()) - before

    assert grown < 2000  # and not 40 times as many lists
