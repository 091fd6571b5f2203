"""What a replica does for its instances and for those that lost their reconciler, step by step."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.registry.errors import RegistryUnavailable
from app.registry.eviction import InstanceEvictor
from app.registry.model import Heartbeat, InstanceRow
from app.registry.nodes.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.nodes.port import Node, NodeSpec
from app.registry.reconciler import NodeReconciler
from app.registry.row_follower import RowFollower
from app.registry.self_preservation import Protection
from app.registry.view import RegistryView, fencing_token
from pilothouse_core.curator import node_data, read_node
from pilothouse_core.instances import FencingToken, read_registration
from tests.registry.bench import SERVICE, Clock, Store, embedded_store

NAMES = [f"i-{number:02}" for number in range(30)]
STEP = 2.5  # seconds: a replica that looks less often takes itself for frozen


class Replica:
    """One of several that share rows and nodes, with its own view and its own time."""

    def __init__(self, name: str, store: Store, nodes: EmbeddedNodes) -> None:
        self.clock = Clock()
        self.view = RegistryView()
        self.nodes = EmbeddedServiceRegistryClient(nodes)
        self.follower = RowFollower(store.rows, self.view)
        self.reconciler = NodeReconciler(store.rows, self.nodes, self.view, name, self.clock)
        self.evictor = InstanceEvictor(
            store.rows, self.nodes, self.view, self.reconciler.remove_node, self.clock
        )

    async def sweep(self, *, after: float = 0.0) -> None:
        self.clock.now += after
        await self.reconciler.reconcile()

    async def judge(self, *, after: float = 1.0) -> None:
        self.clock.now += after
        await self.evictor.evict_silent()

    async def stay(self, seconds: float) -> None:
        """Look at the rows as often as a replica does, for so long."""
        for _ in range(int(seconds)):
            await self.judge()

    def statuses(self) -> dict[str, str]:
        return {seen.id: seen.status for seen in self.view.service(SERVICE).instances}


@dataclass
class Bench:
    store: Store
    nodes: EmbeddedNodes = field(default_factory=EmbeddedNodes)

    def __post_init__(self) -> None:
        self.here = Replica("here", self.store, self.nodes)
        self.there = Replica("there", self.store, self.nodes)

    async def register(self, at: Replica, id_: str, ttl_seconds: int = 30) -> InstanceRow:
        owner = "here" if at is self.here else "there"
        row = await self.store.register(id_, owner, ttl_seconds=ttl_seconds)
        at.view.learn([row])
        await at.reconciler.put_node(row)
        await self.follow()
        return row

    async def many(self, number: int) -> None:
        """Register instances that have been there for long, and are heard just now."""
        for name in NAMES[:number]:
            await self.register(self.here, name, ttl_seconds=30)
        await self.store.age(3600)
        await self.hear(NAMES[:number])

    async def hear(self, names: list[str]) -> None:
        await self.store.rows.record_heartbeats([Heartbeat(SERVICE, name) for name in names])

    async def live(self, seconds: float, *, silent: list[str], heard: list[str]) -> None:
        """Let time pass in which only some are heard, and by this replica."""
        for _ in range(int(seconds / STEP)):
            if silent:
                await self.store.age(STEP, *silent)
            if heard:
                await self.hear(heard)
                self.here.evictor.heartbeat_history.record()
            await self.here.judge(after=STEP)

    async def follow(self) -> None:
        for replica in (self.here, self.there):
            await replica.follower.refresh()

    def owners(self) -> dict[str, str]:
        """Return by whose session each node is kept, and of which tag it is."""
        sessions = {self.here.nodes.session.id: "here", self.there.nodes.session.id: "there"}
        return {
            name: sessions.get(node.session, "nobody")
            for name, node in self.nodes.nodes.get(SERVICE, {}).items()
        }

    def tag(self, id_: str) -> FencingToken | None:
        node = self.nodes.node(SERVICE, id_)
        return None if node is None else read_node(SERVICE, id_, node.data).tag


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    async with embedded_store(folder) as store:
        yield Bench(store)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as made:
        yield made


# Nodes as they are seen


async def test_a_node_that_is_none_hides_no_other_and_is_told_once(bench: Bench) -> None:
    with capture_logs() as logs:
        bench.nodes.place(Node(SERVICE, "garbage", b"{", 0))
        for number in range(5):
            await bench.register(bench.here, f"i-{number}")

    assert list(bench.here.statuses()) == [f"i-{number}" for number in range(5)]
    events = [line for line in logs if line["event"] == "node_unreadable"]
    assert [line["node"] for line in events] == ["garbage"] * 2  # of both replicas


async def test_a_node_is_read_again_only_where_it_has_changed(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    first = bench.here.view.node(SERVICE, "i-1")

    await bench.register(bench.here, "i-2")
    assert bench.here.view.node(SERVICE, "i-1") is first
    await bench.store.rows.set_health({row.token: "down"})
    await bench.follow()
    await bench.here.sweep()

    changed = bench.here.view.node(SERVICE, "i-1")
    assert changed is not None
    assert changed.status == "down"
    bench.nodes.delete(SERVICE, "i-1")
    assert bench.here.view.node(SERVICE, "i-1") is None


# The sweep


async def test_nodes_that_went_with_a_session_are_put_again(bench: Bench) -> None:
    for number in range(3):
        await bench.register(bench.here, f"i-{number}")
    bench.here.nodes.lose_session()
    assert bench.owners() == {}
    assert set(bench.there.statuses().values()) == {"suspect"}

    await bench.here.sweep()

    assert bench.owners() == {f"i-{number}": "here" for number in range(3)}
    assert bench.tag("i-0") == FencingToken(1, 1)
    assert set(bench.there.statuses().values()) == {"up"}


async def test_a_node_of_a_dead_session_is_replaced(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    node = bench.nodes.node(SERVICE, "i-1")
    assert node is not None
    bench.nodes.place(Node(SERVICE, "i-1", node.data, bench.nodes.new_session()))
    assert bench.owners() == {"i-1": "nobody"}

    await bench.here.sweep()

    assert bench.owners() == {"i-1": "here"}
    assert bench.tag("i-1") == fencing_token(row)


async def test_an_instance_that_lost_its_keeper_is_adopted_after_it_has_settled(
    bench: Bench,
) -> None:
    row = await bench.register(bench.there, "i-1")
    await bench.there.nodes.close()
    await bench.store.age(2)

    await bench.here.sweep()
    await bench.here.sweep(after=0.9)
    early = bench.owners()
    seen = bench.here.statuses()
    await bench.here.sweep(after=0.2)

    assert (early, seen) == ({}, {"i-1": "suspect"})
    assert bench.owners() == {"i-1": "here"}
    assert bench.tag("i-1") == FencingToken(row.epoch, row.term + 1)
    assert bench.here.statuses() == {"i-1": "up"}


async def test_what_was_claimed_just_now_is_left_to_who_claimed_it(bench: Bench) -> None:
    await bench.register(bench.there, "i-1")
    bench.nodes.delete(SERVICE, "i-1")  # its reconciler registered it a moment ago, and is alive

    await bench.here.sweep()
    await bench.here.sweep(after=5)
    assert bench.owners() == {}
    await bench.there.sweep(after=1)

    assert bench.owners() == {"i-1": "there"}


async def test_a_node_that_returns_in_time_is_not_adopted(bench: Bench) -> None:
    await bench.register(bench.there, "i-1")
    await bench.store.age(5)
    bench.there.nodes.lose_session()
    await bench.here.sweep()
    await bench.there.sweep()
    await bench.here.sweep(after=5)
    bench.there.nodes.lose_session()

    await bench.here.sweep(after=0.5)

    assert bench.owners() == {}
    await bench.here.sweep(after=1.1)
    assert bench.owners() == {"i-1": "here"}


async def test_who_comes_back_drops_what_others_have_adopted(bench: Bench) -> None:
    row = await bench.register(bench.there, "i-1")
    await bench.store.age(5)
    (claimed,) = await bench.store.rows.claim([row.token], "here", 1.0)  # its node is still there
    bench.here.view.learn([claimed])

    await bench.there.sweep()  # has not heard of it: a claim is in no log
    assert bench.owners() == {"i-1": "there"}
    bench.there.view.learn([claimed])
    await bench.there.sweep()
    assert bench.owners() == {}
    await bench.here.sweep()
    await bench.there.sweep(after=5)

    assert bench.owners() == {"i-1": "here"}


async def test_a_node_whose_row_is_over_is_dropped(bench: Bench) -> None:
    row = await bench.register(bench.there, "i-1")
    await bench.store.rows.deregister(*row.key, None, "ada", "request-2")
    await bench.follow()
    assert bench.there.statuses() == {}

    await bench.here.sweep(after=5)
    assert bench.owners() == {"i-1": "there"}  # not ours to drop
    await bench.there.sweep()

    assert bench.owners() == {}


async def test_a_node_of_ours_without_any_row_is_dropped(bench: Bench) -> None:
    instance = read_registration({"service_name": SERVICE, "service_url": "http://a"})
    data = node_data(instance, FencingToken(1, 1), 0)
    await bench.here.nodes.put(NodeSpec(SERVICE, "i-1", FencingToken(1, 1), data))

    await bench.here.sweep()

    assert bench.owners() == {}


async def test_who_is_late_is_superseded_and_changes_nothing(bench: Bench) -> None:
    old = await bench.register(bench.here, "i-1")
    await bench.register(bench.there, "i-1")

    await bench.here.reconciler.put_node(old)
    await bench.here.reconciler.remove_node(old)

    assert bench.owners() == {"i-1": "there"}
    assert bench.tag("i-1") == FencingToken(2, 1)


async def test_a_row_that_cannot_be_read_leaves_the_sweep_to_others(bench: Bench) -> None:
    await bench.register(bench.here, "i-1")
    await bench.store.register("i-0", colour="red")  # by a newer release, perhaps
    await bench.follow()
    bench.here.nodes.lose_session()

    await bench.here.sweep()

    assert bench.owners() == {"i-1": "here"}


async def test_while_the_rows_are_unavailable_nothing_is_swept(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    bench.here.view.learn([await bench.store.rows.deregister(*row.key, None, "ada", "r")])
    await bench.store.fail()

    with pytest.raises(RegistryUnavailable):
        await bench.here.sweep()

    assert bench.owners() == {"i-1": "here"}


# Eviction


async def test_who_is_silent_is_suspected_and_then_evicted_with_its_node(bench: Bench) -> None:
    await bench.register(bench.there, "silent", ttl_seconds=5)
    await bench.register(bench.there, "well", ttl_seconds=5)
    await bench.here.stay(6)

    await bench.store.age(6, "silent")
    await bench.here.judge()
    await bench.follow()
    suspected = bench.here.statuses()
    await bench.store.age(5, "silent")
    await bench.here.judge()

    assert suspected == {"silent": "suspect", "well": "up"}
    assert bench.here.statuses() == {"well": "up"}
    assert bench.owners() == {"well": "there"}


async def test_who_was_unavailable_itself_evicts_nobody_at_once(bench: Bench) -> None:
    await bench.register(bench.here, "i-1", ttl_seconds=5)
    await bench.here.stay(10)
    await bench.store.age(100)

    await bench.here.judge(after=3.1)
    await bench.here.stay(5)
    spared = bench.here.statuses()
    await bench.here.judge()

    assert list(spared) == ["i-1"]
    assert bench.here.statuses() == {}


async def test_a_replica_that_has_just_begun_evicts_nobody(bench: Bench) -> None:
    await bench.register(bench.here, "i-1", ttl_seconds=5)
    await bench.store.age(100)

    await bench.here.stay(5)

    assert list(bench.here.statuses()) == ["i-1"]


async def test_after_an_outage_of_the_rows_all_get_the_time_to_be_heard(bench: Bench) -> None:
    await bench.register(bench.here, "i-1", ttl_seconds=1)
    await bench.here.stay(10)
    await bench.store.age(2)
    await bench.store.fail()
    with pytest.raises(RegistryUnavailable):
        await bench.here.judge()
    await bench.store.heal()

    await bench.here.judge(after=0.5)  # its heartbeat of just now is not noted yet
    spared = bench.here.statuses()
    await bench.store.rows.record_heartbeats([Heartbeat(SERVICE, "i-1")])
    await bench.here.judge()

    assert list(spared) == ["i-1"]
    assert list(bench.here.statuses()) == ["i-1"]


async def test_where_many_fall_silent_at_once_nobody_is_evicted_until_they_had_time_to_return(
    bench: Bench,
) -> None:
    await bench.many(6)
    await bench.here.stay(31)
    await bench.store.age(80, *NAMES[:5])

    await bench.here.stay(3)
    held = bench.here.view.protection
    kept = list(bench.here.statuses())
    await bench.hear(NAMES[1:5])
    await bench.here.stay(30)
    has_returned = bench.here.view.protection
    not_yet = list(bench.here.statuses())
    await bench.here.judge()

    assert held == Protection(frozenset({SERVICE}))
    assert held.silent == 5
    assert kept == not_yet == NAMES[:6]
    assert has_returned == Protection()
    assert list(bench.here.statuses()) == NAMES[1:6]


async def test_those_that_were_replaced_are_evicted_after_two_ttl(bench: Bench) -> None:
    await bench.many(20)
    await bench.here.stay(31)
    await bench.store.age(45, *NAMES[:6])
    for name in NAMES[20:26]:
        await bench.register(bench.here, name)
    await bench.here.judge()
    suspected = set(bench.here.view.protection.services)
    await bench.store.age(20, *NAMES[:6])

    await bench.here.judge()

    assert suspected == set()
    assert list(bench.here.statuses()) == NAMES[6:26]


async def test_the_protection_of_the_dead_ends_after_ten_ttl(bench: Bench) -> None:
    await bench.many(10)
    await bench.live(280, silent=NAMES[:5], heard=NAMES[5:10])
    kept = list(bench.here.statuses())
    is_protected = bench.here.view.protection.covers(SERVICE)

    await bench.live(25, silent=NAMES[:5], heard=NAMES[5:10])

    assert is_protected
    assert kept == NAMES[:10]
    assert list(bench.here.statuses()) == NAMES[5:10]
    await bench.here.judge()
    assert bench.here.view.protection == Protection()


async def test_who_hears_nobody_keeps_everybody_however_long_it_lasts(bench: Bench) -> None:
    await bench.many(10)
    await bench.live(60, silent=[], heard=NAMES[:10])

    await bench.live(900, silent=NAMES[:10], heard=[])

    assert list(bench.here.view.service(SERVICE).by_id) == NAMES[:10]
    assert bench.here.view.protection == Protection(frozenset({SERVICE}))
    assert bench.here.view.protection.silent == 10


async def test_who_hears_somebody_again_gives_the_others_ten_ttl_to_return(bench: Bench) -> None:
    await bench.many(10)
    await bench.live(400, silent=NAMES[:10], heard=[])

    await bench.live(280, silent=NAMES[1:10], heard=NAMES[:1])
    kept = list(bench.here.statuses())
    await bench.live(40, silent=NAMES[1:10], heard=NAMES[:1])

    assert kept == NAMES[:10]
    assert list(bench.here.statuses()) == NAMES[:1]


async def test_what_another_replica_hears_is_not_heard_here(bench: Bench) -> None:
    await bench.many(10)

    for _ in range(200):
        await bench.store.age(STEP, *NAMES[:5])
        await bench.hear(NAMES[5:10])
        await bench.here.judge(after=STEP)

    assert list(bench.here.statuses()) == NAMES[:10]


async def test_those_that_are_released_are_evicted_at_once_and_no_others(bench: Bench) -> None:
    await bench.many(10)
    await bench.here.stay(31)
    await bench.store.age(70, *NAMES[:5])
    await bench.here.stay(3)
    await bench.store.rows.release(SERVICE, "ada", "request-2")

    await bench.here.judge()

    assert list(bench.here.statuses()) == NAMES[5:10]
    await bench.here.judge()
    assert bench.here.view.protection == Protection()
    await bench.store.age(70, *NAMES[5:10])
    await bench.here.judge()
    assert bench.here.view.protection.silent == 5  # the next ones are protected again


async def test_who_was_unavailable_itself_evicts_no_released_ones_at_once(
    bench: Bench,
) -> None:
    await bench.many(10)
    await bench.here.stay(31)
    await bench.store.age(70)
    await bench.store.rows.release(None, "ada", "request-2")

    await bench.here.judge(after=60)

    assert list(bench.here.view.service(SERVICE).by_id) == NAMES[:10]


async def test_who_has_drained_is_removed_after_the_grace(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    bench.here.view.learn([await bench.store.rows.drain(*row.key, None, 5.0, "ada", "request-2")])
    await bench.here.sweep()
    assert bench.owners() == {}  # its node is gone at once
    await bench.here.judge()
    assert bench.here.statuses() == {"i-1": "draining"}

    await bench.store.age(6)
    await bench.here.judge()

    assert bench.here.statuses() == {}
    ended = await bench.store.rows.row(*row.key)
    assert ended is not None
    assert ended.state == "deregistered"


async def test_what_has_been_gone_for_a_day_is_forgotten_with_its_fence(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    kept = await bench.register(bench.here, "i-2")
    over = await bench.store.rows.deregister(*row.key, None, "ada", "request-2")
    bench.here.view.learn([over])
    await bench.here.reconciler.remove_node(over)
    await bench.here.evictor.reap()
    assert await bench.here.nodes.fence(SERVICE, "i-1") is not None
    await bench.store.age(24 * 3600 + 1)

    await bench.here.evictor.reap()

    assert await bench.here.nodes.fence(SERVICE, "i-1") is None
    assert await bench.here.nodes.fence(SERVICE, "i-2") == fencing_token(kept)
    assert bench.here.view.row(*row.key) is None
    assert (await bench.register(bench.here, "i-1")).epoch > row.epoch


async def test_what_another_replica_has_reaped_is_let_go(bench: Bench) -> None:
    over = await bench.register(bench.here, "i-1")
    again = await bench.register(bench.here, "i-2")
    await bench.register(bench.here, "i-3")
    for row in (over, again):
        await bench.store.rows.deregister(*row.key, None, "ada", "request-2")
    await bench.follow()
    await bench.there.evictor.forget_reaped()
    kept = [row.instance_id for row in bench.there.view.rows()]
    await bench.store.age(24 * 3600 + 1)
    await bench.here.evictor.reap()
    bench.there.view.learn([await bench.store.register("i-2")])

    await bench.there.evictor.forget_reaped()

    assert kept == ["i-1", "i-2", "i-3"]
    assert [row.instance_id for row in bench.there.view.rows()] == ["i-2", "i-3"]
