"""What a replica does for the instances whose nodes it keeps, and for those that lost their keeper.

The steps and their order are those of docs/protocols.md, part C.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import inf
from time import monotonic
from typing import Final, NamedTuple

import structlog

from app.registry.errors import NodesUnavailable, RegistryUnavailable, Superseded
from app.registry.port import Node, ServiceRegistryClient, Wanted
from app.registry.protection import protection
from app.registry.rows import InstanceRows, Key, Row
from app.registry.rows import Tag as RowTag
from app.registry.view import View, tag_of
from app.telemetry import INSTANCES_ADOPTED, INSTANCES_EVICTED
from pilothouse_core.curator import Found, UnreadableNode, node_data, read_node
from pilothouse_core.instances import Tag

SWEEP_SECONDS = 0.5
SETTLE_SECONDS = 1.0  # that a node is missing, and its row unclaimed, before it is adopted
EVICT_SECONDS = 1.0
SEEN_SECONDS = 0.5  # that what was put may take until it is seen; others wait longer to adopt
_AT_ONCE = 5000  # rows that one sweep reads
REAP_SECONDS = 24 * 3600.0
FORGET_SECONDS = 600.0
_GAP_SECONDS = 3.0  # without a look at the rows: this replica was frozen, or cut off
_log = structlog.get_logger(__name__)


class _Read(NamedTuple):
    """The nodes of a service and the instances in them: what has not changed is not read again."""

    nodes: Mapping[str, Node]
    found: Mapping[str, Found]


_NOTHING: Final = _Read({}, {})
_Put = tuple[RowTag, str, int]  # with the status that it tells, and the session


class Keeper:
    def __init__(
        self,
        rows: InstanceRows,
        nodes: ServiceRegistryClient,
        view: View,
        replica: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._rows = rows
        self._nodes = nodes
        self._view = view
        self._replica = replica
        self._missing: dict[Key, float] = {}  # registered elsewhere, without a node since
        # Put by us, or about to be, and perhaps not seen yet: until when it is left alone.
        self._settling: dict[Key, tuple[_Put, float]] = {}
        self._due = asyncio.Event()
        self._clock = clock
        self._steady_since = self._looked_at = clock()
        self._read: dict[str, _Read] = {}
        nodes.listen(self._seen)

    def _seen(self, service: str) -> None:
        """Take over what stands in ZooKeeper for a service."""
        before, known = self._read.pop(service, _NOTHING)
        nodes = self._nodes.nodes.get(service, {})
        # With thousands of nodes, one of which has changed, the others must cost next to nothing.
        found = {name: one for name, one in known.items() if name in nodes}
        for node in [node for name, node in nodes.items() if before.get(name) is not node]:
            self._take(node, before.get(node.name), found)
        if nodes:
            self._read[service] = _Read(nodes, found)
        self._view.found(service, found)
        self._due.set()

    def _take(self, node: Node, before: Node | None, found: dict[str, Found]) -> None:
        if node.session == self._nodes.session.id:
            self._settling.pop((node.service, node.name), None)
        if before is not None and before.data == node.data:
            return
        one = _read(node)
        if one is None:
            found.pop(node.name, None)
        else:
            found[node.name] = one

    async def place(self, row: Row) -> None:
        """Put the node of a row of ours; raises NodesUnavailable, and the sweep goes on trying."""
        try:
            with self._putting([row]):
                await self._nodes.put(self._wanted(row))
        except Superseded:
            self._due.set()

    @contextmanager
    def _putting(self, rows: Sequence[Row]) -> Iterator[None]:
        self._settling |= {row.key: (self._put_of(row), inf) for row in rows}
        until = 0.0
        try:
            yield
            until = self._clock() + SEEN_SECONDS
        finally:
            for row in rows:
                if row.key in self._settling:  # and has not been seen yet
                    self._settling[row.key] = self._put_of(row), until

    def _put_of(self, row: Row) -> "_Put":
        return row.tag, _told(row), self._nodes.session.id

    def _is_on_its_way(self, row: Row) -> bool:
        put, until = self._settling.get(row.key, (None, 0.0))
        return until > self._clock() and put == self._put_of(row)

    async def remove(self, row: Row) -> None:
        """Take away the node of a row that is not registered any more; raises NodesUnavailable."""
        try:
            await self._nodes.remove(row.service, row.instance_id, tag_of(row))
        except Superseded:
            self._due.set()

    def _wanted(self, row: Row) -> Wanted:
        instance = self._view.instance(row)
        assert instance is not None
        registered_at = int(row.registered_at.timestamp() * 1000)
        data = node_data(instance, tag_of(row), registered_at, _told(row))
        return Wanted(row.service, row.instance_id, tag_of(row), data)

    # The sweep

    async def keep(self) -> None:
        """Sweep for ever; raises RegistryUnavailable and NodesUnavailable, to be called again."""
        while True:
            self._due.clear()
            await self.sweep()
            try:
                async with asyncio.timeout(SWEEP_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311
                    await self._due.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(SWEEP_SECONDS / 10)  # what moves together is swept together

    async def sweep(self) -> None:
        """Bring the nodes of our session in line with the rows, as the rows are now."""
        if self._nodes.session.state != "connected" or not self._nodes.is_current:
            self._missing.clear()
            return
        doubtful = self._doubtful()
        if not doubtful:
            return
        current = await self._rows.current(doubtful)
        self._view.learn(current.values())
        own = self._nodes.session.id
        ours, lost = [], []
        for key in doubtful:
            row, node = current.get(key), self._node(key)
            is_registered = row is not None and is_wanted(row)
            if row is not None and is_registered and row.owner == self._replica:
                if not self._is_right(row, node, own):
                    ours.append(row)
            elif node is not None and node.session == own:
                await self._nodes.drop(*key)
            elif row is not None and is_registered and node is None:
                lost.append(row)
        await self._put(ours)
        await self._adopt(lost)

    def _doubtful(self) -> list[Key]:
        """Return what may have to be done, by what is known here; the rows are read before it is.

        Whatever another replica keeps and has put in place costs nothing.
        """
        # Asked once: with thousands of rows, and a sweep after each change, it is what they cost.
        own, everywhere, now = self._nodes.session.id, self._nodes.nodes, self._clock()
        self._settling = {key: of for key, of in self._settling.items() if of[1] > now}
        doubtful: set[Key] = set()
        missing: dict[Key, float] = {}
        for row in self._view.rows():
            node = everywhere.get(row.service, {}).get(row.instance_id)
            if not is_wanted(row):
                if node is not None and node.session == own:
                    doubtful.add(row.key)
            elif row.owner == self._replica:
                on_its_way = node is None and self._is_on_its_way(row)
                if not on_its_way and not self._is_right(row, node, own):
                    doubtful.add(row.key)
            elif node is None:
                missing[row.key] = since = self._missing.get(row.key, now)
                if now - since >= SETTLE_SECONDS:
                    doubtful.add(row.key)
            elif node.session == own:
                doubtful.add(row.key)
        self._missing = missing
        for service, nodes in everywhere.items():
            doubtful |= {
                (service, name)
                for name, node in nodes.items()
                if node.session == own and self._view.row(service, name) is None
            }
        return sorted(doubtful)[:_AT_ONCE]

    def _node(self, key: Key) -> Node | None:
        return self._nodes.nodes.get(key[0], {}).get(key[1])

    def _is_right(self, row: Row, node: Node | None, own: int) -> bool:
        """Tell whether a node is of our `own` session, and says what it has to say."""
        if node is None or node.session != own:
            return False
        found = self._view.node(row.service, row.instance_id)
        return (
            found is not None and found.tag == (row.epoch, row.term) and found.status == _told(row)
        )

    async def _put(self, rows: Sequence[Row]) -> None:
        if rows:
            readable = [row for row in rows if self._view.instance(row) is not None]
            with self._putting(readable):
                # Written as they are put: five thousand at once would hold up everybody.
                await self._nodes.put_all(map(self._wanted, readable))

    async def _adopt(self, rows: Sequence[Row]) -> None:
        """Claim what nobody keeps: the rows were read, and then their nodes are seen absent."""
        if not rows:
            return
        await self._nodes.refresh()
        absent = [row.tag for row in rows if self._node(row.key) is None]
        if not self._nodes.is_current or not absent:
            return
        claimed = await self._rows.claim(absent, self._replica, SETTLE_SECONDS)
        self._view.learn(claimed)
        if claimed:
            INSTANCES_ADOPTED.inc(len(claimed))
            _log.warning("instances_adopted", instances=len(claimed))
        await self._put(claimed)

    # Eviction

    async def evict(self) -> None:
        """Suspect, evict and end drains for ever; raises RegistryUnavailable."""
        while True:
            await self.judge()
            await asyncio.sleep(EVICT_SECONDS)

    async def judge(self) -> None:
        try:
            found = await self._rows.overdue()
        except RegistryUnavailable:
            self._steady_since = self._clock()  # what was heard meanwhile is not noted yet
            raise
        self._stay_steady()
        self._view.protect(protection(found.counts))
        steady = self._clock() - self._steady_since
        due = [
            row.tag
            for row in found.due
            # Who was away itself has heard nobody: all get the time to be heard first.
            if steady > row.ttl_seconds and not self._view.protection.covers(row.service)
        ]
        evicted = await self._rows.evict(due) if due else []
        if evicted:
            INSTANCES_EVICTED.inc(len(evicted))
            _log.warning("instances_evicted", instances=len(evicted))
        await self._gone([*evicted, *await self._rows.drained()])

    def _stay_steady(self) -> None:
        now = self._clock()
        # Without ZooKeeper nobody is evicted: what is known here is old, and may be so everywhere.
        if now - self._looked_at > _GAP_SECONDS or not self._nodes.is_current:
            self._steady_since = now
        self._looked_at = now

    async def _gone(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        self._view.learn(rows)
        for row in rows:
            try:
                await self.remove(row)
            except NodesUnavailable:
                break  # hidden already; its keeper sweeps it away

    async def reap(self) -> None:
        """Forget what has been gone for a day, with its fence."""
        for tag in await self._rows.reap(REAP_SECONDS):
            self._forget(tag)
            await self._nodes.reap(tag.service, tag.instance_id, Tag(tag.epoch, tag.term))

    async def forget(self) -> None:
        """Forget for ever what other replicas have reaped; raises RegistryUnavailable."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            await self.let_go()

    async def let_go(self) -> None:
        ended = [row for row in self._view.rows() if row.state != "registered"]
        for start in range(0, len(ended), _AT_ONCE):
            asked = ended[start : start + _AT_ONCE]
            current = await self._rows.current([row.key for row in asked])
            for row in asked:
                if row.key not in current:
                    self._forget(row.tag)

    def _forget(self, tag: RowTag) -> None:
        row = self._view.row(tag.service, tag.instance_id)
        if row is not None and row.tag == tag:  # it may be registered again by now
            self._view.forget(tag.service, tag.instance_id)


# What a lost session took away comes back as it was, all at once.
_found = lru_cache(2 * _AT_ONCE)(read_node)


def _read(node: Node) -> Found | None:
    """Return the instance in a node, None if there is none."""
    try:
        return _found(node.service, node.name, node.data)
    except UnreadableNode as error:
        _log.warning("node_unreadable", service=node.service, node=node.name, reason=str(error))
        return None


def is_wanted(row: Row) -> bool:
    """Tell whether an instance has to have a node; others than us find those that drain no more."""
    return row.state == "registered" and row.draining_until is None


def _told(row: Row) -> str:
    """Return the status for those who read nodes; suspicion is for who compares them with rows."""
    return "up" if row.health == "suspect" else row.health
