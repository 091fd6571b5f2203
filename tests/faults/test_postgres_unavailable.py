"""What the change log does while Postgres is frozen, gone or restarted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from app.changes.errors import LogUnavailable
from app.changes.log.port import LogPorts
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.ports import postgres_ports
from app.changes.model import Disclosure, Entity, Intent, Written
from app.postgres.engine import close_engine, open_engine
from tests.changes.ports import opened_ports
from tests.faults.refusals import seconds_until_raised
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS, freeze_server, patiently
from tests.servers.proxy import LossyProxy

pytestmark = pytest.mark.faults
seconds_until_refused = partial(seconds_until_raised, LogUnavailable)

CHECKOUT = Entity("config", "staging", "checkout", "staging/checkout")
ONE_BUSY_REPLICA = 9

Call = Callable[[LogPorts], Coroutine[Any, Any, object]]


@pytest.fixture
async def ports(url: str) -> AsyncIterator[LogPorts]:
    async with opened_ports(url) as opened:
        yield opened


@pytest.fixture
async def patient(url: str) -> AsyncIterator[LogPorts]:
    """One that waits longer than a busy server takes to come back."""
    async with opened_ports(url, PATIENT_SECONDS) as opened:
        yield opened


def intent() -> Intent:
    key = str(uuid4())
    now = datetime.now(UTC)
    return Intent(str(uuid4()), CHECKOUT, 0, "updated", "ana", "", "request", now, key, "digest")


CALLS: dict[str, Call] = {
    "begin": lambda ports: ports.intents.begin(intent()),
    "advance": lambda ports: ports.log.advance(CHECKOUT, [Written(1, None)]),
    "pointer": lambda ports: ports.log.pointer(CHECKOUT.key),
    "intent": lambda ports: ports.intents.intent("known"),
    "joined": lambda ports: ports.intents.intent_by_idempotency_key("key"),
    "overdue": lambda ports: ports.intents.overdue_intents(10),
    "expire": lambda ports: ports.intents.expire("known"),
    "snapshot": lambda ports: ports.log.snapshot(),
    "since": lambda ports: ports.log.since(0, 10),
    "history": lambda ports: ports.log.history(CHECKOUT.key, 10),
    "recent": lambda ports: ports.log.count_recent(60),
    "disclose": lambda ports: ports.log.record_disclosure(
        Disclosure(CHECKOUT, ("key",), "ana", "request")
    ),
    "claim": lambda ports: ports.maintenance.acquire_turn("scan", 0),
    "ping": lambda ports: ports.log.ping(),
}


@pytest.fixture
async def known_intent(ports: LogPorts) -> None:
    now = datetime.now(UTC)
    await ports.intents.begin(Intent("known", CHECKOUT, 0, "updated", "ana", "", "request", now))


async def open_connections(ports: LogPorts) -> None:
    await asyncio.gather(*(ports.log.ping() for _ in range(ONE_BUSY_REPLICA)))


async def open_patiently(ports: LogPorts) -> None:
    await patiently(lambda: open_connections(ports), LogUnavailable)


@pytest.mark.usefixtures("known_intent")
@pytest.mark.parametrize("name", CALLS)
async def test_a_frozen_server_is_named_in_time_and_forgotten_when_it_thaws(
    ports: LogPorts, postgres_server: PostgresServer, name: str
) -> None:
    call = CALLS[name]
    await call(ports)

    with freeze_server(postgres_server):
        assert await seconds_until_refused(call(ports)) < 2 + SLACK_SECONDS

    await patiently(lambda: call(ports), LogUnavailable)


@pytest.mark.usefixtures("known_intent")
async def test_a_frozen_server_is_named_in_time_to_all_callers_at_once(
    ports: LogPorts, postgres_server: PostgresServer
) -> None:
    await open_patiently(ports)

    with freeze_server(postgres_server):
        for _ in range(3):
            refused = await asyncio.gather(
                *(seconds_until_refused(call(ports)) for call in CALLS.values())
            )
            assert max(refused) < 2 + SLACK_SECONDS

    for call in CALLS.values():
        await patiently(partial(call, ports), LogUnavailable)


async def test_a_server_frozen_before_the_first_call_is_named_in_time(
    ports: LogPorts, postgres_server: PostgresServer
) -> None:
    with freeze_server(postgres_server):
        assert await seconds_until_refused(ports.log.ping()) < 1 + SLACK_SECONDS

    await patiently(ports.log.ping, LogUnavailable)


async def test_waiting_for_changes_lasts_no_longer_while_the_server_is_frozen(
    ports: LogPorts, postgres_server: PostgresServer
) -> None:
    with freeze_server(postgres_server):
        for _ in range(3):
            began = monotonic()
            await ports.log.wait_for_change(within=0.25)
            assert monotonic() - began < 0.25 + SLACK_SECONDS


async def test_closing_does_not_wait_for_a_frozen_server(
    url: str, postgres_server: PostgresServer
) -> None:
    connection = LogConnection(open_engine(url), url)
    ports = postgres_ports(connection)
    await open_patiently(ports)
    await ports.log.wait_for_change(within=1)

    with freeze_server(postgres_server):
        await seconds_until_refused(ports.log.ping())
        began = monotonic()
        await connection.close()
        assert monotonic() - began < 4 + SLACK_SECONDS


async def test_a_restart_costs_the_next_caller_nothing(
    patient: LogPorts, postgres_server: PostgresServer
) -> None:
    await open_patiently(patient)

    postgres_server.restart()

    await open_connections(patient)


async def test_a_connection_lost_in_the_middle_of_a_call_is_replaced(
    url: str, patient: LogPorts
) -> None:
    ports = patient
    await ports.log.ping()
    saboteur = await asyncpg.connect(url)
    # The row is locked, so that the call is still under way when its connection ends.
    await ports.maintenance.acquire_turn("scan", 0)
    holding = saboteur.transaction()
    await holding.start()
    await saboteur.execute("SELECT * FROM claims FOR UPDATE")
    claiming = asyncio.create_task(ports.maintenance.acquire_turn("scan", 0))
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    while not await saboteur.fetchval(
        f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE wait_event_type = 'Lock' AND {others}"
    ):
        assert not claiming.done()
    await holding.rollback()

    assert await claiming
    await saboteur.close()


async def test_a_server_that_is_gone_is_named_at_once_and_found_again(
    ports: LogPorts, postgres_server: PostgresServer
) -> None:
    await ports.log.ping()

    postgres_server.stop()
    try:
        assert await seconds_until_refused(ports.log.ping()) < SLACK_SECONDS
    finally:
        postgres_server.restart()

    await patiently(ports.log.ping, LogUnavailable)


async def test_listening_begins_again_after_a_restart(
    ports: LogPorts, postgres_server: PostgresServer
) -> None:
    await ports.log.wait_for_change(within=2)
    await ports.log.advance(CHECKOUT, [Written(1, None)])
    postgres_server.restart()

    async with asyncio.timeout(PATIENCE_SECONDS):
        while await seconds_until_woken(ports) > 0.5:
            pass


async def seconds_until_woken(ports: LogPorts) -> float:
    with suppress(TimeoutError):
        while True:  # whatever is known already
            began = monotonic()
            await ports.log.wait_for_change(within=0.05)
            if monotonic() - began > 0.04:
                break
    waiting = asyncio.create_task(ports.log.wait_for_change(within=1))
    pointer = await ports.log.pointer(CHECKOUT.key)
    assert pointer is not None
    await ports.log.advance(CHECKOUT, [Written(pointer.version + 1, None)])
    began = monotonic()
    await waiting
    return monotonic() - began


async def test_connections_lost_without_a_word_cost_one_look_at_the_log_a_moment(
    url: str,
) -> None:
    target = urlsplit(url)
    with LossyProxy(target.hostname or "", target.port or 0) as proxy:
        where = f"{target.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        way = target._replace(netloc=where).geturl()
        async with opened_ports(way, PATIENT_SECONDS) as ports:
            await open_patiently(ports)

            proxy.lose()
            began = monotonic()
            await ports.log.since(0, 10)
            await open_connections(ports)

            assert monotonic() - began < PATIENT_SECONDS  # a single call may wait as long


async def test_calls_that_were_given_up_stand_in_nobodys_way(url: str) -> None:
    target = urlsplit(url)
    with LossyProxy(target.hostname or "", target.port or 0) as proxy:
        where = f"{target.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        way = target._replace(netloc=where).geturl()
        every_connection = ONE_BUSY_REPLICA + 1
        async with opened_ports(way, PATIENT_SECONDS) as ports:
            await open_patiently(ports)
            await asyncio.gather(*(ports.log.ping() for _ in range(every_connection)))

            proxy.lose()
            await asyncio.gather(
                *(seconds_until_refused(ports.log.ping()) for _ in range(every_connection))
            )

            await ports.log.ping()


async def test_a_replica_that_stops_in_the_middle_does_not_lock_out_the_others(
    url: str, ports: LogPorts
) -> None:
    engine = open_engine(url)
    async with engine.connect() as stopped:
        await stopped.exec_driver_sql("SELECT pg_advisory_xact_lock(7310011)")
        assert (
            await seconds_until_refused(ports.log.advance(CHECKOUT, [Written(1, None)]))
            < 2 + SLACK_SECONDS
        )

        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(LogUnavailable):
                    assert (await ports.log.advance(CHECKOUT, [Written(1, None)])).version == 1
                    break
        await stopped.invalidate()
    await close_engine(engine)
