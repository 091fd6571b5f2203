"""python -m benchmarks.reload: how fast the client's hot-reload manager is, and what it keeps."""

import asyncio
import gc
import json
import random
import sys
import tempfile
import tracemalloc
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

from benchmarks.load import Figures
from benchmarks.table import Row, machine, table
from pilothouse.changes import ConfigChange
from pilothouse.reload import ConfigManager, FileConfigSource

_CHANGES = 200
_RELOADS = 20
_MANY = 10_000
_READS = 200_000
_HALF = 512 * 1024  # bytes


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            asyncio.run(_file_to_callback(Path(folder))),
            asyncio.run(_large(Path(folder))),
            asyncio.run(_small(Path(folder))),
            asyncio.run(_reads(Path(folder))),
        ]
        print(machine())
        print()
        print(table(rows))
        print()
        print(asyncio.run(_memory(Path(folder))))
    return 0


def _manager_of(*files: Path, watch: bool = False) -> ConfigManager:
    manager = ConfigManager(watch_files=watch)
    for file in files:
        manager.add_source(FileConfigSource(file))
    return manager


def _row(name: str, seconds: list[float]) -> Row:
    return Row(name, Figures(seconds, len(seconds) / sum(seconds)), None)


async def _file_to_callback(folder: Path) -> Row:
    """Replace a watched file by renaming; stop the clock in the callback."""
    file = folder / "watched.yaml"
    file.write_text("number: -1\n")
    heard: asyncio.Queue[tuple[float, Any]] = asyncio.Queue()

    def callback(change: ConfigChange) -> None:
        heard.put_nowait((perf_counter(), change.new_value))

    seconds = []
    async with _manager_of(file, watch=True) as manager:
        manager.subscribe(callback, "number")
        for number in range(_CHANGES):
            # Not in step with the watcher's own pauses.
            await asyncio.sleep(random.uniform(0.02, 0.06))
            other = file.with_suffix(".new")
            other.write_text(f"number: {number}\n")
            started = perf_counter()
            other.replace(file)
            moment, value = await asyncio.wait_for(heard.get(), 10)
            if value != number:
                raise RuntimeError("heard of another change")
            seconds.append(moment - started)
    return _row("file replaced to callback", seconds)


async def _large(folder: Path) -> Row:
    """Reload 512 KiB of YAML and 512 KiB of JSON in which everything is read and some changed."""
    documents = folder / "large.yaml", folder / "large.json"
    seconds = []
    _write(documents, 0)
    async with _manager_of(*documents) as manager:
        for number in range(1, _RELOADS + 1):
            _write(documents, number)
            result = await manager.reload()
            if not result.succeeded or len(result.changes) != 2:
                raise RuntimeError(f"{len(result.changes)} changes: {result.errors}")
            seconds.append(result.duration)
    return _row("reload of 1 MiB, half YAML, half JSON", seconds)


def _write(documents: tuple[Path, Path], number: int) -> None:
    as_yaml, as_json = documents
    written = yaml.dump(_tree("y", number), Dumper=yaml.CSafeDumper)
    as_yaml.write_text(written)
    as_json.write_text(json.dumps(_tree("j", number)))
    for document in documents:
        if not 0.95 * _HALF < document.stat().st_size < 1.05 * _HALF:
            raise RuntimeError(f"{document.name} has {document.stat().st_size} bytes")


def _tree(prefix: str, number: int) -> dict[str, Any]:
    """Draw sections of hosts, numbers, switches and lists, about half a mebibyte."""
    draw = random.Random(1)
    sections = {
        f"{prefix}section{section}": {
            f"name{name}": draw.choice(
                [
                    draw.randrange(10**6),
                    f"host-{draw.randrange(10**6)}.example.org",
                    True,
                    draw.random(),
                    ["a", "b", 3],
                ]
            )
            for name in range(20)
        }
        for section in range(1020)
    }
    return {f"{prefix}number": number, **sections}


async def _small(folder: Path) -> Row:
    file = folder / "small.json"
    seconds = []
    file.write_text('{"number": -1}')
    async with _manager_of(file) as manager:
        for number in range(1000):
            file.write_text(f'{{"number": {number}}}')
            seconds.append((await manager.reload()).duration)
    return _row("reload of one small file", seconds)


async def _reads(folder: Path) -> Row:
    file = folder / "read.json"
    file.write_text('{"a": {"b": {"c": 1}}}')
    seconds = []
    async with _manager_of(file) as manager:
        for _ in range(_READS):
            started = perf_counter()
            manager.get_config("a.b.c")
            seconds.append(perf_counter() - started)
    return _row("get_config of three names", seconds)


async def _memory(folder: Path) -> str:
    """Reload a file that always differs; what stays must be what 50 versions take."""
    file = folder / "many.json"

    async def reload(manager: ConfigManager, times: int) -> int:
        for number in range(times):
            file.write_text(f'{{"a": {{"n": {number}}}, "list": [1, {number}]}}')
            await manager.reload()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    file.write_text("{}")
    async with _manager_of(file) as manager:
        tracemalloc.start()
        before = await reload(manager, 200)
        grown = await reload(manager, _MANY) - before
        tracemalloc.stop()
    return f"{_MANY:,} reloads: {grown:+,} bytes kept"


if __name__ == "__main__":
    sys.exit(main())
