"""What clients of the registry promise: nodes end with sessions, who is late changes nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import pytest
from kazoo.client import KazooClient

from app.background import run_background_tasks
from app.registry.errors import Superseded
from app.registry.nodes.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.nodes.port import Node, NodeSpec, ServiceRegistryClient
from app.registry.nodes.zookeeper.client import ZooKeeperServiceRegistryClient
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import FencingToken
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS
from tests.servers.proxy import LossyProxy
from tests.servers.zookeeper import ZooKeeperServer

SESSION_SECONDS = 6.0  # a busy machine stands still for seconds, which loses a shorter one
BILLING = ("billing", "i-1")


@dataclass(frozen=True, slots=True)
class Rig:
    """One adapter on the bench, as it is in two replicas."""

    here: ServiceRegistryClient
    there: ServiceRegistryClient
    lose_session: Callable[[], Awaitable[None]]  # of the replica here; it has another one then
    end: Callable[[], Awaitable[None]]  # the replica here stops
    place: Callable[[str, str, bytes], Awaitable[None]]  # somebody else registers
    take: Callable[[str], Awaitable[None]]  # somebody else deletes a service with all it holds


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    nodes = EmbeddedNodes()
    here, there = EmbeddedServiceRegistryClient(nodes), EmbeddedServiceRegistryClient(nodes)

    async def lose_session() -> None:
        here.lose_session()

    async def place(service: str, name: str, data: bytes) -> None:
        nodes.place(Node(service, name, data, nodes.new_session()))

    async def take(service: str) -> None:
        for name in list(nodes.nodes[service]):
            nodes.delete(service, name)

    return Rig(here, there, lose_session, here.close, place, take)


async def zookeeper(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    server: ZooKeeperServer = request.getfixturevalue("zookeeper_server")
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    base, fences = f"{server.fresh_path()}/services", f"{server.fresh_path()}/fences"
    proxy = stack.enter_context(LossyProxy(server.host, server.port))
    other = KazooClient(server.hosts)
    await asyncio.to_thread(other.start)
    stack.push_async_callback(asyncio.to_thread, other.close)
    stack.push_async_callback(asyncio.to_thread, other.stop)

    async def client(hosts: str) -> ZooKeeperServiceRegistryClient:
        made = ZooKeeperServiceRegistryClient(
            hosts,
            base=base,
            fences=fences,
            session_seconds=SESSION_SECONDS,
            call_seconds=PATIENT_SECONDS,
        )
        stack.push_async_callback(made.close)
        await until(lambda: made.session.state == "connected")
        await stack.enter_async_context(run_background_tasks({"follow": made.follow}))
        await until(lambda: made.is_current)
        return made

    here = await client(f"127.0.0.1:{proxy.port}")
    there = await client(server.hosts)

    async def lose_session() -> None:
        session = here.session
        await here.put(NodeSpec("marker", "m", FencingToken(1, 1), b""))
        proxy.refuse()
        proxy.cut()
        await until(lambda: not other.exists(f"{base}/marker/m"))
        assert here.session.state != "connected"
        proxy.heal()
        await until(lambda: here.session.number == session.number + 1)
        await until(lambda: here.is_current)

    async def place(service: str, name: str, data: bytes) -> None:
        await asyncio.to_thread(
            other.create, f"{base}/{service}/{name}", data, ephemeral=True, makepath=True
        )

    async def take(service: str) -> None:
        await asyncio.to_thread(other.delete, f"{base}/{service}", recursive=True)

    return Rig(here, there, lose_session, here.close, place, take)


async def until(holds: Callable[[], bool], within: float = PATIENCE_SECONDS) -> None:
    deadline = monotonic() + within
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(zookeeper, marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def node_spec(
    epoch: int = 1, term: int = 1, data: bytes = b"one", of: tuple[str, str] = BILLING
) -> NodeSpec:
    return NodeSpec(*of, FencingToken(epoch, term), data)


async def data_of(client: ServiceRegistryClient, of: tuple[str, str] = BILLING) -> bytes | None:
    node = await client.node(*of)
    return None if node is None else node.data


def node_data(client: ServiceRegistryClient) -> dict[str, dict[str, bytes]]:
    return {
        service: {name: node.data for name, node in nodes.items()}
        for service, nodes in client.nodes.items()
    }


# Nodes and fences


async def test_what_was_put_is_there_and_belongs_to_the_session(rig: Rig) -> None:
    await rig.here.put(node_spec())

    assert await rig.there.node(*BILLING) == Node(*BILLING, b"one", rig.here.session.id)
    assert await rig.there.fence(*BILLING) == FencingToken(1, 1)
    assert rig.here.session.id != rig.there.session.id


async def test_what_was_never_put_is_not_there(rig: Rig) -> None:
    assert await rig.here.node(*BILLING) is None
    assert await rig.here.fence(*BILLING) is None


async def test_the_very_same_may_be_put_again(rig: Rig) -> None:
    await rig.here.put(node_spec())
    await rig.here.put(node_spec())

    assert await data_of(rig.there) == b"one"


async def test_data_may_change_under_the_same_tag(rig: Rig) -> None:
    await rig.here.put(node_spec())
    await rig.here.put(node_spec(data=b"two"))

    assert await data_of(rig.there) == b"two"


@pytest.mark.parametrize("tag", [FencingToken(1, 2), FencingToken(2, 1)])
async def test_a_newer_one_replaces_that_of_another_session(rig: Rig, tag: FencingToken) -> None:
    await rig.here.put(node_spec(1, 1))
    await rig.there.put(NodeSpec(*BILLING, tag, b"two"))

    assert await rig.here.node(*BILLING) == Node(*BILLING, b"two", rig.there.session.id)
    assert await rig.here.fence(*BILLING) == tag


async def test_a_node_of_our_own_former_session_is_replaced(rig: Rig) -> None:
    """The same tag and the same data, and yet it would vanish with the session it belongs to."""
    await rig.there.put(node_spec())
    await rig.here.put(node_spec())

    assert await rig.here.node(*BILLING) == Node(*BILLING, b"one", rig.here.session.id)


@pytest.mark.parametrize("late", [FencingToken(2, 1), FencingToken(1, 9)])
async def test_an_older_one_changes_nothing(rig: Rig, late: FencingToken) -> None:
    await rig.there.put(node_spec(2, 2))

    with pytest.raises(Superseded) as refused:
        await rig.here.put(NodeSpec(*BILLING, late, b"late"))
    with pytest.raises(Superseded):
        await rig.here.remove(*BILLING, late)

    assert refused.value.newest == FencingToken(2, 2)
    assert await data_of(rig.here) == b"one"
    assert await rig.here.fence(*BILLING) == FencingToken(2, 2)


async def test_what_was_removed_stays_away_from_late_ones(rig: Rig) -> None:
    await rig.here.put(node_spec(1, 1))
    await rig.there.remove(*BILLING, FencingToken(1, 2))

    with pytest.raises(Superseded):
        await rig.here.put(node_spec(1, 1))

    assert await rig.here.node(*BILLING) is None
    assert await rig.here.fence(*BILLING) == FencingToken(1, 2)


async def test_what_was_never_there_is_removed_for_those_who_come_late(rig: Rig) -> None:
    await rig.here.remove(*BILLING, FencingToken(3, 2))
    await rig.here.remove(*BILLING, FencingToken(3, 2))

    with pytest.raises(Superseded):
        await rig.there.put(node_spec(3, 1))


async def test_a_node_of_somebody_without_a_fence_is_replaced(rig: Rig) -> None:
    await rig.place(*BILLING, b"foreign")

    await rig.here.put(node_spec())

    assert await data_of(rig.there) == b"one"


async def test_only_a_node_of_our_session_is_dropped_and_the_fence_stays(rig: Rig) -> None:
    await rig.here.put(node_spec(4, 2))

    assert not await rig.there.drop(*BILLING)
    assert await data_of(rig.there) == b"one"
    assert await rig.here.drop(*BILLING)
    assert not await rig.here.drop(*BILLING)

    assert await rig.there.node(*BILLING) is None
    assert await rig.there.fence(*BILLING) == FencingToken(4, 2)


async def test_of_many_who_put_at_once_the_newest_stays(rig: Rig) -> None:
    tags = [FencingToken(n * 7 % 5, n) for n in range(1, 21)]
    clients = [rig.here, rig.there]

    await asyncio.gather(
        *(
            clients[n % 2].put(NodeSpec(*BILLING, tag, str(tag).encode()))
            for n, tag in enumerate(tags)
        ),
        return_exceptions=True,
    )

    assert await rig.here.fence(*BILLING) == max(tags)
    assert await data_of(rig.here) == str(max(tags)).encode()


async def test_of_two_who_put_many_at_once_the_newer_stays_everywhere(rig: Rig) -> None:
    names = [("billing", f"i-{number}") for number in range(120)]
    older = [node_spec(1, 1, b"older", name) for name in names]
    newer = [node_spec(1, 2, b"newer", name) for name in names]

    await asyncio.gather(
        rig.here.put_all(older),
        rig.there.put_all(newer[:60]),
        *(rig.there.put(one) for one in newer[60:]),
    )

    assert [await rig.here.fence(*name) for name in names] == [FencingToken(1, 2)] * 120
    assert [await data_of(rig.here, name) for name in names] == [b"newer"] * 120


async def test_who_puts_and_who_removes_at_once_agree(rig: Rig) -> None:
    for round_ in range(1, 11):
        await asyncio.gather(
            rig.here.put(node_spec(round_, 1)),
            rig.there.remove(*BILLING, FencingToken(round_, 2)),
            return_exceptions=True,
        )

        assert await rig.here.node(*BILLING) is None
        assert await rig.here.fence(*BILLING) == FencingToken(round_, 2)


async def test_the_fence_of_one_that_is_gone_is_reaped(rig: Rig) -> None:
    assert await rig.here.reap(*BILLING, FencingToken(1, 1))
    await rig.here.put(node_spec(1, 1))
    assert not await rig.here.reap(*BILLING, FencingToken(1, 1))
    await rig.here.remove(*BILLING, FencingToken(1, 2))

    assert not await rig.here.reap(*BILLING, FencingToken(1, 1))
    assert await rig.here.fence(*BILLING) == FencingToken(1, 2)
    assert await rig.here.reap(*BILLING, FencingToken(1, 2))
    assert await rig.here.fence(*BILLING) is None


async def test_what_is_too_large_is_refused_before_it_costs_the_connection(rig: Rig) -> None:
    with pytest.raises(ValueError, match="too large"):
        await rig.here.put(node_spec(data=b"x" * MAX_NODE_BYTES))
    await rig.here.put(node_spec(data=b"x" * (MAX_NODE_BYTES - 1)))

    assert await data_of(rig.there) == b"x" * (MAX_NODE_BYTES - 1)


async def test_many_are_put_and_those_too_late_are_told(rig: Rig) -> None:
    many = [node_spec(2, 1, b"%d" % n, ("billing", f"i-{n}")) for n in range(120)]
    await rig.there.put(node_spec(2, 2, b"newer", ("billing", "i-7")))

    late = await rig.here.put_all(many)

    assert [(error.facts["instance_id"], error.newest) for error in late] == [
        ("i-7", FencingToken(2, 2))
    ]
    await until(lambda: len(rig.there.nodes.get("billing", {})) == 120)
    assert node_data(rig.there)["billing"] == {
        f"i-{n}": b"newer" if n == 7 else b"%d" % n for n in range(120)
    }


# Sessions


async def test_a_session_is_connected(rig: Rig) -> None:
    session = rig.here.session

    assert (session.state, session.number) == ("connected", 1)
    assert 0 <= session.seconds < 60
    await rig.here.ping()


async def test_nodes_end_with_a_session_that_is_closed_and_fences_do_not(rig: Rig) -> None:
    await rig.here.put(node_spec())
    await rig.there.put(node_spec(of=("billing", "i-2")))

    await rig.end()

    await until(lambda: node_data(rig.there) == {"billing": {"i-2": b"one"}})
    assert await rig.there.node(*BILLING) is None
    assert await rig.there.fence(*BILLING) == FencingToken(1, 1)


async def test_nodes_end_with_a_session_that_is_lost_and_can_be_put_again(rig: Rig) -> None:
    await rig.here.put(node_spec())
    before = rig.here.session

    await rig.lose_session()

    assert await rig.here.node(*BILLING) is None
    after = rig.here.session
    assert (after.state, after.number) == ("connected", before.number + 1)
    assert after.id != before.id
    await rig.here.put(node_spec())
    assert await rig.there.node(*BILLING) == Node(*BILLING, b"one", after.id)
    await until(lambda: node_data(rig.here) == node_data(rig.there) == {"billing": {"i-1": b"one"}})


async def test_who_lost_the_session_does_not_come_back_before_another(rig: Rig) -> None:
    await rig.here.put(node_spec(1, 1))
    await rig.lose_session()
    await rig.there.put(node_spec(1, 2, b"adopted"))

    late = await rig.here.put_all([node_spec(1, 1)])

    assert len(late) == 1
    assert await data_of(rig.here) == b"adopted"


# What is seen


async def test_everybody_sees_what_comes_changes_and_goes(rig: Rig) -> None:
    await rig.here.put(node_spec(1, 1))
    await until(lambda: node_data(rig.here) == node_data(rig.there) == {"billing": {"i-1": b"one"}})
    await rig.here.put(node_spec(1, 1, b"two"))
    await until(lambda: node_data(rig.here) == node_data(rig.there) == {"billing": {"i-1": b"two"}})
    await rig.there.put(node_spec(1, 2, b"three"))
    await until(
        lambda: node_data(rig.here) == node_data(rig.there) == {"billing": {"i-1": b"three"}}
    )
    assert rig.here.nodes["billing"]["i-1"].session == rig.there.session.id
    await rig.here.remove(*BILLING, FencingToken(1, 3))
    await until(lambda: node_data(rig.here) == node_data(rig.there) == {})

    assert rig.here.is_current
    assert rig.there.is_current


async def test_who_puts_a_node_sees_it_when_it_is_done(rig: Rig) -> None:
    for epoch in range(1, 11):
        for of in BILLING, ("billing", "i-2"), ("orders", "o-1"):
            data = b"%d" % epoch
            await rig.here.put(node_spec(epoch, 1, data, of))

            service, name = of
            assert rig.here.nodes[service][name] == Node(*of, data, rig.here.session.id)


async def test_those_who_listen_hear_of_the_service_after_it_was_seen(rig: Rig) -> None:
    heard: list[tuple[str, dict[str, bytes]]] = []
    rig.there.on_change(
        lambda service: heard.append((service, node_data(rig.there).get(service, {})))
    )

    await rig.here.put(node_spec())
    await until(lambda: heard == [("billing", {"i-1": b"one"})])
    await rig.here.put(node_spec(of=("orders", "o-1")))
    await until(lambda: heard[1:] == [("orders", {"o-1": b"one"})])
    await rig.here.drop(*BILLING)
    await until(lambda: heard[2:] == [("billing", {})])


async def test_what_others_place_and_take_is_seen(rig: Rig) -> None:
    await rig.place("legacy", "l-1", b"foreign")
    await until(lambda: node_data(rig.here) == {"legacy": {"l-1": b"foreign"}})

    await rig.take("legacy")
    await until(lambda: node_data(rig.here) == {})
    await rig.place("legacy", "l-2", b"again")
    await until(lambda: node_data(rig.here) == {"legacy": {"l-2": b"again"}})
    await rig.here.put(node_spec(of=("legacy", "l-3")))
    await until(lambda: node_data(rig.there) == {"legacy": {"l-2": b"again", "l-3": b"one"}})


async def test_after_a_refresh_everything_is_seen_without_waiting(rig: Rig) -> None:
    await rig.there.put(node_spec())
    await rig.there.put(node_spec(of=("orders", "o-1")))

    await rig.here.refresh()

    assert node_data(rig.here) == {"billing": {"i-1": b"one"}, "orders": {"o-1": b"one"}}


async def test_a_storm_of_changes_is_seen_as_it_ends(rig: Rig) -> None:
    async def churn(client: ServiceRegistryClient, name: str) -> None:
        for epoch in range(1, 11):
            await client.put(node_spec(epoch, 1, b"%d" % epoch, ("billing", name)))
            if epoch % 3 == 0:
                await client.remove("billing", name, FencingToken(epoch, 2))

    await asyncio.gather(*(churn([rig.here, rig.there][n % 2], f"i-{n}") for n in range(20)))

    expected = {"billing": {f"i-{n}": b"10" for n in range(20)}}
    await until(lambda: node_data(rig.here) == node_data(rig.there) == expected)
