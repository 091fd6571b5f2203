import asyncio
import json
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from app.audit.verification import open_embedded_snapshot, verify
from app.sqlite.state import _STEPS, FILE, SQLiteState, StateInUse, StateUnavailable
from app.telemetry import configure_logging


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "data"


@pytest.fixture
async def state(folder: Path) -> AsyncIterator[SQLiteState]:
    opened = SQLiteState(folder)
    yield opened
    await opened.close()


def claim(connection: sqlite3.Connection, task: str = "scan") -> None:
    connection.execute("INSERT INTO claims VALUES (?, 'now')", (task,))


def claimed_tasks(connection: sqlite3.Connection) -> list[str]:
    return [row["task"] for row in connection.execute("SELECT task FROM claims ORDER BY task")]


def setting(connection: sqlite3.Connection, pragma: str) -> object:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in (folder, *folder.iterdir())}


async def test_the_folder_is_made_for_its_owner_alone(state: SQLiteState, folder: Path) -> None:
    await state.run(claim)

    found = modes(folder)
    assert found.pop(folder.name) == 0o700
    assert len(found) == 4  # the file, what SQLite puts beside it, and the lock
    assert set(found.values()) == {0o600}


async def test_every_commit_waits_for_the_disk(state: SQLiteState) -> None:
    assert await state.read(lambda connection: setting(connection, "journal_mode")) == "wal"
    assert await state.read(lambda connection: setting(connection, "synchronous")) == 2


async def test_two_services_do_not_share_a_folder(state: SQLiteState, folder: Path) -> None:
    with pytest.raises(StateInUse, match=str(folder)):
        SQLiteState(folder)

    await state.run(claim)


async def test_a_full_disk_is_told_once_and_is_over_with_the_next_write(
    state: SQLiteState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO versions VALUES ('a', 1, ?)", ("x" * 1_000_000,))

    def limit(connection: sqlite3.Connection, pages: int) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    configure_logging("info", json=True)
    await state.read(partial(limit, pages=1))  # which SQLite raises to what there is
    for _ in range(3):
        with pytest.raises(StateUnavailable, match="full"):
            await state.run(fill)

    assert state.write_failure() == "database or disk is full"
    assert await state.read(claimed_tasks) == []

    await state.read(partial(limit, pages=1_000_000))
    await state.run(claim)
    assert state.write_failure() is not None  # there may be room for little
    monkeypatch.setattr("app.sqlite.state._SETTLED_SECONDS", 0)
    await state.run(fill)

    assert state.write_failure() is None
    output = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert output == ["state_not_writable", "state_writable_again"]


async def test_a_mistake_is_no_full_disk(state: SQLiteState) -> None:
    await state.run(claim)
    with pytest.raises(sqlite3.IntegrityError):
        await state.run(claim)

    assert state.write_failure() is None


async def test_a_closed_folder_is_opened_again_with_all_it_had(
    state: SQLiteState, folder: Path
) -> None:
    await state.run(claim)
    await state.close()

    reopened = SQLiteState(folder)

    assert await reopened.read(claimed_tasks) == ["scan"]
    await reopened.close()


async def test_what_was_acknowledged_survives_a_kill(folder: Path) -> None:
    program = f"""
import asyncio, os, signal
from pathlib import Path
from app.sqlite.state import SQLiteState

async def main():
    state = SQLiteState(Path({str(folder)!r}))
    await state.run(lambda connection: connection.execute("INSERT INTO claims VALUES ('a', 'b')"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await killed.wait() == -signal.SIGKILL

    state = SQLiteState(folder)  # the lock of the dead is free

    assert await state.read(claimed_tasks) == ["a"]
    await state.close()


async def test_work_that_fails_leaves_nothing_behind(state: SQLiteState) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        claim(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await state.run(fail)

    assert await state.read(claimed_tasks) == []
    await state.run(claim)


async def test_a_breach_of_the_schema_is_the_callers_mistake(state: SQLiteState) -> None:
    await state.run(claim)

    with pytest.raises(sqlite3.IntegrityError):
        await state.run(claim)


async def test_works_take_turns_on_one_thread_of_their_own(state: SQLiteState) -> None:
    threads: list[str] = []

    def note(connection: sqlite3.Connection) -> None:
        threads.append(threading.current_thread().name)
        claim(connection, str(len(threads)))

    await asyncio.gather(*(state.run(note) for _ in range(5)))

    assert len(set(threads)) == 1
    assert threading.current_thread().name not in threads
    assert await state.read(claimed_tasks) == ["1", "2", "3", "4", "5"]


async def test_a_closed_state_is_unavailable(state: SQLiteState) -> None:
    await state.close()
    await state.close()

    with pytest.raises(StateUnavailable):
        await state.run(claim)
    with pytest.raises(StateUnavailable):
        await state.read(claimed_tasks)


async def test_a_full_disk_is_unavailable_until_there_is_room(state: SQLiteState) -> None:
    pages = await state.read(lambda connection: setting(connection, "page_count"))
    await state.read(lambda connection: setting(connection, f"max_page_count = {pages}"))

    def fill(connection: sqlite3.Connection) -> None:
        claim(connection)
        connection.execute("INSERT INTO versions VALUES ('doc', 1, ?)", ("x" * 100_000,))

    with pytest.raises(StateUnavailable):
        await state.run(fill)
    assert await state.read(claimed_tasks) == []

    await state.read(lambda connection: setting(connection, "max_page_count = 100000"))
    await state.run(fill)
    assert await state.read(claimed_tasks) == ["scan"]


def test_a_file_that_is_no_state_is_left_as_it_is(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE).write_text("something else entirely" * 100)

    with pytest.raises(StateUnavailable, match=str(folder)):
        SQLiteState(folder)

    assert (folder / FILE).read_text() == "something else entirely" * 100


async def test_a_corrupt_file_is_unavailable(folder: Path) -> None:
    state = SQLiteState(folder)
    await state.close()
    with (folder / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 20)

    damaged = SQLiteState(folder)

    with pytest.raises(StateUnavailable):
        await damaged.run(claim)
    await damaged.close()


async def test_the_state_of_a_newer_release_is_not_touched(
    state: SQLiteState, folder: Path
) -> None:
    await state.run(lambda connection: connection.execute("PRAGMA user_version = 1000"))
    await state.close()

    with pytest.raises(StateUnavailable, match="newer release"):
        SQLiteState(folder)

    with pytest.raises(StateUnavailable, match="newer release"):  # and not StateInUse
        SQLiteState(folder)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateUnavailable, match="file"):
        SQLiteState(tmp_path / "file" / "data")


async def test_rows_of_the_release_before_are_chained(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as before:
        for step in _STEPS[:4]:
            before.executescript(step)
        for number in range(3):
            before.execute(
                "INSERT INTO audit (at, actor, action, kind, environment, name, facts)"
                " VALUES ('2026-03-04T05:06:07.890123+00:00', 'ana', 'a', 'k', 'e', ?, '{}')",
                (str(number),),
            )
        before.execute("PRAGMA user_version = 4")
        before.commit()

    await SQLiteState(tmp_path).close()

    async with open_embedded_snapshot(tmp_path) as trail:
        found = await verify(trail, 0, None)
    assert (found.broken, found.rows) == (None, 3)
