"""The ports of the log in Postgres, together."""

from app.changes.log.port import LogPorts
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.intents import PostgresIntents
from app.changes.log.postgres.log import PostgresChangeLog
from app.changes.log.postgres.maintenance import PostgresMaintenance
from app.changes.log.postgres.outbox import PostgresOutbox


def postgres_ports(connection: LogConnection) -> LogPorts:
    return LogPorts(
        intents=PostgresIntents(connection),
        log=PostgresChangeLog(connection),
        outbox=PostgresOutbox(connection),
        maintenance=PostgresMaintenance(connection),
    )
