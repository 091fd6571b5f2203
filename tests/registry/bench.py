"""Rows and nodes by hand, and replicas that share real rows in a file and nodes in memory."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from app.changes.log.embedded.log import EmbeddedChangeLog
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.model import InstanceRow, LeaseKind, Registration
from app.registry.view import RegistryView, fencing_token
from app.sqlite.state import SQLiteState
from pilothouse_core.curator import DiscoveredInstance, node_data, read_node
from pilothouse_core.instances import read_registration

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERVICE = "billing"
TIMES = ("registered_at", "heartbeat_at", "claimed_at", "draining_until", "moved_at", "released_at")


def definition(id_: str, /, **members: Any) -> str:
    named = {"service_name": SERVICE, "service_url": "http://10.0.0.7:8080", "instance_id": id_}
    return json.dumps({**named, **members})


def row_of(id_: str, /, definition_of: dict[str, Any] | None = None, **facts: Any) -> InstanceRow:
    """Return a row as it is right after a registration, but for these facts."""
    known: dict[str, Any] = {
        "service": SERVICE,
        "instance_id": id_,
        "epoch": 1,
        "term": 1,
        "state": "registered",
        "health": "up",
        "owner": "here",
        "definition": definition(id_, **(definition_of or {})),
        "lease": "heartbeat",
        "ttl_seconds": 30,
        "registered_at": MOMENT,
        "heartbeat_at": MOMENT,
        "draining_until": None,
        "version": 1,
        "revision": 1,
    }
    return InstanceRow(**{**known, **facts})


def node_of(row: InstanceRow, status: str = "up") -> DiscoveredInstance:
    """Return the node of a row as it is read."""
    instance = read_registration(json.loads(row.definition))
    data = node_data(instance, fencing_token(row), 0, status)
    return read_node(row.service, row.instance_id, data)


def foreign(name: str, id_: str, **members: Any) -> DiscoveredInstance:
    """Return a node as Curator's own clients write it."""
    written = {"id": id_, "address": "10.0.0.9", "port": 81, "registrationTimeUTC": 1000, **members}
    return read_node(SERVICE, name, json.dumps(written).encode())


def view_of(*rows: InstanceRow, nodes: bool = True) -> RegistryView:
    """Return a view that holds rows, and their nodes."""
    view = RegistryView()
    view.learn(rows)
    if nodes:
        view.set_nodes(SERVICE, {row.instance_id: node_of(row) for row in rows})
    return view


@dataclass
class Store:
    """Rows in a file, as all replicas of a bench share them."""

    state: SQLiteState
    rows: EmbeddedInstanceStore
    log: EmbeddedChangeLog

    async def register(
        self, id_: str, /, owner: str = "here", lease: LeaseKind = "heartbeat", **members: Any
    ) -> InstanceRow:
        text = definition(id_, **members)
        ttl = members.get("ttl_seconds", 30)
        registration = Registration(SERVICE, id_, text, lease, ttl, owner, "ada", "request-1")
        return (await self.rows.register(registration)).row

    async def age(self, seconds: float, *ids: str) -> None:
        """Move all times of these instances, or of all, so far into the past."""

        def earlier(text: str | None) -> str | None:
            if not text:
                return text
            moment = datetime.fromisoformat(text) - timedelta(seconds=seconds)
            return moment.isoformat(timespec="microseconds")

        def shift(connection: sqlite3.Connection, ids: tuple[str, ...]) -> None:
            connection.create_function("earlier", 1, earlier)
            moved = ", ".join(f"{name} = earlier({name})" for name in TIMES)
            for id_ in ids:
                connection.execute(f"UPDATE instances SET {moved} WHERE instance_id LIKE ?", (id_,))

        await self.state.run(partial(shift, ids=ids or ("%",)))

    async def fail(self) -> None:
        """Have every call of the rows fail from here on, as a store that is unavailable does."""
        await self.state.run(lambda it: it.execute("ALTER TABLE instances RENAME TO unavailable"))

    async def heal(self) -> None:
        await self.state.run(lambda it: it.execute("ALTER TABLE unavailable RENAME TO instances"))


@asynccontextmanager
async def embedded_store(folder: Path) -> AsyncIterator[Store]:
    state = SQLiteState(folder)
    log = EmbeddedChangeLog(state)
    try:
        yield Store(state, EmbeddedInstanceStore(state, log.wake), log)
    finally:
        await state.close()


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = field(default=1000.0)

    def __call__(self) -> float:
        return self.now
