"""Local copy of the nodes in ZooKeeper, kept current by watches.

There is one watch for the names in each service and one for all data. A watch for each node, or one
on all names, would be a herd: every change would make every replica read everything again.

A folder below a service is a service itself, `team/orders`: Curator stores such names this way.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError

from app.registry.errors import NodesUnavailable
from app.registry.nodes.port import Node
from app.registry.nodes.zookeeper.session import ZooKeeperSession

# Changes that arrive together are read together. If reading takes longer than this, the pause is as
# long as the last read: under load at most half of the time is spent here.
DEBOUNCE_SECONDS = 0.05
_LONGEST_DEBOUNCE_SECONDS = 1.0
# A change missed by a watch is read after this time.
RELIST_SECONDS = 60.0
_DEPTH = 5  # parts of a service's name, at most


@dataclass(frozen=True, slots=True)
class _Listing:
    """The nodes of a service, with ZooKeeper's counters when their names were read."""

    created: int = 0  # transaction that created the folder
    changes: int = 0  # number of changes of names in it
    nodes: Mapping[str, Node] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()

    @property
    def names(self) -> AbstractSet[str]:
        return self.nodes.keys() | self.folders

    def may_hold(self, names: set[str], created: int, changes: int) -> bool:
        """Whether nodes with known names can be the ones that were read.

        Each added or removed name counts once: if more was counted, a node was created again.
        """
        return self.created == created and changes - self.changes == len(self.names ^ names)


class ZooKeeperView:
    def __init__(self, session: ZooKeeperSession, base: str) -> None:
        self._session = session
        self._base = base
        self._listings: dict[str, _Listing] = {}
        # Put by this replica since the names were read: published, but not used for decisions.
        self._own_nodes: dict[str, dict[str, Node]] = {}
        self._nodes: dict[str, Mapping[str, Node]] = {}
        self._debounce = DEBOUNCE_SECONDS
        self._turn = asyncio.Lock()  # an older reply must not overwrite a newer one
        self._listeners: list[Callable[[str], None]] = []
        self._watches: dict[str, Callable[[object], None]] = {}
        self._marked: set[str] = set()  # services, or "" for the base
        self._changed: defaultdict[str, set[str]] = defaultdict(set)  # nodes, by service
        self._changes_pending = asyncio.Event()
        self.connections = 0  # number of times the connection was made or lost
        self._read_over = -1  # value of `connections` when everything was read

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        return MappingProxyType(self._nodes)

    @property
    def is_current(self) -> bool:
        return self._session.is_connected and self._read_over == self.connections

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._listeners.append(callback)

    def on_connection_change(self) -> None:
        self.connections += 1
        self._changes_pending.set()

    def show_own_node(self, node: Node, connections: int) -> None:
        """Publish a node that this replica has just put, until its service is read again.

        `connections` is the value before the put: the session may have ended since.
        """
        if self.is_current and self.connections == connections:
            self._own_nodes.setdefault(node.service, {})[node.name] = node
            self._publish(node.service)
            # It may have been replaced or deleted already, before the watch was set.
            self._mark_service(node.service)

    async def read(self, service: str, name: str) -> Node | None:
        try:
            answer = await self._session.call("get", f"{self._base}/{service}/{name}")
        except NoNodeError:
            return None
        return node_from_reply(service, name, answer)

    async def _read_many(
        self, service: str, names: Sequence[str]
    ) -> tuple[dict[str, Node], set[str]]:
        """Return the nodes, and the names that are folders."""
        answers = await self._session.read_many([f"{self._base}/{service}/{n}" for n in names])
        nodes: dict[str, Node] = {}
        folders: set[str] = set()
        for name, answer in zip(names, answers, strict=True):
            if _is_folder(answer):
                folders.add(name)
            elif (node := node_from_reply(service, name, answer)) is not None:
                nodes[name] = node
        return nodes, folders

    async def follow(self) -> None:
        try:
            while True:
                await self.refresh()
                due = monotonic() + RELIST_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
                while self.is_current and await self._wait_for_change(due - monotonic()):
                    await self._catch_up()
                if not self._session.is_connected:
                    raise NodesUnavailable("the connection to ZooKeeper was lost")
        finally:
            self._read_over = -1  # changes are not followed from here on

    async def _wait_for_change(self, within: float) -> bool:
        """Wait for a change; return whether there was one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changes_pending.wait()
                await asyncio.sleep(self._debounce)
                return True
        return False

    async def _catch_up(self) -> None:
        async with self._turn:
            began = monotonic()
            self._changes_pending.clear()
            marked, self._marked = self._marked, set()
            if "" in marked:
                known = {service for service in self._listings if "/" not in service}
                marked |= await self._list_services() ^ known
            for service in sorted(marked - {""}):
                await self._list(service)
            taken = monotonic() - began
            self._debounce = min(max(DEBOUNCE_SECONDS, taken), _LONGEST_DEBOUNCE_SECONDS)

    async def refresh(self) -> None:
        async with self._turn:
            connections = self.connections
            await self._session.watch_below(self._base, self._on_data_change)
            services = await self._list_services()
            for service in sorted(services | self._listings.keys() | self._own_nodes.keys()):
                await self._list(service, reread_all=True)
            self._read_over = connections

    async def _list_services(self) -> set[str]:
        while True:
            try:
                names = await self._session.call("get_children", self._base, self._watch(""))
            except NoNodeError:
                # A watch on a missing node would be of another kind.
                with suppress(NodeExistsError):
                    await self._session.call("create", self._base, makepath=True)
                continue
            return set(names)

    async def _list(self, service: str, *, reread_all: bool = False) -> None:
        known = self._listings.get(service, _Listing())
        changed = self._changed.pop(service, set())
        try:
            path = f"{self._base}/{service}"
            watch = self._watch(service)
            names, stat = await self._session.call("get_children", path, watch, include_data=True)
        except NoNodeError:
            # Its watch is gone too; the watch on the base reports when it exists again.
            self._watches.pop(service, None)
            self._store_listing(service, None, self._own_nodes.get(service, {}))
            return
        # Nodes put from here on may be missing in `names`.
        older = dict(self._own_nodes.get(service, {}))
        here = set(names)
        kept: Mapping[str, Node] = {}
        if not reread_all and known.may_hold(here, stat.czxid, stat.cversion):
            kept = {n: node for n, node in known.nodes.items() if n in here and n not in changed}
        read, folders = await self._read_many(service, sorted(here - kept.keys()))
        listed = _Listing(stat.czxid, stat.cversion, {**kept, **read}, frozenset(folders))
        self._store_listing(service, listed, older)
        for folder in sorted(folders):
            below = f"{service}/{folder}"
            if below not in self._listings and below.count("/") < _DEPTH:
                await self._list(below)

    def _store_listing(
        self, service: str, listed: _Listing | None, older: Mapping[str, Node]
    ) -> None:
        own = self._own_nodes.pop(service, {})
        newer = {name: node for name, node in own.items() if older.get(name) is not node}
        if newer:
            self._own_nodes[service] = newer
        if listed is None:
            self._listings.pop(service, None)
        else:
            self._listings[service] = listed
        self._publish(service)

    def _publish(self, service: str) -> None:
        before = self._nodes.get(service, {})
        listed = self._listings.get(service)
        now = {} if listed is None else listed.nodes
        if service in self._own_nodes:
            now = {**now, **self._own_nodes[service]}
        if now == before:
            return
        if now:
            self._nodes[service] = now
        else:
            self._nodes.pop(service, None)
        for callback in self._listeners:
            callback(service)

    def _watch(self, service: str) -> Callable[[object], None]:
        """Return the same function each time for a service, so that kazoo keeps only one watch."""
        return self._watches.setdefault(service, partial(self._on_names_change, service))

    def _on_names_change(self, service: str, _: object) -> None:
        self._session.call_on_loop(self._mark_service, service)  # called on a thread of kazoo

    def _on_data_change(self, path: str) -> None:
        service, _, name = path.removeprefix(f"{self._base}/").rpartition("/")
        if path.startswith(f"{self._base}/") and service:
            self._session.call_on_loop(
                self._mark_node, service, name
            )  # called on a thread of kazoo

    def _mark_node(self, service: str, name: str) -> None:
        self._changed[service].add(name)
        self._mark_service(service)

    def _mark_service(self, service: str) -> None:
        self._marked.add(service)
        self._changes_pending.set()


def _is_folder(answer: Any) -> bool:
    """Whether a node has or may have children: an instance always has data."""
    if isinstance(answer, Exception):
        return False
    data, stat = answer
    return bool(stat.numChildren > 0 or (not data and stat.ephemeralOwner == 0))


def node_from_reply(service: str, name: str, answer: Any) -> Node | None:
    """Return the node in ZooKeeper's reply, None if it does not exist."""
    if isinstance(answer, NoNodeError):
        return None
    if isinstance(answer, Exception):
        raise answer
    data, stat = answer
    return Node(service, name, data, stat.ephemeralOwner)
