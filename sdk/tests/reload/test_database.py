"""A table as a source, over the driver of SQLite."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pilothouse.reload import BadConfig, ConfigManager, DatabaseConfigSource, SourceUnavailable
from sdk.tests.reload.waiting import Heard

TABLE = "CREATE TABLE configuration (path VARCHAR(256) PRIMARY KEY, value TEXT NOT NULL)"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "configuration.db"
    run(path, TABLE)
    return path


def run(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def source(path: Path, **options: Any) -> DatabaseConfigSource:
    return DatabaseConfigSource(lambda: sqlite3.connect(path), **options)


async def test_what_is_saved_is_loaded(database: Path) -> None:
    table = source(database)
    config = {"db": {"host": "a", "ports": [1, 2]}, "empty": {}, "none": None}
    await table.save_config({"old": 1})
    await table.save_config(config)

    assert await table.load_config() == config
    assert not await table.is_modified()
    run(database, "UPDATE configuration SET value = ? WHERE path = ?", '"b"', "db.host")
    assert await table.is_modified()
    await table.save_config({})
    assert await table.load_config() == {}


async def test_a_save_that_fails_changes_nothing(database: Path) -> None:
    run(
        database,
        "CREATE TRIGGER no BEFORE INSERT ON configuration WHEN new.path = 'b' "
        "BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    table = source(database)
    await table.save_config({"a": 1})

    with pytest.raises(SourceUnavailable, match="IntegrityError"):
        await table.save_config({"a": 2, "b": 1})

    assert await table.load_config() == {"a": 1}


async def test_bad_rows_name_their_place_and_no_value(database: Path) -> None:
    run(database, "INSERT INTO configuration VALUES ('db.password', 'hunter2')")
    with pytest.raises(BadConfig, match=r"the value at db\.password is not JSON") as refused:
        await source(database).load_config()
    assert "hunter2" not in str(refused.value)

    run(database, "DELETE FROM configuration")
    for path in ("db", "db.host"):
        run(database, "INSERT INTO configuration VALUES (?, '1')", path)
    with pytest.raises(BadConfig, match=r"'db' cannot hold a value"):
        await source(database).load_config()


async def test_changes_absence_and_return_are_noticed(database: Path) -> None:
    run(database, "INSERT INTO configuration VALUES ('a', '1')")
    manager, heard = ConfigManager(), Heard()
    manager.add_source(source(database, poll_seconds=0.01))
    manager.subscribe(heard)
    async with manager:
        run(database, "UPDATE configuration SET value = '2'")
        await heard.until(lambda: manager.get_config("a") == 2)

        run(database, "ALTER TABLE configuration RENAME TO elsewhere")
        failed = await manager.reload()
        assert failed.errors == (
            "database:configuration: the database failed with OperationalError",
        )
        assert manager.get_config("a") == 2
        run(database, "UPDATE elsewhere SET value = '3'")
        run(database, "ALTER TABLE elsewhere RENAME TO configuration")
        await heard.until(lambda: manager.get_config("a") == 3)
    assert manager.health().sources == {"database:configuration": None}


def test_only_a_name_is_a_table() -> None:
    for table in ("a; DROP TABLE b", "a b", "", "a.b.c", "ä"):
        with pytest.raises(ValueError, match="not the name of a table"):
            source(Path(), table=table)
