"""Real files that change in all the ways files change."""
# ruff: noqa: ASYNC240 - a test may wait for its disk

import asyncio
import builtins
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from pilothouse.reload import ConfigManager, FileConfigSource, SourceUnavailable, StartFailed
from pilothouse.reload.sources import file_watch as watching
from sdk.tests.reload.waiting import Heard, until


class Watched:
    """A started manager over files, and what it tells."""

    def __init__(self, *files: Path, **options: Any) -> None:
        self.manager = ConfigManager(**options)
        for number, file in enumerate(files):
            self.manager.add_source(FileConfigSource(file, priority=number))
        self.heard = Heard()
        self.manager.subscribe(self.heard)

    async def __aenter__(self) -> Self:
        await self.manager.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.stop()

    async def until(self, path: str, value: Any) -> None:
        await self.heard.until(lambda: self.manager.get_config(path) == value)

    @property
    def error(self) -> str | None:
        return next(iter(self.manager.health().sources.values()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "app.yaml"
    path.parent.mkdir()
    path.write_text("a: 1\n")
    return path


async def test_a_file_is_read_again_however_it_is_written(file: Path) -> None:
    async with Watched(file) as watched:
        file.write_text("a: 2\n")
        await watched.until("a", 2)

        other = file.with_name("app.yaml.new")
        other.write_text("a: 3\n")
        other.replace(file)
        await watched.until("a", 3)

        await FileConfigSource(file).save_config({"a": 4, "b": ["ü", None]})
        await watched.until("a", 4)

    assert watched.manager.get_section() == {"a": 4, "b": ["ü", None]}


async def test_a_swapped_config_map_is_noticed_and_both_files_change(tmp_path: Path) -> None:
    """As kubelet writes: `app.yaml -> ..data/app.yaml`, `..data -> ..2024_1`, then renames."""
    mount = tmp_path / "mount"

    def project(name: str, number: int) -> None:
        directory = mount / name
        directory.mkdir(parents=True)
        (directory / "app.yaml").write_text(f"a: {number}\n")
        (directory / "more.json").write_text(json.dumps({"b": number}))
        (mount / "..data_tmp").symlink_to(name)
        (mount / "..data_tmp").rename(mount / "..data")

    project("..1", 1)
    for name in ("app.yaml", "more.json"):
        (mount / name).symlink_to(Path("..data", name))
    async with Watched(mount / "app.yaml", mount / "more.json") as watched:
        for number in (2, 3):
            project(f"..{number}", number)
            shutil.rmtree(mount / f"..{number - 1}")
            await watched.until("a", number)
            await watched.until("b", number)

    assert watched.manager.get_metrics()["failed_reloads"] == 0


async def test_a_swap_to_the_same_content_is_no_reload(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.json").write_text('{"a": 1}')
    (tmp_path / "data").symlink_to("one")
    source = FileConfigSource(tmp_path / "data" / "app.json")
    await source.load_config()

    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")

    assert not await source.is_modified()
    (tmp_path / "two" / "app.json").write_text('{"a": 2}')
    assert await source.is_modified()


@pytest.mark.parametrize(
    "broken", ["a: [1\n", "", "- a\n", "a: 1\na: 2\n", "a: ${NOT_SET_ANYWHERE}\n"]
)
async def test_a_broken_file_keeps_the_last_good_one_and_says_so(file: Path, broken: str) -> None:
    async with Watched(file) as watched:
        file.write_text(broken)
        await until(lambda: watched.error is not None)
        error = watched.error or ""
        assert watched.manager.get_config("a") == 1
        file.write_text("a: 2\n")
        await watched.until("a", 2)
        await until(lambda: watched.error is None)

    if "NOT_SET" in broken:
        assert "NOT_SET_ANYWHERE" in error


async def test_a_truncated_json_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "app.json"
    whole = json.dumps({"a": {"b": [1, 2, 3]}, "c": "text"})
    file.write_text(whole)
    manager = ConfigManager(watch_files=False)
    manager.add_source(FileConfigSource(file))

    async with manager:
        for length in range(len(whole)):
            file.write_text(whole[:length])
            assert not (await manager.reload()).succeeded
        assert manager.get_section() == json.loads(whole)


async def test_a_directory_may_vanish_and_come_back(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watching, "_LOOK_SECONDS_WITHOUT_NOTIFICATIONS", 0.01)
    async with Watched(file) as watched:
        for number in (2, 3):
            shutil.rmtree(file.parent)
            await until(lambda: watched.error is not None)
            assert "No such file" in str(watched.error)
            assert watched.manager.get_config("a") == number - 1

            file.parent.mkdir()
            file.write_text(f"a: {number}\n")
            await watched.until("a", number)
            await until(lambda: watched.error is None)


async def test_a_file_that_comes_back_unchanged_is_healthy_again(file: Path) -> None:
    async with Watched(file) as watched:
        file.rename(file.with_suffix(".away"))
        await until(lambda: watched.error is not None)
        file.with_suffix(".away").rename(file)
        await until(lambda: watched.error is None)

    assert watched.heard.changes == []


async def test_without_watchfiles_files_are_looked_at(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    monkeypatch.setattr(watching, "_LOOK_SECONDS_WITHOUT_NOTIFICATIONS", 0.01)
    async with Watched(file) as watched:
        file.write_text("a: 2\n")
        await watched.until("a", 2)


async def test_files_may_be_left_alone(file: Path) -> None:
    async with Watched(file, watch_files=False) as watched:
        file.write_text("a: 2\n")
        assert [source.is_watched for source in watched.manager.get_sources()] == [False]
        assert watched.manager.get_config("a") == 1
        assert (await watched.manager.reload()).succeeded
        assert watched.manager.get_config("a") == 2


async def test_a_change_before_the_watch_begins_is_noticed(file: Path) -> None:
    source = FileConfigSource(file)
    await source.load_config()
    file.write_text("a: 2\n")
    stirred = source.watch()

    await asyncio.wait_for(anext(stirred), 5)

    await stirred.aclose()


async def test_a_saved_file_keeps_its_mode_and_a_new_one_is_private(file: Path) -> None:
    file.chmod(0o640)
    new = file.with_name("new.json")

    await FileConfigSource(file).save_config({"a": 2})
    await FileConfigSource(new).save_config({})

    assert [oct(path.stat().st_mode & 0o777) for path in (file, new)] == ["0o640", "0o600"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["app.yaml", "new.json"]
    with pytest.raises(SourceUnavailable, match="cannot be written"):
        await FileConfigSource(file.parent / "no" / "a.json").save_config({})


async def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "app.json").mkdir()
    for path, reason in ((tmp_path / "app.json", "directory"), (tmp_path / "no.json", "No such")):
        with pytest.raises(StartFailed, match=reason):
            await Watched(path).manager.start()
    with pytest.raises(ValueError, match=r"\.ini"):
        FileConfigSource("a.ini")


async def test_without_pyyaml_json_works_and_yaml_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name == "yaml" or (len(others) > 2 and "strict_yaml" in (others[2] or ())):
            raise ImportError(name)
        return imported(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StartFailed, match=r"pilothouse-client\[yaml\]"):
        await Watched(file).manager.start()
    file.with_suffix(".json").write_text('{"a": 1}')
    async with Watched(file.with_suffix(".json")) as watched:
        assert watched.manager.get_config("a") == 1
