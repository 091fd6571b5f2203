"""The ports of the log in the embedded SQLite file, together."""

from app.changes.log.embedded.intents import EmbeddedIntents
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.maintenance import EmbeddedMaintenance
from app.changes.log.embedded.outbox import EmbeddedOutbox
from app.changes.log.port import LogPorts
from app.sqlite.state import SQLiteState


def embedded_ports(state: SQLiteState, log: EmbeddedChangeLog | None = None) -> LogPorts:
    """Return the ports, with `log` if other stores wake it."""
    return LogPorts(
        intents=EmbeddedIntents(state),
        log=log or EmbeddedChangeLog(state),
        outbox=EmbeddedOutbox(state),
        maintenance=EmbeddedMaintenance(state),
    )
