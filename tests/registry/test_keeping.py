"""What a replica does for its instances and for those that lost their keeper, step by step."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.registry.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.errors import RegistryUnavailable
from app.registry.following import RowFollower
from app.registry.keeping import Keeper
from app.registry.port import Node, Wanted
from app.registry.rows import Beat, Row
from app.registry.view import View, tag_of
from pilothouse_core.curator import node_data, read_node
from pilothouse_core.instances import Tag, read_registration
from tests.registry.bench import SERVICE, Clock, Store, stored


class Replica:
    """One of several that share rows and nodes, with its own view and its own time."""

    def __init__(self, name: str, store: Store, nodes: EmbeddedNodes) -> None:
        self.clock = Clock()
        self.view = View()
        self.nodes = EmbeddedServiceRegistryClient(nodes)
        self.follower = RowFollower(store.rows, self.view)
        self.keeper = Keeper(store.rows, self.nodes, self.view, name, self.clock)

    async def sweep(self, *, after: float = 0.0) -> None:
        self.clock.now += after
        await self.keeper.sweep()

    async def judge(self, *, after: float = 1.0) -> None:
        self.clock.now += after
        await self.keeper.judge()

    async def stay(self, seconds: float) -> None:
        """Look at the rows as often as a replica does, for so long."""
        for _ in range(int(seconds)):
            await self.judge()

    def statuses(self) -> dict[str, str]:
        return {seen.id: seen.status for seen in self.view.service(SERVICE).seen}


@dataclass
class Bench:
    store: Store
    nodes: EmbeddedNodes = field(default_factory=EmbeddedNodes)

    def __post_init__(self) -> None:
        self.here = Replica("here", self.store, self.nodes)
        self.there = Replica("there", self.store, self.nodes)

    async def register(self, at: Replica, id_: str, ttl_seconds: int = 30) -> Row:
        owner = "here" if at is self.here else "there"
        row = await self.store.register(id_, owner, ttl_seconds=ttl_seconds)
        at.view.learn([row])
        await at.keeper.place(row)
        await self.follow()
        return row

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

    def tag(self, id_: str) -> Tag | None:
        node = self.nodes.node(SERVICE, id_)
        return None if node is None else read_node(SERVICE, id_, node.data).tag


@asynccontextmanager
async def benched(folder: Path) -> AsyncIterator[Bench]:
    async with stored(folder) as store:
        yield Bench(store)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with benched(tmp_path) as made:
        yield made


# Nodes as they are seen


async def test_a_node_that_is_none_hides_no_other_and_is_told_once(bench: Bench) -> None:
    with capture_logs() as logs:
        bench.nodes.place(Node(SERVICE, "garbage", b"{", 0))
        for number in range(5):
            await bench.register(bench.here, f"i-{number}")

    assert list(bench.here.statuses()) == [f"i-{number}" for number in range(5)]
    told = [line for line in logs if line["event"] == "node_unreadable"]
    assert [line["node"] for line in told] == ["garbage"] * 2  # of both replicas


async def test_a_node_is_read_again_only_where_it_has_changed(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    first = bench.here.view.node(SERVICE, "i-1")

    await bench.register(bench.here, "i-2")
    assert bench.here.view.node(SERVICE, "i-1") is first
    await bench.store.rows.judge({row.tag: "down"})
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
    assert bench.tag("i-0") == Tag(1, 1)
    assert set(bench.there.statuses().values()) == {"up"}


async def test_a_node_of_a_dead_session_is_replaced(bench: Bench) -> None:
    row = await bench.register(bench.here, "i-1")
    node = bench.nodes.node(SERVICE, "i-1")
    assert node is not None
    bench.nodes.place(Node(SERVICE, "i-1", node.data, bench.nodes.new_session()))
    assert bench.owners() == {"i-1": "nobody"}

    await bench.here.sweep()

    assert bench.owners() == {"i-1": "here"}
    assert bench.tag("i-1") == tag_of(row)


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
    assert bench.tag("i-1") == Tag(row.epoch, row.term + 1)
    assert bench.here.statuses() == {"i-1": "up"}


async def test_what_was_claimed_just_now_is_left_to_who_claimed_it(bench: Bench) -> None:
    await bench.register(bench.there, "i-1")
    bench.nodes.delete(SERVICE, "i-1")  # its keeper registered it a moment ago, and is alive

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
    (claimed,) = await bench.store.rows.claim([row.tag], "here", 1.0)  # its node is still there
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
    data = node_data(instance, Tag(1, 1), 0)
    await bench.here.nodes.put(Wanted(SERVICE, "i-1", Tag(1, 1), data))

    await bench.here.sweep()

    assert bench.owners() == {}


async def test_who_is_late_is_superseded_and_changes_nothing(bench: Bench) -> None:
    old = await bench.register(bench.here, "i-1")
    await bench.register(bench.there, "i-1")

    await bench.here.keeper.place(old)
    await bench.here.keeper.remove(old)

    assert bench.owners() == {"i-1": "there"}
    assert bench.tag("i-1") == Tag(2, 1)


async def test_a_row_that_cannot_be_read_leaves_the_sweep_to_others(bench: Bench) -> None:
    await bench.register(bench.here, "i-1")
    await bench.store.register("i-0", colour="red")  # by a newer release, perhaps
    await bench.follow()
    bench.here.nodes.lose_session()

    await bench.here.sweep()

    assert bench.owners() == {"i-1": "here"}


async def test_while_the_rows_are_away_nothing_is_swept(bench: Bench) -> None:
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


async def test_who_was_away_itself_evicts_nobody_at_once(bench: Bench) -> None:
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
    await bench.store.rows.beat([Beat(SERVICE, "i-1")])
    await bench.here.judge()

    assert list(spared) == ["i-1"]
    assert list(bench.here.statuses()) == ["i-1"]


async def test_where_many_fall_silent_at_once_nobody_is_evicted_until_they_return(
    bench: Bench,
) -> None:
    for number in range(6):
        await bench.register(bench.here, f"i-{number}", ttl_seconds=5)
    await bench.here.stay(6)
    await bench.store.age(20, *[f"i-{number}" for number in range(5)])

    await bench.here.stay(3)
    held = bench.here.view.protection
    kept = list(bench.here.statuses())
    await bench.store.rows.beat([Beat(SERVICE, f"i-{number}") for number in range(1, 5)])
    await bench.here.judge()

    assert held.covers(SERVICE)
    assert held.everywhere
    assert kept == [f"i-{number}" for number in range(6)]
    assert not bench.here.view.protection.covers(SERVICE)
    assert list(bench.here.statuses()) == [f"i-{number}" for number in range(1, 6)]


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
    await bench.here.keeper.remove(over)
    await bench.here.keeper.reap()
    assert await bench.here.nodes.fence(SERVICE, "i-1") is not None
    await bench.store.age(24 * 3600 + 1)

    await bench.here.keeper.reap()

    assert await bench.here.nodes.fence(SERVICE, "i-1") is None
    assert await bench.here.nodes.fence(SERVICE, "i-2") == tag_of(kept)
    assert bench.here.view.row(*row.key) is None
    assert (await bench.register(bench.here, "i-1")).epoch > row.epoch


async def test_what_another_replica_has_reaped_is_let_go(bench: Bench) -> None:
    over = await bench.register(bench.here, "i-1")
    again = await bench.register(bench.here, "i-2")
    await bench.register(bench.here, "i-3")
    for row in (over, again):
        await bench.store.rows.deregister(*row.key, None, "ada", "request-2")
    await bench.follow()
    await bench.there.keeper.let_go()
    kept = [row.instance_id for row in bench.there.view.rows()]
    await bench.store.age(24 * 3600 + 1)
    await bench.here.keeper.reap()
    bench.there.view.learn([await bench.store.register("i-2")])

    await bench.there.keeper.let_go()

    assert kept == ["i-1", "i-2", "i-3"]
    assert [row.instance_id for row in bench.there.view.rows()] == ["i-2", "i-3"]
