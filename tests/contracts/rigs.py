"""What the rigs of the contracts share: a database, or an SQLite file, of its own for each test."""

import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.changes.log.postgres.connection import LogConnection
from app.postgres.engine import open_engine
from app.sqlite.state import SQLiteState
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.postgres import PostgresServer

_AUDIT = "SELECT * FROM audit ORDER BY id"


@dataclass(frozen=True, slots=True)
class EmbeddedBench:
    """The state that an adapter is opened on; `stack` closes it after the test."""

    folder: Path
    state: SQLiteState
    stack: AsyncExitStack

    async def reopen(self) -> SQLiteState:
        """Close the state and open it again, as a restart does."""
        await self.state.close()
        reopened = SQLiteState(self.folder)
        self.stack.push_async_callback(reopened.close)
        return reopened

    async def audit(self) -> list[dict[str, Any]]:
        def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(_AUDIT)]

        return await self.state.read(read)


@dataclass(frozen=True, slots=True)
class PostgresBench:
    """A migrated database; `connection` reads and changes it past the adapters."""

    server: PostgresServer
    url: str
    connection: asyncpg.Connection
    stack: AsyncExitStack

    def open_connection(self) -> LogConnection:
        """Open what another replica opens, until the test ends."""
        opened = LogConnection(open_engine(self.url, PATIENT_SECONDS), self.url)
        self.stack.push_async_callback(opened.close)
        return opened

    async def cut(self) -> None:
        """End every session and refuse new ones."""
        database = self.url.rpartition("/")[2]
        outside = await asyncpg.connect(self.server.url)
        await outside.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )
        await outside.close()

    async def audit(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(_AUDIT)]


def embedded_bench(request: pytest.FixtureRequest, stack: AsyncExitStack) -> EmbeddedBench:
    folder: Path = request.getfixturevalue("tmp_path")
    state = SQLiteState(folder)
    stack.push_async_callback(state.close)
    return EmbeddedBench(folder, state, stack)


async def postgres_bench(request: pytest.FixtureRequest, stack: AsyncExitStack) -> PostgresBench:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.migrated_database()
    stack.callback(server.drop, url)
    connection = await asyncpg.connect(url)
    stack.push_async_callback(connection.close)
    return PostgresBench(server, url, connection, stack)
