"""What the tests of the stores of releases and of readers write, and the adapters they use."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.port import ChangeLog
from app.changes.log.postgres.log import PostgresChangeLog
from app.proposals.releases.model import Item, Move, NewRelease, Origin, Release, Subject
from app.proposals.releases.readers.embedded import EmbeddedReaderStore
from app.proposals.releases.readers.port import ReaderStore
from app.proposals.releases.readers.postgres import PostgresReaderStore
from app.proposals.releases.store.embedded import EmbeddedReleaseStore
from app.proposals.releases.store.port import ReleaseStore
from app.proposals.releases.store.postgres import PostgresReleaseStore
from pilothouse_core.releases.control import State
from pilothouse_core.releases.plan import Plan, read_plan
from tests.contracts.rigs import embedded_bench, postgres_bench

PLAN = read_plan(
    {
        "steps": [{"share": 5, "hold": "10m"}, {"share": 50, "hold": "30m"}],
        "bake": "30m",
        "signals": [{"kind": "refused", "at_least": 1}],
    }
)
BILLING = Subject("config", "production", "billing")
ORIGIN = Origin("ana", "request-1", "192.0.2.1", "because")
ITEM = Item("p-7k2m", 1, 0)


@dataclass
class Rig:
    """One adapter of both stores, with the log they share."""

    store: ReleaseStore
    elsewhere: ReleaseStore  # in another replica where there are any
    readers: ReaderStore
    readers_elsewhere: ReaderStore
    log: ChangeLog
    cut: Callable[[], Awaitable[None]]
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]
    age: Callable[[float], Awaitable[None]]


_TIMESTAMPS = (("readers", "seen_at"), ("releases", "ended_at"))


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    log = EmbeddedChangeLog(bench.state)
    store, readers = EmbeddedReleaseStore(bench.state, log.wake), EmbeddedReaderStore(bench.state)

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        for table, column in _TIMESTAMPS:
            connection.execute(
                f"UPDATE {table} SET {column} = strftime('%Y-%m-%dT%H:%M:%f000+00:00',"
                f" {column}, '-{seconds} seconds')"
            )

    async def age(seconds: float) -> None:
        await bench.state.run(partial(shift, seconds=seconds))

    return Rig(store, store, readers, readers, log, bench.state.close, bench.audit, age)


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)
    here, there = bench.open_connection(), bench.open_connection()

    async def age(seconds: float) -> None:
        for table, column in _TIMESTAMPS:
            await bench.connection.execute(
                f"UPDATE {table} SET {column} = {column} - $1::interval",
                timedelta(seconds=seconds),
            )

    return Rig(
        PostgresReleaseStore(here.engine),
        PostgresReleaseStore(there.engine),
        PostgresReaderStore(here.engine),
        PostgresReaderStore(there.engine),
        PostgresChangeLog(here),
        bench.cut,
        bench.audit,
        age,
    )


RIGS = (
    pytest.param(embedded_rig, id="embedded"),
    pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
)


def new(
    id_: str = "r-1",
    subject: Subject = BILLING,
    plan: Plan = PLAN,
    *,
    item: Item | None = None,
    members: tuple[str, ...] = (),
) -> NewRelease:
    return NewRelease(id_, subject, plan, ("db.pool.max",), 3, item, members)


def move(release: Release, state: State = "running", step: int | None = None, **more: Any) -> Move:
    to = release.step if step is None else step
    return Move(release.id, release.version, state, to, **more)
