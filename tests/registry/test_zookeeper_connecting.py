"""How long a server of ZooKeeper that cannot be reached keeps a replica from the others."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from app.registry.nodes.zookeeper.client import ZooKeeperServiceRegistryClient
from tests.servers.zookeeper import ZooKeeperServer

SESSION_SECONDS = 60.0


@pytest.fixture
def unreachable() -> Iterator[str]:
    """Return the address of a listener whose queue is full: nobody answers who connects."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_server_that_cannot_be_reached_costs_one_attempt(
    zookeeper_server: ZooKeeperServer, unreachable: str
) -> None:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    client = ZooKeeperServiceRegistryClient(
        # They are tried in any order; so many that the other one is hardly ever the first.
        ",".join([unreachable] * 9 + [zookeeper_server.hosts]),
        base=zookeeper_server.fresh_path(),
        session_seconds=SESSION_SECONDS,
        connection_seconds=0.3,
    )
    try:
        began = monotonic()
        while client.session.state != "connected":
            assert monotonic() - began < SESSION_SECONDS, "it waited for a whole session"
            await asyncio.sleep(0.01)
    finally:
        await client.close()
