"""What the store of flags does while Postgres is frozen, gone or restarted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import pytest

from app.flags.errors import FlagsUnavailable
from app.flags.model import Commit, Edit
from app.flags.store.postgres import PostgresFlagStore
from app.postgres.engine import close_engine, open_engine
from tests.faults.refusals import seconds_until_raised
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server, patiently

pytestmark = pytest.mark.faults
seconds_until_refused = partial(seconds_until_raised, FlagsUnavailable)

NOW = datetime.now(UTC)

Call = Callable[[PostgresFlagStore], Coroutine[Any, Any, object]]


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresFlagStore]:
    engine = open_engine(url)
    yield PostgresFlagStore(engine)
    await close_engine(engine)


def commit(base: int = 0, *, environment: str = "staging") -> Commit:
    edits = [Edit("flag", "banner", "{}", "updated")]
    return Commit(environment, base, edits, actor="ana", comment="", request_id="request")


CALLS: dict[str, tuple[Call, float]] = {
    "commit": (lambda store: store.commit(commit(environment="frozen")), 2 + SLACK_SECONDS),
    "repeated": (lambda store: store.commit_by_idempotency_key("key"), 2 + SLACK_SECONDS),
    "newer": (lambda store: store.items_after(0, 10), 2 + SLACK_SECONDS),
    "history": (lambda store: store.history("flag", "staging", "banner", 10), 2 + SLACK_SECONDS),
    "count": (
        lambda store: store.count({("staging", "banner"): {"on": 1}}, NOW),
        2 + SLACK_SECONDS,
    ),
    "usage": (lambda store: store.usage("staging"), 2 + SLACK_SECONDS),
    "ping": (lambda store: store.ping(), 2 + SLACK_SECONDS),
}


async def test_a_frozen_server_is_named_in_time_to_all_callers_at_once(
    store: PostgresFlagStore, postgres_server: PostgresServer
) -> None:
    await patiently(lambda: asyncio.gather(*(store.ping() for _ in CALLS)), FlagsUnavailable)

    with freeze_server(postgres_server):
        refused = await asyncio.gather(
            *(seconds_until_refused(call(store)) for call, _ in CALLS.values())
        )

    limits = [limit for _, limit in CALLS.values()]
    assert [took < limit for took, limit in zip(refused, limits, strict=True)] == [True] * 7
    await patiently(store.ping, FlagsUnavailable)
    await store.commit(commit())


async def test_a_server_that_is_gone_is_named_at_once_and_found_again(
    store: PostgresFlagStore, postgres_server: PostgresServer
) -> None:
    written = await store.commit(commit())

    postgres_server.stop()
    try:
        assert (
            await seconds_until_refused(store.commit(commit(written[-1].revision))) < SLACK_SECONDS
        )
    finally:
        postgres_server.restart()

    await patiently(store.ping, FlagsUnavailable)
    await store.commit(commit(written[-1].revision))


async def test_a_commit_whose_connection_is_lost_is_not_asked_for_twice(
    url: str, store: PostgresFlagStore
) -> None:
    (written,) = await store.commit(commit())
    saboteur = await asyncpg.connect(url)
    # The row is locked, so that the call is still under way when its connection ends.
    holding = saboteur.transaction()
    await holding.start()
    await saboteur.execute("SELECT * FROM flag_sets FOR UPDATE")
    committing = asyncio.create_task(store.commit(commit(written.revision)))
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    while not await saboteur.fetchval(
        f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE wait_event_type = 'Lock' AND {others}"
    ):
        assert not committing.done()
    await holding.rollback()

    with pytest.raises(FlagsUnavailable):
        await committing

    await saboteur.close()
    assert await store.items_after(0, 10) == [written]
