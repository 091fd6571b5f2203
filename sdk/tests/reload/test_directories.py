"""A directory of files of which some come later and some go."""
# ruff: noqa: ASYNC240 - a test may wait for its disk

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilothouse.reload import (
    ConfigManager,
    DirectoryConfigSource,
    StartFailed,
    manager_from_environment,
)
from sdk.tests.reload.waiting import until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.mkdir()
    (path / "10-base.yaml").write_text("{a: 1, b: 1}")
    (path / "20-more.json").write_text('{"b": 2}')
    return path


@pytest.fixture
async def manager(directory: Path) -> AsyncIterator[ConfigManager]:
    async with manager_from_environment({"CONFIG_DIR": str(directory)}) as started:
        yield started


def error_of(manager: ConfigManager, directory: Path) -> str:
    return manager.health().sources[f"dir:{directory}"] or ""


async def test_files_that_come_and_go_are_noticed_in_the_order_of_their_names(
    manager: ConfigManager, directory: Path
) -> None:
    assert manager.get_section() == {"a": 1, "b": 2}

    (directory / "15-between.yaml").write_text("{a: 15, b: 15}")
    await until(lambda: manager.get_section() == {"a": 15, "b": 2})

    (directory / "20-more.json").unlink()
    await until(lambda: manager.get_section() == {"a": 15, "b": 15})

    (directory / "15-between.yaml").write_text("c: 3")
    await until(lambda: manager.get_section() == {"a": 1, "b": 1, "c": 3})
    assert manager.health().is_healthy


async def test_keys_that_are_added_to_a_config_map_and_taken_out_of_it_are_noticed(
    tmp_path: Path,
) -> None:
    mount = tmp_path / "mount"

    def project(number: int, *names: str) -> None:
        """As kubelet does: the new files, the swap, the symlinks of users; then what is stale."""
        (mount / f"..{number}").mkdir(parents=True)
        for name in names:
            (mount / f"..{number}" / name).write_text(f"{name[0]}: {number}\n")
        (mount / "..data_tmp").symlink_to(f"..{number}")
        (mount / "..data_tmp").rename(mount / "..data")
        for name in names:
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(Path("..data", name))
        for stale in set(mount.glob("*.yaml")) - {mount / name for name in names}:
            stale.unlink()
        shutil.rmtree(mount / f"..{number - 1}", ignore_errors=True)

    project(1, "a.yaml")
    manager = ConfigManager()
    manager.add_source(DirectoryConfigSource(mount))
    async with manager:
        project(2, "a.yaml", "b.yaml")
        await until(lambda: manager.get_section() == {"a": 2, "b": 2})
        project(3, "b.yaml", "c.yaml")
        await until(lambda: manager.get_section() == {"b": 3, "c": 3})


async def test_a_broken_file_is_named_and_all_that_was_held_stays(
    manager: ConfigManager, directory: Path
) -> None:
    (directory / "15-new.yaml").write_text("a: [")
    await until(lambda: error_of(manager, directory).startswith("15-new.yaml: "))
    assert manager.get_section() == {"a": 1, "b": 2}
    source = DirectoryConfigSource(directory)
    with pytest.raises(Exception, match=r"15-new\.yaml"):
        await source.load_config()
    assert not await source.is_modified()  # it is told of once, not with each look

    (directory / "15-new.yaml").write_text("a: 15")
    await until(lambda: manager.get_section() == {"a": 15, "b": 2})


@pytest.mark.parametrize(
    "remove", [shutil.rmtree, lambda path: [f.unlink() for f in path.iterdir()]]
)
async def test_a_volume_that_is_gone_takes_nothing_away(
    manager: ConfigManager, directory: Path, remove: object
) -> None:
    remove(directory)  # type: ignore[operator]
    await until(lambda: not manager.health().is_healthy)
    assert manager.get_section() == {"a": 1, "b": 2}

    directory.mkdir(exist_ok=True)
    (directory / "10-base.yaml").write_text("a: 2")
    await until(lambda: manager.get_section() == {"a": 2})
    assert manager.health().is_healthy


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    manager = ConfigManager()
    manager.add_source(DirectoryConfigSource(tmp_path / "nowhere"))

    with pytest.raises(StartFailed, match="nowhere: cannot be read: No such file or directory"):
        await manager.start()
