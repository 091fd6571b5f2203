import asyncio
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.audit.port import AuditFilter
from app.audit.verification import open_postgres_snapshot, verify
from app.postgres.locks import DEFINITIONS_LOCK, LOG_LOCK, REGISTER_LOCK, RELATED_LOCK
from app.postgres.migration import migrate, open_migration_engine
from app.postgres.tables import audit, metadata
from migrations import stored_functions
from tests.servers.postgres import PostgresServer

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.fresh_database()


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_the_migrations_build_what_the_tables_say(url: str) -> None:
    await migrate(url)

    engine = open_migration_engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_whatever_the_audit_is_asked_by_has_an_index() -> None:
    filters = {member.name for member in fields(AuditFilter)} - {"since", "until"}
    indexed = {tuple(column.name for column in index.columns) for index in audit.indexes}

    of_bypasses = ("seq",)
    assert indexed == {("at",), of_bypasses, *((name, "seq") for name in filters)}


async def test_replicas_that_start_together_take_turns(url: str) -> None:
    await asyncio.gather(*(migrate(url) for _ in range(3)))

    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
    await connection.close()


async def test_migrating_twice_changes_nothing(url: str) -> None:
    await migrate(url)
    await migrate(url)


@pytest.mark.parametrize(
    "function", ["advance_document", "commit_flags", "commit_definitions", "log_instances"]
)
async def test_the_function_takes_the_lock_of_the_log(url: str, function: str) -> None:
    await migrate(url)

    connection = await asyncpg.connect(url)
    source = await connection.fetchval("SELECT prosrc FROM pg_proc WHERE proname = $1", function)
    await connection.close()
    assert f"pg_advisory_xact_lock({LOG_LOCK})" in source


def test_each_file_of_a_stored_function_is_loaded_by_its_migration() -> None:
    for file in stored_functions.FOLDER.iterdir():
        name, revision, _ = file.name.split(".")
        (migration,) = (CHECKOUT / "migrations" / "versions").glob(f"{revision}_*.py")
        assert f'stored_function("{name}", revision)' in migration.read_text(encoding="utf-8")


async def test_the_newest_file_of_each_stored_function_is_the_one_in_use(url: str) -> None:
    await migrate(url)

    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
    )
    await connection.close()
    newest = {
        file.name.partition(".")[0]: file.read_text(encoding="utf-8").split("$$")[1]
        for file in sorted(stored_functions.FOLDER.iterdir())
    }
    assert {row["proname"]: row["prosrc"] for row in rows} == newest


async def test_registrations_take_the_lock_of_their_service(url: str) -> None:
    await migrate(url)

    connection = await asyncpg.connect(url)
    source = await connection.fetchval(
        "SELECT prosrc FROM pg_proc WHERE proname = 'register_instance'"
    )
    await connection.close()
    assert f"pg_advisory_xact_lock({REGISTER_LOCK}, hashtext(p_service))" in source


async def test_guarded_intents_and_definitions_take_their_locks_in_one_order(url: str) -> None:
    await migrate(url)

    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT proname, prosrc FROM pg_proc WHERE prosrc LIKE '%lock%'")
    await connection.close()
    source = {row["proname"]: row["prosrc"] for row in rows}
    shared = f"pg_advisory_xact_lock_shared({DEFINITIONS_LOCK})"
    for function in ("begin_intent", "reserve_intent", "confirm_intent"):
        _, _, after = source[function].partition(shared)
        assert f"pg_advisory_xact_lock({RELATED_LOCK})" in after
    _, _, after = source["commit_definitions"].partition(
        f"pg_advisory_xact_lock({DEFINITIONS_LOCK})"
    )
    assert f"pg_advisory_xact_lock({LOG_LOCK})" in after


def test_the_command_line_migrates_the_database_it_is_given(url: str) -> None:
    command = (sys.executable, "-m", "alembic", "-x", f"url={url}")

    subprocess.run((*command, "upgrade", "head"), cwd=CHECKOUT, check=True)
    subprocess.run((*command, "check"), cwd=CHECKOUT, check=True)


async def test_rows_of_the_release_before_are_chained_and_it_goes_on_writing(url: str) -> None:
    command = (sys.executable, "-m", "alembic", "-x", f"url={url}", "upgrade")
    await asyncio.to_thread(subprocess.run, (*command, "0004"), cwd=CHECKOUT, check=True)
    connection = await asyncpg.connect(url)
    old = (
        "INSERT INTO audit (actor, action, kind, environment, name)"
        " VALUES ('ana', 'revealed', 'config', 'staging', 'billing')"
    )
    for _ in range(3):
        await connection.execute(old)

    await migrate(url)

    edits = '[{"kind": "flag", "name": "a", "definition": "{}", "action": "created"}]'
    await connection.execute(
        "SELECT outcome FROM commit_flags('staging', 0, $1, 'ana', '', 'r', NULL, '')", edits
    )
    await connection.execute(
        "SELECT outcome"
        " FROM register_instance('s', 'i', '{}', 'heartbeat', 30, 'here', 'ana', 'r', 10)"
    )
    await connection.execute(
        "SELECT count(*)"
        " FROM log_instances(ARRAY(SELECT i FROM instances i), 'deleted', 'ana', 'r')"
    )
    await connection.execute(old)
    await connection.close()
    async with open_postgres_snapshot(url) as trail:
        found = await verify(trail, 0, None)
    assert (found.broken, found.rows) == (None, 7)


@pytest.mark.slow
def test_the_command_line_asks_which_database() -> None:
    done = subprocess.run(
        (sys.executable, "-m", "alembic", "upgrade", "head"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "-x url=" in done.stdout + done.stderr
