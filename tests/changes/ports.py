"""The ports of a change log in Postgres, as long as a test needs them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from app.changes.log.port import ChangeLog, Intents, LogPorts, Maintenance, Outbox
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.ports import postgres_ports
from app.postgres.engine import CALL_SECONDS, open_engine


class AnyPorts(Protocol):
    """`LogPorts`, and what has the same ports."""

    @property
    def intents(self) -> Intents: ...

    @property
    def log(self) -> ChangeLog: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def maintenance(self) -> Maintenance: ...


@asynccontextmanager
async def opened_ports(url: str, seconds: float = CALL_SECONDS) -> AsyncIterator[LogPorts]:
    """Open the ports over Postgres as long as the block lasts; a call may take `seconds`."""
    connection = LogConnection(open_engine(url, seconds), url)
    try:
        yield postgres_ports(connection)
    finally:
        await connection.close()
