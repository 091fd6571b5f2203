"""A process that is forked while its manager runs, as gunicorn does with `--preload`."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pilothouse.changes import ConfigChange
from pilothouse.reload import ConfigManager, FileConfigSource
from tests.servers.process import wait_until

SECONDS = 20
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@contextmanager
def run_in_fork(child: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Run `child` in a forked process; what is yielded waits for what it returns there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(child()).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def answer() -> Any:
        os.set_blocking(reading, False)  # a child that hangs fails the test, not the run
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            try:
                return json.loads(os.read(reading, 4096) or b"null")
            except BlockingIOError:
                time.sleep(0.01)
        raise AssertionError("the forked process says nothing")

    try:
        yield answer
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reading)


def has_reached(manager: ConfigManager, value: int) -> bool:
    deadline = time.monotonic() + SECONDS
    while manager.get_config("a") != value and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(manager.get_config("a") == value)


def test_a_forked_process_follows_files_on_its_own_and_its_parent_goes_on(tmp_path: Path) -> None:
    file, go = tmp_path / "app.json", tmp_path / "go"
    file.write_text('{"a": 1}')
    manager = ConfigManager()
    manager.add_source(FileConfigSource(file))
    heard: list[ConfigChange] = []

    async def hear(change: ConfigChange) -> None:
        heard.append(change)

    manager.subscribe(hear)

    def child() -> dict[str, Any]:
        before = manager.get_config("a")
        go.touch()
        said = {"before": before, "follows": has_reached(manager, 2)}
        said["healthy"] = manager.health().is_healthy
        said["watched"] = manager.get_sources()[0].is_watched
        said["reload"] = manager.reload_sync().status.value
        said["heard"] = [change.new_value for change in heard]
        manager.stop_sync()
        return said

    with manager:
        with run_in_fork(child) as answer:
            wait_until(go.exists, "the child has read")
            file.write_text('{"a": 2}')
            said = answer()
        assert has_reached(manager, 2)
        file.write_text('{"a": 3}')
        assert has_reached(manager, 3)

    assert said == {
        "before": 1,
        "follows": True,
        "healthy": True,
        "watched": True,
        "reload": "success",
        "heard": [2],
    }


async def test_a_manager_of_a_loop_that_was_left_behind_can_be_started_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "app.json"
    file.write_text('{"a": 1}')
    manager = ConfigManager()
    manager.add_source(FileConfigSource(file))

    def child() -> dict[str, Any]:
        said: dict[str, Any] = {"a": manager.get_config("a")}
        said["before"] = manager.health().is_healthy
        manager.start_sync()
        said["after"] = manager.health().is_healthy
        manager.stop_sync()
        return said

    async with manager:
        with run_in_fork(child) as answer:
            said = answer()

    assert said == {"a": 1, "before": False, "after": True}
