"""What a replica has put itself is seen there at once, and no longer than it stands."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic

import pytest
from kazoo.client import KazooClient

from app.background import run_background_tasks
from app.registry.nodes.port import Node, NodeSpec
from app.registry.nodes.zookeeper.client import ZooKeeperServiceRegistryClient
from app.registry.nodes.zookeeper.session import ZooKeeperSession
from app.registry.nodes.zookeeper.view import ZooKeeperView
from pilothouse_core.instances import FencingToken
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.zookeeper import ZooKeeperServer

SESSION_SECONDS = 30.0
BILLING = ("billing", "i-1")


async def until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.fixture
def base(zookeeper_server: ZooKeeperServer) -> str:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    return zookeeper_server.fresh_path()


@pytest.fixture
async def clients(
    zookeeper_server: ZooKeeperServer, base: str
) -> AsyncIterator[list[ZooKeeperServiceRegistryClient]]:
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(2):
            client = ZooKeeperServiceRegistryClient(
                zookeeper_server.hosts,
                base=f"{base}/services",
                fences=f"{base}/fences",
                session_seconds=SESSION_SECONDS,
            )
            stack.push_async_callback(client.close)
            await until(lambda client=client: client.session.state == "connected")  # type: ignore[misc]
            await stack.enter_async_context(run_background_tasks({"follow": client.follow}))
            await until(lambda client=client: client.is_current)  # type: ignore[misc]
            made.append(client)
        yield made


@pytest.fixture
def tool(zookeeper_server: ZooKeeperServer) -> Iterator[KazooClient]:
    made = KazooClient(zookeeper_server.hosts)
    made.start()
    yield made
    made.stop()
    made.close()


@dataclass
class Bench:
    """A view of its own, which can be told what is not true."""

    session: ZooKeeperSession
    view: ZooKeeperView
    ghost: Node = field(default=Node(*BILLING, b"never put", 1))


@pytest.fixture
async def bench(zookeeper_server: ZooKeeperServer, base: str) -> AsyncIterator[Bench]:
    def change_connection() -> None:
        made.view.on_connection_change()

    session = ZooKeeperSession(zookeeper_server.hosts, change_connection, seconds=SESSION_SECONDS)
    made = Bench(session, ZooKeeperView(session, base))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(session.close)
        await until(lambda: session.is_connected)
        yield made


async def test_what_was_put_does_not_go_out_of_sight_while_others_come_and_go(
    clients: list[ZooKeeperServiceRegistryClient],
) -> None:
    client, other = clients
    put: set[str] = set()
    missed: list[set[str]] = []
    client.on_change(lambda service: missed.append(put - client.nodes.get(service, {}).keys()))

    async def churn() -> None:
        for epoch in range(1, 40):
            await other.put(NodeSpec("billing", "other", FencingToken(epoch, 1), b""))
            await other.remove("billing", "other", FencingToken(epoch, 2))

    async def fill(of: int) -> None:
        for number in range(40):
            name = f"i-{of}-{number}"
            await client.put(NodeSpec("billing", name, FencingToken(1, 1), b"one"))
            put.add(name)

    await asyncio.gather(churn(), *map(fill, range(10)))

    await until(lambda: client.nodes["billing"].keys() == put)
    assert not any(missed)


async def test_what_was_put_goes_when_others_delete_or_replace_it(
    clients: list[ZooKeeperServiceRegistryClient], tool: KazooClient, base: str
) -> None:
    client, other = clients
    for epoch in range(1, 11):
        await client.put(NodeSpec(*BILLING, FencingToken(epoch, 1), b"mine"))
        await asyncio.to_thread(tool.delete, f"{base}/services/billing/i-1")
        await until(lambda: not client.nodes)

        await client.put(NodeSpec(*BILLING, FencingToken(epoch, 1), b"mine"))
        await other.put(NodeSpec(*BILLING, FencingToken(epoch, 2), b"theirs"))
        await until(lambda: client.nodes["billing"]["i-1"].data == b"theirs")


async def test_what_was_told_but_does_not_stand_any_more_goes(bench: Bench) -> None:
    async with run_background_tasks({"follow": bench.view.follow}):
        await until(lambda: bench.view.is_current)
        bench.view.show_own_node(bench.ghost, bench.view.connections)
        assert bench.view.nodes == {"billing": {"i-1": bench.ghost}}

        await until(lambda: not bench.view.nodes)


async def test_a_look_that_is_given_up_forgets_no_sign_of_change(bench: Bench) -> None:
    async with run_background_tasks({"follow": bench.view.follow}):
        await until(lambda: bench.view.is_current)
        bench.view.show_own_node(bench.ghost, bench.view.connections)
        looking = asyncio.create_task(bench.view.refresh())
        await asyncio.sleep(0)
        looking.cancel()

        await until(lambda: not bench.view.nodes)  # and not only a minute later


async def test_what_was_put_over_an_earlier_connection_is_not_shown(bench: Bench) -> None:
    async with run_background_tasks({"follow": bench.view.follow}):
        await until(lambda: bench.view.is_current)
        bench.view.show_own_node(bench.ghost, bench.view.connections - 1)

        assert not bench.view.nodes


async def test_nothing_is_shown_ahead_to_who_does_not_follow(bench: Bench) -> None:
    async with run_background_tasks({"follow": bench.view.follow}):
        await until(lambda: bench.view.is_current)

    bench.view.show_own_node(bench.ghost, bench.view.connections)

    assert not bench.view.nodes
