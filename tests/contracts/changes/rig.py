"""Each adapter of the ports of a change log, set up for the tests of its promises."""

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import ChangeLog, Intents, LogPorts, Maintenance, Outbox
from app.changes.log.postgres.ports import postgres_ports
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.store.port import FlagStore
from app.flags.store.postgres import PostgresFlagStore
from app.rules.definitions.embedded import EmbeddedDefinitionStore
from app.rules.definitions.port import DefinitionStore
from app.rules.definitions.postgres import PostgresDefinitionStore
from tests.contracts.rigs import embedded_bench, postgres_bench

TIMESTAMPS = (
    ("changes", "at"),
    ("changes", "logged_at"),
    ("changes", "sent_at"),
    ("documents", "updated_at"),
    ("intents", "at"),
    ("intents", "look_after"),
    ("claims", "at"),
)
TABLES = ("audit", "changes", "claims", "documents", "horizon", "intents")


@dataclass
class Rig:
    """The adapters of one log: their connection can be cut, and what they stored can grow old."""

    here: LogPorts
    elsewhere: LogPorts  # of another replica of the same log, if there can be any
    definitions: DefinitionStore  # which shares the log
    definitions_elsewhere: DefinitionStore
    flags: FlagStore  # which shares the log
    reopen: Callable[[], Awaitable[LogPorts]]  # after a restart; `here` may be closed by it
    cut: Callable[[], Awaitable[None]]
    age: Callable[[float], Awaitable[None]]
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]
    columns: Callable[[], Awaitable[set[str]]]

    @property
    def intents(self) -> Intents:
        return self.here.intents

    @property
    def log(self) -> ChangeLog:
        return self.here.log

    @property
    def outbox(self) -> Outbox:
        return self.here.outbox

    @property
    def maintenance(self) -> Maintenance:
        return self.here.maintenance


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    state = bench.state
    log = EmbeddedChangeLog(state)
    here = embedded_ports(state, log)
    definitions = EmbeddedDefinitionStore(state, log.wake)

    async def reopen() -> LogPorts:
        reopened = await bench.reopen()
        return embedded_ports(reopened)

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        def earlier(at: str) -> str:
            moved = datetime.fromisoformat(at) - timedelta(seconds=seconds)
            return moved.isoformat(timespec="microseconds")

        connection.create_function("earlier", 1, earlier)
        for table, column in TIMESTAMPS:
            connection.execute(
                f"UPDATE {table} SET {column} = earlier({column}) WHERE {column} IS NOT NULL"
            )

    def audit(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        rows = connection.execute("SELECT * FROM audit ORDER BY id")
        return [{**row, "facts": row["facts"] and json.loads(row["facts"])} for row in rows]

    def columns(connection: sqlite3.Connection) -> set[str]:
        return {
            f"{table}.{column['name']}"
            for table in TABLES
            for column in connection.execute(f"PRAGMA table_info({table})")
        }

    return Rig(
        here=here,
        elsewhere=here,
        definitions=definitions,
        definitions_elsewhere=definitions,
        flags=EmbeddedFlagStore(state, log.wake),
        reopen=reopen,
        cut=state.close,
        age=lambda seconds: state.run(partial(shift, seconds=seconds)),
        audit=lambda: state.read(audit),
        columns=lambda: state.read(columns),
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)

    async def reopen() -> LogPorts:
        return postgres_ports(bench.open_connection())

    async def age(seconds: float) -> None:
        for table, column in TIMESTAMPS:
            await bench.connection.execute(
                f"UPDATE {table} SET {column} = {column} - $1::interval",
                timedelta(seconds=seconds),
            )

    async def audit() -> list[dict[str, Any]]:
        rows = await bench.connection.fetch("SELECT * FROM audit ORDER BY id")
        return [{**row, "facts": row["facts"] and json.loads(row["facts"])} for row in rows]

    async def columns() -> set[str]:
        rows = await bench.connection.fetch(
            "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
            " WHERE table_name = ANY($1)",
            TABLES,
        )
        return {row["name"] for row in rows}

    return Rig(
        here=await reopen(),
        elsewhere=await reopen(),
        definitions=PostgresDefinitionStore(bench.open_connection().engine),
        definitions_elsewhere=PostgresDefinitionStore(bench.open_connection().engine),
        flags=PostgresFlagStore(bench.open_connection().engine),
        reopen=reopen,
        cut=bench.cut,
        age=age,
        audit=audit,
        columns=columns,
    )
