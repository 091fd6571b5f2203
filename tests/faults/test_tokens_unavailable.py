"""Tokens on two replicas of one Postgres: how soon a change counts, and while it is frozen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from app.access.errors import TokenRefused, TokenStoreUnavailable, TokensUnavailable
from app.access.tokens.model import generate_token
from app.access.tokens.postgres import PostgresTokenStore
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.log import PostgresChangeLog
from app.postgres.engine import open_engine
from tests.access.replica import EVENT, Replica, replica, until
from tests.access.tokens import new_token
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server

pytestmark = pytest.mark.faults

_ROUNDS = 20


@pytest.fixture
async def replicas(postgres_server: PostgresServer) -> AsyncIterator[tuple[Replica, Replica]]:
    url = postgres_server.migrated_database()
    async with AsyncExitStack() as stack:
        stack.callback(postgres_server.drop, url)

        async def open_replica() -> Replica:
            engine = open_engine(url)
            connection = LogConnection(engine, url)
            stack.push_async_callback(connection.close)
            log = PostgresChangeLog(connection)
            return await stack.enter_async_context(replica(PostgresTokenStore(engine), log))

        yield await open_replica(), await open_replica()


def finds(where: Replica, text: str) -> bool:
    try:
        return where.known.authenticate(text) is not None
    except TokenRefused:
        return False


async def test_a_change_counts_on_every_replica_within_a_second(
    replicas: tuple[Replica, Replica],
) -> None:
    here, there = replicas
    took = []
    for _ in range(_ROUNDS):
        token, text = await here.create()
        await until(lambda text=text: finds(there, text))  # type: ignore[misc]

        began = monotonic()
        await there.revoke(token)
        assert not finds(there, text)
        await until(lambda text=text: not finds(here, text))  # type: ignore[misc]
        took.append(monotonic() - began)

    assert max(took) < 1 + SLACK_SECONDS


async def test_while_postgres_is_frozen_known_tokens_go_on_and_unknown_ones_are_not_judged(
    replicas: tuple[Replica, Replica], postgres_server: PostgresServer
) -> None:
    here, there = replicas
    token, text = await here.create()
    await there.caught_up(token.revision)

    with freeze_server(postgres_server):
        await until(lambda: there.follower.silence > 1)
        assert there.known.authenticate(text) == token
        with pytest.raises(TokensUnavailable):
            there.known.authenticate(generate_token("service")[1])
        refused = await asyncio.gather(
            here.store.create(new_token()[0], EVENT),
            here.store.revoke(token.id, EVENT),
            here.store.record_uses({token.id: token.created_at}),
            return_exceptions=True,
        )
        assert {type(error) for error in refused} == {TokenStoreUnavailable}

    await until(lambda: there.follower.silence < 1)
    assert not finds(there, generate_token("service")[1])


async def test_what_was_revoked_during_an_outage_of_one_replica_counts_when_it_is_over(
    replicas: tuple[Replica, Replica], postgres_server: PostgresServer
) -> None:
    here, there = replicas
    token, text = await here.create()
    await there.caught_up(token.revision)
    postgres_server.kill()
    try:
        await until(lambda: there.follower.silence > 1)
    finally:
        postgres_server.restart()
    assert finds(there, text)

    await here.revoke(token)

    await until(lambda: not finds(there, text))
