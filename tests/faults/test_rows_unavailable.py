"""What the store of the registry's desired state does while Postgres is frozen, gone or cut off."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import asyncpg
import pytest

from app.postgres.engine import close_engine, open_engine
from app.registry.errors import RegistryUnavailable
from app.registry.heartbeats import HeartbeatRecorder
from app.registry.instances.postgres import PostgresInstanceStore
from app.registry.model import Heartbeat, Registration, RowToken
from app.registry.view import RegistryView
from tests.faults.refusals import seconds_until_raised
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server, patiently

pytestmark = pytest.mark.faults
seconds_until_refused = partial(seconds_until_raised, RegistryUnavailable)

INSTANCE = Registration(
    service="billing",
    instance_id="one",
    definition="{}",
    lease="heartbeat",
    ttl_seconds=30,
    owner="replica",
    actor="ana",
    request_id="request",
)
TAG = RowToken("billing", "one", 1, 1)
MANY = 2 + SLACK_SECONDS  # seconds; about thousands of rows, or waiting for others who write
ONE = 2 + SLACK_SECONDS

Call = Callable[[PostgresInstanceStore], Coroutine[Any, Any, object]]
CALLS: dict[str, tuple[Call, float]] = {
    "register": (lambda rows: rows.register(INSTANCE), MANY),
    "deregister": (lambda rows: rows.deregister("billing", "one", 7, "ana", "request"), MANY),
    "claim": (lambda rows: rows.claim([TAG], "replica", 0), MANY),
    "beat": (lambda rows: rows.record_heartbeats([Heartbeat("billing", "one")]), MANY),
    "overdue": (lambda rows: rows.mark_suspects(), MANY),
    "evict": (lambda rows: rows.evict([TAG]), MANY),
    "current": (lambda rows: rows.rows_by_key([("billing", "one")]), MANY),
    "row": (lambda rows: rows.row("billing", "one"), ONE),
    "newer": (lambda rows: rows.rows_after(0, 10), ONE),
    "ping": (lambda rows: rows.ping(), ONE),
}


@pytest.fixture
async def rows(url: str) -> AsyncIterator[PostgresInstanceStore]:
    engine = open_engine(url)
    yield PostgresInstanceStore(engine)
    await close_engine(engine)


async def test_a_frozen_server_is_named_in_time_to_all_callers_at_once(
    rows: PostgresInstanceStore, postgres_server: PostgresServer
) -> None:
    await patiently(lambda: asyncio.gather(*(rows.ping() for _ in CALLS)), RegistryUnavailable)

    with freeze_server(postgres_server):
        refused = await asyncio.gather(
            *(seconds_until_refused(call(rows)) for call, _ in CALLS.values())
        )

    limits = [limit for _, limit in CALLS.values()]
    late = [took for took, limit in zip(refused, limits, strict=True) if took >= limit]
    assert late == []
    await patiently(rows.ping, RegistryUnavailable)
    assert (await rows.register(INSTANCE)).row.state == "registered"


async def test_a_heartbeat_that_waits_for_those_before_it_is_refused_in_time(
    rows: PostgresInstanceStore, postgres_server: PostgresServer
) -> None:
    await rows.register(INSTANCE)
    heartbeats = HeartbeatRecorder(rows, RegistryView())

    with freeze_server(postgres_server):
        first = asyncio.create_task(
            seconds_until_refused(heartbeats.record(Heartbeat("billing", "one")))
        )
        for _ in range(10):  # turns of the loop, after which its batch is under way
            await asyncio.sleep(0)
        second = await seconds_until_refused(heartbeats.record(Heartbeat("billing", "one")))
        await first

    await patiently(rows.ping, RegistryUnavailable)
    assert second < MANY
    assert await heartbeats.record(Heartbeat("billing", "one")) is not None


async def test_a_server_that_is_gone_is_named_at_once_and_found_again(
    rows: PostgresInstanceStore, postgres_server: PostgresServer
) -> None:
    made = await rows.register(INSTANCE)

    postgres_server.stop()
    try:
        assert await seconds_until_refused(rows.register(INSTANCE)) < SLACK_SECONDS
    finally:
        postgres_server.restart()

    await patiently(rows.ping, RegistryUnavailable)
    assert await rows.row("billing", "one") == made.row


@pytest.mark.parametrize(
    ("call", "asked_again"),
    [
        (lambda rows: rows.evict([TAG]), False),
        (lambda rows: rows.claim([TAG], "replica", 0), False),
        (lambda rows: rows.record_heartbeats([Heartbeat("billing", "one")]), True),
    ],
)
async def test_only_a_heartbeat_whose_connection_is_lost_is_asked_for_twice(
    url: str, rows: PostgresInstanceStore, call: Call, *, asked_again: bool
) -> None:
    made = await rows.register(INSTANCE)
    saboteur = await asyncpg.connect(url)
    await saboteur.execute("UPDATE instances SET heartbeat_at = heartbeat_at - interval '1 hour'")
    # The row is locked, so that the call is still under way when its connection ends.
    holding = saboteur.transaction()
    await holding.start()
    await saboteur.execute("SELECT * FROM instances FOR UPDATE")
    calling = asyncio.create_task(call(rows))
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    while not await saboteur.fetchval(
        f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE wait_event_type = 'Lock' AND {others}"
    ):
        assert not calling.done()
    await holding.rollback()

    (outcome,) = await asyncio.gather(calling, return_exceptions=True)

    await saboteur.close()
    assert isinstance(outcome, RegistryUnavailable) is not asked_again
    row = await rows.row("billing", "one")
    assert row is not None
    assert row.token == made.row.token
    assert (row.heartbeat_at > made.row.heartbeat_at) is asked_again
