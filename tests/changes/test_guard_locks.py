"""Which transactions of protocol E wait for each other in Postgres (docs/protocols.md)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any, Final

import asyncpg
import pytest

from app.changes.log.port import LogPorts
from app.changes.model import Guard, Intent
from app.rules.definitions.postgres import PostgresDefinitionStore
from tests.changes.ports import opened_ports
from tests.contracts.changes.changing import entity, intent, intent_with_key
from tests.contracts.defining import EVERYWHERE, commit, edit
from tests.contracts.rigs import PostgresBench, postgres_bench
from tests.servers.process import PATIENCE_SECONDS

pytestmark = pytest.mark.servers

BASE: Final = entity("_shared", "default")
RESERVED: Final = intent(BASE)
WAITING: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
GIVEN: Final = json.dumps(
    {
        "id": "held",
        "doc": BASE.key,
        "kind": "config",
        "environment": "default",
        "name": "_shared",
        "base_version": 0,
        "action": "updated",
        "actor": "ana",
        "comment": "",
        "request_id": "request-1",
        "at": "2026-03-04T05:06:07+00:00",
    }
)
EDITS: Final = json.dumps(
    [
        {
            "kind": "schema",
            "name": "held",
            "base": 0,
            "definition": "{}",
            "action": "created",
            "scopes": [],
        }
    ]
)
HELD: Final = {
    "schemas": ("SELECT * FROM begin_intent($1, 0, false, '3 seconds')", GIVEN),
    "related": ("SELECT * FROM begin_intent($1, 0, true, '3 seconds')", GIVEN),
    "reserve": ("SELECT * FROM reserve_intent($1, 3)", GIVEN),
    "confirm": ("SELECT * FROM confirm_intent($1, '3 seconds')", GIVEN),
    "commit": ("SELECT * FROM commit_definitions($1, NULL, '[]', 'ana', '', 'r', NULL)", EDITS),
}
CALLS: Final[dict[str, Callable[[LogPorts], Coroutine[Any, Any, object]]]] = {
    "plain": lambda ports: ports.intents.begin(intent()),
    "schemas": lambda ports: ports.intents.begin(intent(), Guard(0, covers_related=False)),
    "related": lambda ports: ports.intents.begin(intent(), Guard(0, covers_related=True)),
    "reserve": lambda ports: ports.intents.reserve(intent()),
    "confirm": lambda ports: ports.intents.confirm(RESERVED),
}
EXCLUDED: Final = {
    "schemas": {"commit"},
    "related": {"related", "reserve", "confirm", "commit"},
    "reserve": {"related", "reserve", "confirm", "commit"},
    "confirm": {"related", "reserve", "confirm", "commit"},
    "commit": {"schemas", "related", "reserve", "confirm", "commit"},
}


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[PostgresBench]:
    async with AsyncExitStack() as stack:
        yield await postgres_bench(request, stack)


async def is_waiting(connection: asyncpg.Connection, call: "asyncio.Future[Any]") -> bool:
    """Return whether the call waits for a lock, when it does or is done."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not call.done():
        if await connection.fetchval(WAITING):
            return True
        assert monotonic() < deadline, "the call neither ends nor waits for a lock"
    return False


@pytest.mark.parametrize("name", [*CALLS, "commit"])
@pytest.mark.parametrize("held", HELD)
async def test_who_is_excluded_waits_for_the_end_of_the_transaction(
    bench: PostgresBench, held: str, name: str
) -> None:
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(opened_ports(bench.url, 20))
        definitions = PostgresDefinitionStore(bench.open_connection().engine)
        await ports.intents.reserve(RESERVED)
        holder = await asyncpg.connect(bench.url)
        stack.push_async_callback(holder.close)
        transaction = holder.transaction()
        await transaction.start()
        await holder.fetch(*HELD[held])

        judged = commit(edit(), judged_at=0, judged=[EVERYWHERE])
        work = definitions.commit(judged) if name == "commit" else CALLS[name](ports)
        call: asyncio.Task[object] = asyncio.ensure_future(work)
        waited = await is_waiting(bench.connection, call)
        await transaction.commit()
        await asyncio.gather(call, return_exceptions=True)

    assert waited == (name in EXCLUDED[held])


async def test_a_reservation_joins_the_intent_that_takes_its_key_at_the_same_time(
    bench: PostgresBench,
) -> None:
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(opened_ports(bench.url, 20))
        draft = intent_with_key("key")
        await ports.intents.reserve(draft)
        holder = await asyncpg.connect(bench.url)
        stack.push_async_callback(holder.close)
        transaction = holder.transaction()
        await transaction.start()
        columns = "doc, kind, environment, name, base_version, action, actor, comment, request_id"
        await holder.execute(
            f"INSERT INTO intents (id, {columns}, at, idempotency_key, state, look_after)"
            f" SELECT 'quick', {columns}, now(), 'key', 'open', now() FROM intents"
        )

        call: asyncio.Task[Intent] = asyncio.ensure_future(ports.intents.confirm(draft))
        assert await is_waiting(bench.connection, call)
        await transaction.commit()

        assert (await call).id == "quick"
