"""Reconciles the nodes of a replica with the desired state.

The steps and their order are those of docs/protocols.md, part C.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import inf
from time import monotonic
from typing import Final, NamedTuple

import structlog

from app.registry.errors import Superseded
from app.registry.instances.port import InstanceStore
from app.registry.model import (
    InstanceKey,
    InstanceRow,
    RowToken,
)
from app.registry.nodes.port import Node, NodeSpec, ServiceRegistryClient
from app.registry.view import RegistryView, fencing_token
from app.telemetry import (
    INSTANCES_ADOPTED,
)
from pilothouse_core.curator import DiscoveredInstance, UnreadableNode, node_data, read_node

SWEEP_SECONDS = 0.5
SETTLE_SECONDS = 1.0  # a node is missing, and its row unclaimed, for this long before adoption
EVICT_SECONDS = 1.0
SEEN_SECONDS = 0.5  # until a node that was put is visible; shorter than the wait for adoption
_AT_ONCE = 5000  # rows that one reconciliation reads
REAP_SECONDS = 24 * 3600.0
FORGET_SECONDS = 600.0
_LONGEST_LEASE = 24 * 3600.0
GAP_SECONDS = 3.0  # without reading the rows: this replica was frozen or disconnected
_log = structlog.get_logger(__name__)


class _ServiceNodes(NamedTuple):
    """The nodes of a service and the instances parsed from them, so that each is parsed once."""

    nodes: Mapping[str, Node]
    instances: Mapping[str, DiscoveredInstance]


_NO_NODES: Final = _ServiceNodes({}, {})
_Put = tuple[RowToken, str, int]  # token, published status, session


class _SettlingNodes:
    """Nodes that this replica has put and that are perhaps not visible yet: not put again."""

    def __init__(self, session: Callable[[], int], clock: Callable[[], float]) -> None:
        self._session = session
        self._clock = clock
        self._until: dict[InstanceKey, tuple[_Put, float]] = {}

    @contextmanager
    def put(self, rows: Sequence[InstanceRow]) -> Iterator[None]:
        """Have the nodes of `rows` while they are put, and for a short time afterwards."""
        self._until |= {row.key: (self._signature(row), inf) for row in rows}
        until = 0.0
        try:
            yield
            until = self._clock() + SEEN_SECONDS
        finally:
            for row in rows:
                if row.key in self._until:  # and has not been seen yet
                    self._until[row.key] = self._signature(row), until

    def has(self, row: InstanceRow) -> bool:
        """Tell whether the node of a row was put with the row's present token and status."""
        put, until = self._until.get(row.key, (None, 0.0))
        return until > self._clock() and put == self._signature(row)

    def forget(self, key: InstanceKey) -> None:
        self._until.pop(key, None)

    def drop_expired(self) -> None:
        now = self._clock()
        self._until = {key: of for key, of in self._until.items() if of[1] > now}

    def _signature(self, row: InstanceRow) -> _Put:
        return row.token, _published_status(row), self._session()


class NodeReconciler:
    def __init__(
        self,
        rows: InstanceStore,
        nodes: ServiceRegistryClient,
        view: RegistryView,
        replica: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._rows = rows
        self._nodes = nodes
        self._view = view
        self._replica = replica
        self._missing: dict[
            InstanceKey, float
        ] = {}  # of other owners, without a node since this time
        self._settling = _SettlingNodes(lambda: nodes.session.id, clock)
        self._due = asyncio.Event()
        self._clock = clock
        self._known_nodes: dict[str, _ServiceNodes] = {}
        nodes.on_change(self._on_nodes_change)

    def _on_nodes_change(self, service: str) -> None:
        """Read the changed nodes of a service."""
        before, known = self._known_nodes.pop(service, _NO_NODES)
        nodes = self._nodes.nodes.get(service, {})
        # With thousands of nodes and one change, unchanged nodes must cost almost nothing.
        instances = {name: one for name, one in known.items() if name in nodes}
        for node in [node for name, node in nodes.items() if before.get(name) is not node]:
            self._learn_node(node, before.get(node.name), instances)
        if nodes:
            self._known_nodes[service] = _ServiceNodes(nodes, instances)
        self._view.set_nodes(service, instances)
        self._due.set()

    def _learn_node(
        self, node: Node, before: Node | None, instances: dict[str, DiscoveredInstance]
    ) -> None:
        if node.session == self._nodes.session.id:
            self._settling.forget((node.service, node.name))
        if before is not None and before.data == node.data:
            return
        one = _read_or_warn(node)
        if one is None:
            instances.pop(node.name, None)
        else:
            instances[node.name] = one

    async def put_node(self, row: InstanceRow) -> None:
        """Put the node of a row; raises NodesUnavailable, and reconciliation tries again."""
        try:
            with self._settling.put([row]):
                await self._nodes.put(self._node_spec(row))
        except Superseded:
            self._due.set()

    async def remove_node(self, row: InstanceRow) -> None:
        """Remove the node of a row that is no longer registered; raises NodesUnavailable."""
        try:
            await self._nodes.remove(row.service, row.instance_id, fencing_token(row))
        except Superseded:
            self._due.set()

    def _node_spec(self, row: InstanceRow) -> NodeSpec:
        instance = self._view.instance(row)
        assert instance is not None
        registered_at = int(row.registered_at.timestamp() * 1000)
        data = node_data(instance, fencing_token(row), registered_at, _published_status(row))
        return NodeSpec(row.service, row.instance_id, fencing_token(row), data)

    # Reconciliation

    async def run(self) -> None:
        """Reconcile until cancelled; raises RegistryUnavailable and NodesUnavailable."""
        while True:
            self._due.clear()
            await self.reconcile()
            try:
                async with asyncio.timeout(SWEEP_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311
                    await self._due.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(
                SWEEP_SECONDS / 10
            )  # changes that arrive together are handled together

    async def reconcile(self) -> None:
        """Bring the nodes of this session in line with the current rows."""
        if self._nodes.session.state != "connected" or not self._nodes.is_current:
            self._missing.clear()
            return
        keys = self._keys_to_verify()
        if not keys:
            return
        current = await self._rows.rows_by_key(keys)
        self._view.learn(current.values())
        own = self._nodes.session.id
        ours, lost = [], []
        for key in keys:
            row, node = current.get(key), self._node(key)
            is_registered = row is not None and needs_node(row)
            if row is not None and is_registered and row.owner == self._replica:
                if not self._is_up_to_date(row, node, own):
                    ours.append(row)
            elif node is not None and node.session == own:
                await self._nodes.drop(*key)
            elif row is not None and is_registered and node is None:
                lost.append(row)
        await self._put(ours)
        await self._adopt(lost)

    def _keys_to_verify(self) -> list[InstanceKey]:
        """Return keys that may need work by local knowledge; their rows are read before any change.

        Instances of other replicas with a valid node cost nothing.
        """
        # Read once: with thousands of rows, and a reconciliation after each change, it matters.
        own, everywhere, now = self._nodes.session.id, self._nodes.nodes, self._clock()
        self._settling.drop_expired()
        keys: set[InstanceKey] = set()
        missing: dict[InstanceKey, float] = {}
        for row in self._view.rows():
            node = everywhere.get(row.service, {}).get(row.instance_id)
            if not needs_node(row):
                if node is not None and node.session == own:
                    keys.add(row.key)
            elif row.owner == self._replica:
                on_its_way = node is None and self._settling.has(row)
                if not on_its_way and not self._is_up_to_date(row, node, own):
                    keys.add(row.key)
            elif node is None:
                missing[row.key] = since = self._missing.get(row.key, now)
                if now - since >= SETTLE_SECONDS:
                    keys.add(row.key)
            elif node.session == own:
                keys.add(row.key)
        self._missing = missing
        for service, nodes in everywhere.items():
            keys |= {
                (service, name)
                for name, node in nodes.items()
                if node.session == own and self._view.row(service, name) is None
            }
        return sorted(keys)[:_AT_ONCE]

    def _node(self, key: InstanceKey) -> Node | None:
        return self._nodes.nodes.get(key[0], {}).get(key[1])

    def _is_up_to_date(self, row: InstanceRow, node: Node | None, own: int) -> bool:
        """Whether a node is of this session (`own`) with the token and status of its row."""
        if node is None or node.session != own:
            return False
        published = self._view.node(row.service, row.instance_id)
        return (
            published is not None
            and published.tag == (row.epoch, row.term)
            and published.status == _published_status(row)
        )

    async def _put(self, rows: Sequence[InstanceRow]) -> None:
        if rows:
            readable = [row for row in rows if self._view.instance(row) is not None]
            with self._settling.put(readable):
                # Serialized lazily: five thousand at once would block the loop.
                await self._nodes.put_all(map(self._node_spec, readable))

    async def _adopt(self, rows: Sequence[InstanceRow]) -> None:
        """Claim rows without a node: their nodes are checked again after the rows were read."""
        if not rows:
            return
        await self._nodes.refresh()
        absent = [row.token for row in rows if self._node(row.key) is None]
        if not self._nodes.is_current or not absent:
            return
        claimed = await self._rows.claim(absent, self._replica, SETTLE_SECONDS)
        self._view.learn(claimed)
        if claimed:
            INSTANCES_ADOPTED.inc(len(claimed))
            _log.warning("instances_adopted", instances=len(claimed))
        await self._put(claimed)


# After a lost session the same nodes return all at once.
_read_cached = lru_cache(2 * _AT_ONCE)(read_node)


def _read_or_warn(node: Node) -> DiscoveredInstance | None:
    """Return the instance in a node, None if it is unreadable."""
    try:
        return _read_cached(node.service, node.name, node.data)
    except UnreadableNode as error:
        _log.warning("node_unreadable", service=node.service, node=node.name, reason=str(error))
        return None


def needs_node(row: InstanceRow) -> bool:
    """Whether an instance needs a node; draining ones have none, so that clients skip them."""
    return row.state == "registered" and row.draining_until is None


def _published_status(row: InstanceRow) -> str:
    """Return the status for readers of nodes; `suspect` is visible only in the rows."""
    return "up" if row.health == "suspect" else row.health
