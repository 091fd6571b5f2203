"""What is ZooKeeper's alone: outages, sessions in doubt, watches, and many nodes at once."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from time import monotonic

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from app.background import run_background_tasks
from app.registry.errors import NodesUnavailable
from app.registry.nodes.port import NodeSpec
from app.registry.nodes.zookeeper.client import ZooKeeperServiceRegistryClient
from app.registry.nodes.zookeeper.session import CALL_SECONDS
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import FencingToken
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS, freeze_server, reserve_port
from tests.servers.proxy import LossyProxy
from tests.servers.zookeeper import ZooKeeperServer, start_zookeeper

SESSION_SECONDS = 10.0  # a busy machine stands still for seconds, which loses a short one
BILLING = ("billing", "i-1")
WANTED = NodeSpec(*BILLING, FencingToken(1, 1), b"one")

Call = Callable[[ZooKeeperServiceRegistryClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "put": lambda client: client.put(NodeSpec(*BILLING, FencingToken(9, 9), b"late")),
    "put_all": lambda client: client.put_all([WANTED, NodeSpec("a", "b", FencingToken(1, 1), b"")]),
    "remove": lambda client: client.remove(*BILLING, FencingToken(9, 9)),
    "drop": lambda client: client.drop(*BILLING),
    "node": lambda client: client.node(*BILLING),
    "fence": lambda client: client.fence(*BILLING),
    "reap": lambda client: client.reap(*BILLING, FencingToken(1, 1)),
    "refresh": lambda client: client.refresh(),
    "follow": lambda client: client.follow(),
    "ping": lambda client: client.ping(),
}
each = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


async def until(holds: Callable[[], bool], within: float = PATIENCE_SECONDS) -> None:
    deadline = monotonic() + within
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)


@pytest.fixture
def base(zookeeper_server: ZooKeeperServer) -> str:
    return zookeeper_server.fresh_path()


@asynccontextmanager
async def open_client(
    hosts: str,
    base: str,
    *,
    seconds: float = SESSION_SECONDS,
    follows: bool = False,
    call_seconds: float = PATIENT_SECONDS,
) -> AsyncIterator[ZooKeeperServiceRegistryClient]:
    client = ZooKeeperServiceRegistryClient(
        hosts,
        base=f"{base}/services",
        fences=f"{base}/fences",
        session_seconds=seconds,
        call_seconds=call_seconds,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        if follows:
            await stack.enter_async_context(run_background_tasks({"follow": client.follow}))
        yield client


@asynccontextmanager
async def connected_client(
    hosts: str,
    base: str,
    *,
    seconds: float = SESSION_SECONDS,
    follows: bool = False,
    call_seconds: float = PATIENT_SECONDS,
) -> AsyncIterator[ZooKeeperServiceRegistryClient]:
    async with open_client(
        hosts, base, seconds=seconds, follows=follows, call_seconds=call_seconds
    ) as client:
        await until(lambda: client.session.state == "connected")
        if follows:
            await until(lambda: client.is_current)
        yield client


@pytest.fixture
async def client(
    zookeeper_server: ZooKeeperServer, base: str
) -> AsyncIterator[ZooKeeperServiceRegistryClient]:
    async with connected_client(zookeeper_server.hosts, base, follows=True) as made:
        yield made


@pytest.fixture
def tool(zookeeper_server: ZooKeeperServer) -> Iterator[KazooClient]:
    made = KazooClient(zookeeper_server.hosts)
    made.start()
    yield made
    made.stop()
    made.close()


# Outages


@each
async def test_a_frozen_server_costs_no_more_than_the_deadline(
    zookeeper_server: ZooKeeperServer, base: str, call: Call
) -> None:
    hosts = zookeeper_server.hosts
    async with connected_client(hosts, base, seconds=20, call_seconds=CALL_SECONDS) as client:
        with freeze_server(zookeeper_server):
            began = monotonic()
            with pytest.raises(NodesUnavailable):
                await call(client)
            assert monotonic() - began < CALL_SECONDS + SLACK_SECONDS

        await client.ping()


@each
async def test_without_a_connection_every_call_fails_at_once(base: str, call: Call) -> None:
    with reserve_port() as nobody:
        async with open_client(f"127.0.0.1:{nobody.getsockname()[1]}", base) as client:
            began = monotonic()
            with pytest.raises(NodesUnavailable, match="not connected"):
                await call(client)

            assert monotonic() - began < SLACK_SECONDS
            assert (client.session.state, client.session.number) == ("lost", 0)
            assert not client.is_current


async def test_many_calls_at_a_frozen_server_do_not_stop_the_loop(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    hosts = zookeeper_server.hosts
    async with connected_client(hosts, base, seconds=20, call_seconds=CALL_SECONDS) as client:
        with freeze_server(zookeeper_server):
            calls = [asyncio.ensure_future(client.node("billing", f"i-{n}")) for n in range(500)]
            longest = 0.0
            while not all(call.done() for call in calls):
                began = monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, monotonic() - began)
            assert all(isinstance(call.exception(), NodesUnavailable) for call in calls)

    assert longest < SLACK_SECONDS  # and not as long as all of them take


async def test_what_was_asked_before_a_freeze_does_not_happen_twice(
    zookeeper_server: ZooKeeperServer, base: str, client: ZooKeeperServiceRegistryClient
) -> None:
    hosts = zookeeper_server.hosts
    await client.put(WANTED)
    async with connected_client(hosts, base, seconds=20, call_seconds=CALL_SECONDS) as other:
        with freeze_server(zookeeper_server), pytest.raises(NodesUnavailable):
            await other.remove(*BILLING, FencingToken(1, 2))

        await until(lambda: client.is_current)
        await client.put(NodeSpec(*BILLING, FencingToken(2, 1), b"two"))
        await until(lambda: _data(client) == b"two")
        assert await client.fence(*BILLING) == FencingToken(2, 1)


async def test_a_session_outlives_a_kill_of_the_server(base: str) -> None:
    with closing(await asyncio.to_thread(start_zookeeper)) as server:
        async with connected_client(server.hosts, base, seconds=10, follows=True) as client:
            await client.put(WANTED)
            await until(lambda: "billing" in client.nodes)
            before = client.session
            await asyncio.to_thread(server.kill)
            await until(lambda: client.session.state == "suspended")
            assert "billing" in client.nodes  # what was last seen
            assert not client.is_current
            await asyncio.to_thread(server.restart)
            await until(lambda: client.is_current)

            assert (client.session.id, client.session.number) == (before.id, before.number)
            node = await client.node(*BILLING)
            assert node is not None
            assert node.session == client.session.id


async def test_a_session_in_doubt_is_lost_by_our_own_clock(base: str) -> None:
    with closing(await asyncio.to_thread(start_zookeeper)) as server:
        async with connected_client(server.hosts, base, seconds=4) as client:
            states = []
            await asyncio.to_thread(server.kill)
            await until(lambda: client.session.state == "suspended")
            states.append(client.session)
            await until(lambda: client.session.state == "lost")
            states.append(client.session)

    assert [session.number for session in states] == [1, 1]
    assert states[0].seconds < 4 + SLACK_SECONDS
    assert states[1].seconds < 4 + SLACK_SECONDS


async def test_all_is_put_again_when_zookeeper_returns_without_its_data(base: str) -> None:
    with closing(await asyncio.to_thread(start_zookeeper)) as server:
        async with connected_client(server.hosts, base, seconds=60, follows=True) as client:
            many = [
                NodeSpec("billing", f"i-{number}", FencingToken(3, 1), b"")
                for number in range(2, 302)
            ]
            await client.put_all(many)
            await client.put(WANTED)
            before = client.session
            await asyncio.to_thread(server.lose_data)
            await until(lambda: client.session.state != "connected")
            await asyncio.to_thread(server.restart)

            await until(lambda: client.session.state == "connected")
            assert (client.session.number, client.session.id) != (before.number, before.id)
            await until(lambda: client.is_current)
            assert client.nodes == {}
            await client.put_all([*many, WANTED])
            await until(lambda: len(client.nodes.get("billing", {})) == 301)
            assert await client.fence(*BILLING) == WANTED.token


def _has_seen_changes(sent: bytes) -> bool:
    """Tell whom a server refuses that lags behind: the change seen last stands in bytes 8 to 16."""
    return sent[8:16] != bytes(8)


@pytest.mark.parametrize("refused", [None, _has_seen_changes], ids=["all", "lagging"])
async def test_a_server_that_refuses_for_a_time_costs_no_session(
    zookeeper_server: ZooKeeperServer, base: str, refused: Callable[[bytes], bool] | None
) -> None:
    with LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy:
        hosts = f"127.0.0.1:{proxy.port}"
        async with connected_client(hosts, base, seconds=60, follows=True) as client:
            await client.put(WANTED)
            before = client.session
            proxy.refuse(refused)
            proxy.cut()
            await until(lambda: proxy.refused >= 30)
            proxy.heal()

            await until(lambda: client.is_current)
            assert (client.session.id, client.session.number) == (before.id, before.number)
            assert client.nodes["billing"]["i-1"].session == before.id


async def test_silence_is_noticed_within_the_session(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    with LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy:
        hosts = f"127.0.0.1:{proxy.port}"
        async with connected_client(hosts, base, seconds=6, follows=True) as client:
            proxy.refuse()  # or it is connected again before anybody looks
            proxy.lose()
            began = monotonic()
            await until(lambda: client.session.state != "connected")
            noticed = monotonic() - began
            proxy.heal()
            await until(lambda: client.is_current)

    assert noticed < 6 + SLACK_SECONDS


async def test_a_server_that_says_nothing_to_a_new_connection_does_not_cost_the_session(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    with LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy:
        hosts = f"127.0.0.1:{proxy.port}"
        async with connected_client(hosts, base, seconds=6, follows=True) as client:
            before = client.session
            proxy.drop_next_response(hang=True)
            proxy.cut()
            await until(lambda: client.session.state != "connected")
            await until(lambda: client.is_current)

            assert (client.session.id, client.session.number) == (before.id, before.number)


async def test_it_connects_when_the_server_comes(base: str) -> None:
    with closing(await asyncio.to_thread(start_zookeeper)) as server:
        await asyncio.to_thread(server.kill)
        async with open_client(server.hosts, base, follows=True) as client:
            with pytest.raises(NodesUnavailable):
                await client.put(WANTED)
            await asyncio.to_thread(server.restart)
            await until(lambda: client.is_current)
            await client.put(WANTED)
            await until(lambda: "billing" in client.nodes)


async def test_closing_is_quick_though_the_server_is_frozen(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    hosts = zookeeper_server.hosts
    async with connected_client(hosts, base, seconds=20, call_seconds=CALL_SECONDS) as client:
        with freeze_server(zookeeper_server):
            began = monotonic()
            await client.close()
            assert monotonic() - began < 3 + SLACK_SECONDS


async def test_nothing_is_left_of_a_client_that_was_closed(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    before = set(threading.enumerate())
    async with connected_client(zookeeper_server.hosts, base, follows=True) as client:
        await client.put(WANTED)

    await until(lambda: set(threading.enumerate()) <= before)


# Watches


async def test_a_base_that_vanishes_is_watched_again(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str
) -> None:
    for number in range(3):
        await client.put(NodeSpec(*BILLING, FencingToken(1, number + 1), b"%d" % number))
        await until(lambda: "billing" in client.nodes)
        await asyncio.to_thread(tool.delete, f"{base}/services", recursive=True)
        await until(lambda: not client.nodes)


async def test_what_is_created_anew_under_the_same_name_is_read_again(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str
) -> None:
    path = f"{base}/services/billing/i-1"
    for number in range(20):
        data = b"%d" % number

        def replace(data: bytes = data) -> None:
            with tool.transaction() as transaction:
                if tool.exists(path):
                    transaction.delete(path)
                transaction.create(path, data)

        await asyncio.to_thread(tool.ensure_path, f"{base}/services/billing")
        await asyncio.to_thread(replace)
        await until(lambda data=data: _data(client) == data)  # type: ignore[misc]


def _data(client: ZooKeeperServiceRegistryClient) -> bytes | None:
    node = client.nodes.get("billing", {}).get("i-1")
    return None if node is None else node.data


async def test_a_folder_that_is_created_anew_with_the_same_names_is_read_again(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str
) -> None:
    folder = f"{base}/services/billing"
    await asyncio.to_thread(tool.create, f"{folder}/i-1", b"one", makepath=True)
    await until(lambda: _data(client) == b"one")

    def replace() -> None:
        with tool.transaction() as transaction:
            transaction.delete(f"{folder}/i-1")
            transaction.delete(folder)
            transaction.create(folder)
            transaction.create(f"{folder}/i-1", b"two")

    await asyncio.to_thread(replace)

    await until(lambda: _data(client) == b"two")


async def test_what_is_rewritten_in_place_is_seen_at_once_and_after_any_reconnection(
    zookeeper_server: ZooKeeperServer, tool: KazooClient, base: str
) -> None:
    path = f"{base}/services/billing/i-1"
    with LossyProxy(zookeeper_server.host, zookeeper_server.port) as proxy:
        async with connected_client(f"127.0.0.1:{proxy.port}", base, follows=True) as client:
            await asyncio.to_thread(tool.create, path, b"", makepath=True, ephemeral=True)
            for number in range(20):
                data = b"%d" % number
                await asyncio.to_thread(tool.set, path, data)
                await until(lambda data=data: _data(client) == data)  # type: ignore[misc]
                if number % 5 == 4:
                    proxy.cut()
                    await until(lambda: not client.is_current)
                    await until(lambda: client.is_current)


@pytest.mark.parametrize("first", ["service", "folder", "instance"])
async def test_a_service_whose_name_is_a_path_is_found_whatever_was_there_first(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str, first: str
) -> None:
    below = f"{base}/services/team"
    folder = f"{below}/orders/eu"
    await client.put(NodeSpec("team", "i-1", FencingToken(1, 1), b"ours"))
    made = {"service": below, "folder": folder, "instance": f"{folder}/i-1"}[first]
    if first != "instance":
        await asyncio.to_thread(tool.ensure_path, made)
        await client.refresh()
    await asyncio.to_thread(tool.create, f"{folder}/i-1", b"one", makepath=True, ephemeral=True)

    def node_data() -> dict[str, dict[str, bytes]]:
        return {
            name: {node: one.data for node, one in nodes.items()}
            for name, nodes in client.nodes.items()
        }

    ours = {"team": {"i-1": b"ours"}}
    await until(lambda: node_data() == {**ours, "team/orders/eu": {"i-1": b"one"}})
    await asyncio.to_thread(tool.set, f"{folder}/i-1", b"two")
    await until(lambda: node_data() == {**ours, "team/orders/eu": {"i-1": b"two"}})
    await asyncio.to_thread(tool.delete, f"{below}/orders", recursive=True)
    await until(lambda: node_data() == ours)
    await asyncio.to_thread(tool.create, f"{folder}/i-2", b"", makepath=True, ephemeral=True)
    await until(lambda: node_data() == {**ours, "team/orders/eu": {"i-2": b""}})


async def test_what_is_rewritten_in_place_is_seen_by_a_refresh(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str
) -> None:
    await asyncio.to_thread(tool.create, f"{base}/services/billing/i-1", b"one", makepath=True)
    await until(lambda: _data(client) == b"one")
    await asyncio.to_thread(tool.set, f"{base}/services/billing/i-1", b"two")

    await client.refresh()

    assert _data(client) == b"two"


async def test_a_fence_that_holds_something_else_is_written_over(
    client: ZooKeeperServiceRegistryClient, tool: KazooClient, base: str
) -> None:
    for data in (b"", b"x", b"1", b"1,", b"-1,2", "²,1".encode()):
        path = f"{base}/fences/billing/i-1"
        await asyncio.to_thread(tool.ensure_path, path)
        await asyncio.to_thread(tool.set, path, data)

        assert await client.fence(*BILLING) is None
        await client.put(WANTED)

        assert await client.fence(*BILLING) == FencingToken(1, 1)


async def test_a_change_is_told_to_others_at_once(
    zookeeper_server: ZooKeeperServer, base: str, client: ZooKeeperServiceRegistryClient
) -> None:
    async with connected_client(zookeeper_server.hosts, base) as other:
        taken = []
        for number in range(20):
            began = monotonic()
            await other.put(NodeSpec("billing", f"i-{number}", FencingToken(1, 1), b""))
            await until(
                lambda number=number: len(client.nodes.get("billing", {})) == number + 1  # type: ignore[misc]
            )
            taken.append(monotonic() - began)

    assert sorted(taken)[10] < 2  # and not with the next look at everything, a minute later


@pytest.mark.slow
async def test_thousands_of_nodes_are_put_again_and_seen(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    many = [NodeSpec(f"s-{n % 50}", f"i-{n}", FencingToken(1, 1), b"x" * 300) for n in range(5000)]
    patience = 4 * PATIENCE_SECONDS
    async with connected_client(zookeeper_server.hosts, base, seconds=60, follows=True) as client:
        async with connected_client(zookeeper_server.hosts, base, seconds=60) as other:
            began = monotonic()
            assert not await other.put_all(many)
            first = monotonic() - began
            again = [NodeSpec(one.service, one.name, FencingToken(1, 2), one.data) for one in many]
            began = monotonic()
            assert not await other.put_all(again)
            second = monotonic() - began
            await until(lambda: sum(map(len, client.nodes.values())) == 5000, patience)

        print(f"{first:.1f} s to put, {second:.1f} s to put again")  # noqa: T201
        assert second < 3 * first + PATIENCE_SECONDS
        await until(lambda: not client.nodes, patience)


async def test_the_largest_nodes_do_not_cost_the_connection_together(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    data = b"x" * (MAX_NODE_BYTES - 1)
    many = [NodeSpec("billing", f"i-{number}", FencingToken(1, 1), data) for number in range(120)]
    async with (
        connected_client(zookeeper_server.hosts, base, seconds=10, follows=True) as client,
        connected_client(zookeeper_server.hosts, base, seconds=10, follows=True) as other,
    ):
        before = client.session
        assert not await client.put_all(many)

        await until(lambda: len(other.nodes.get("billing", {})) == len(many))
        assert (client.session.id, client.session.state) == (before.id, "connected")
        assert client.session.seconds > before.seconds


async def test_one_does_not_wait_until_many_are_put(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    many = [
        NodeSpec("many", f"i-{number}", FencingToken(1, 1), b"one of many")
        for number in range(3000)
    ]
    async with connected_client(zookeeper_server.hosts, base, seconds=20, follows=True) as client:
        putting = asyncio.create_task(client.put_all(many))
        for number in range(3):
            await client.put(NodeSpec("billing", f"i-{number}", FencingToken(1, 1), b"one"))

        assert not putting.done()
        assert not await putting


async def test_one_that_cannot_be_put_does_not_keep_out_the_others(
    tool: KazooClient, base: str, client: ZooKeeperServiceRegistryClient
) -> None:
    forbidden = [make_acl("world", "anyone", read=True)]
    await asyncio.to_thread(tool.ensure_path, f"{base}/fences/billing")
    await asyncio.to_thread(tool.create, f"{base}/fences/billing/i-1", b"1,1", acl=forbidden)
    many = [NodeSpec("billing", f"i-{number}", FencingToken(1, 1), b"one") for number in range(10)]

    with pytest.raises(NodesUnavailable):
        await client.put_all(many)

    await until(lambda: len(client.nodes.get("billing", {})) == 9)


async def test_hosts_may_name_what_all_paths_lie_below(
    zookeeper_server: ZooKeeperServer, base: str, tool: KazooClient
) -> None:
    await asyncio.to_thread(tool.create, base)
    async with connected_client(f"{zookeeper_server.hosts}{base}", "", follows=True) as client:
        await client.put(WANTED)
        assert not await client.put_all([NodeSpec("billing", "i-2", FencingToken(2, 1), b"two")])

        await until(lambda: len(client.nodes.get("billing", {})) == 2)
        found = await asyncio.to_thread(tool.get_children, f"{base}/services/billing")
        assert sorted(found) == ["i-1", "i-2"]


async def test_many_put_the_first_nodes_of_a_service_at_once(
    zookeeper_server: ZooKeeperServer, base: str
) -> None:
    async with connected_client(zookeeper_server.hosts, base, seconds=20, follows=True) as client:
        for service in "abcde":  # a busy machine may not put them in time, but hardly each time
            many = [
                NodeSpec(service, f"i-{number}", FencingToken(1, 1), b"one")
                for number in range(2, 302)
            ]
            done = await asyncio.gather(*map(client.put, many), return_exceptions=True)
            if not any(done):
                break

        assert done == [None] * 300
        await until(lambda: len(client.nodes.get(service, {})) == len(many))


async def test_what_lies_above_is_made_again_when_somebody_has_removed_it(
    tool: KazooClient, base: str, client: ZooKeeperServiceRegistryClient
) -> None:
    await client.put(WANTED)
    await client.drop(*BILLING)
    await until(lambda: "billing" not in client.nodes)
    await asyncio.to_thread(tool.delete, f"{base}/services/billing")
    await asyncio.to_thread(tool.delete, f"{base}/fences/billing", recursive=True)

    await client.put(WANTED)
    late = await client.put_all([NodeSpec("billing", "i-2", FencingToken(1, 1), b"two")])

    assert not late
    await until(lambda: len(client.nodes.get("billing", {})) == 2)


@pytest.mark.parametrize("epoch", [1, 2])
async def test_what_was_not_seen_yet_is_found_all_the_same(
    zookeeper_server: ZooKeeperServer, base: str, epoch: int
) -> None:
    async with (
        connected_client(zookeeper_server.hosts, base, follows=True) as client,
        connected_client(zookeeper_server.hosts, base) as other,
    ):
        wanted = [
            NodeSpec("billing", f"i-{number}", FencingToken(epoch, 1), b"mine")
            for number in range(3)
        ]
        for one in wanted:
            await other.put(NodeSpec(one.service, one.name, FencingToken(epoch, 1), b"theirs"))
        await other.put(NodeSpec("billing", "i-2", FencingToken(epoch, 2), b"newer"))

        await client.put(wanted[0])  # what the other has put is perhaps not seen yet
        late = await client.put_all(wanted[1:])

        assert len(late) == 1
        found = [await client.node("billing", one.name) for one in wanted]
        assert [node.data for node in found if node is not None] == [b"mine", b"mine", b"newer"]
