"""What stands below the base in ZooKeeper, followed by one watch for each service.

A watch for each node, or one on all names that is answered at once, would be a herd: every change
would have every replica read everything again.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import MappingProxyType
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError

from app.registry.errors import NodesUnavailable
from app.registry.port import Node
from app.registry.zookeeper_session import ZooKeeperSession

# Changes that come together are read together. Where reading takes longer than that it waits as
# long as it last took: in a storm half of the time is left to others.
DEBOUNCE_SECONDS = 0.05
_LONGEST_DEBOUNCE_SECONDS = 1.0
# What others rewrite in place, and what a watch should ever miss, is seen after that.
RELIST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Listed:
    """The nodes of a service, and what ZooKeeper counted when their names were read."""

    created: int = 0  # the folder's own creation
    changes: int = 0  # of names in it
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def may_hold(self, names: set[str], created: int, changes: int) -> bool:
        """Tell whether nodes that are still here can be the ones that were read.

        Each name that came or went was counted once: if more was, one was created anew.
        """
        return self.created == created and changes - self.changes == len(self.nodes.keys() ^ names)


class ZooKeeperView:
    def __init__(self, session: ZooKeeperSession, base: str) -> None:
        self._session = session
        self._base = base
        self._listed: dict[str, _Listed] = {}
        # Put by us since the names were read: shown as well, but nothing is concluded from it.
        self._told: dict[str, dict[str, Node]] = {}
        self._nodes: dict[str, Mapping[str, Node]] = {}
        self._debounce = DEBOUNCE_SECONDS
        self._turn = asyncio.Lock()  # an older answer must not come after a newer one
        self._listeners: list[Callable[[str], None]] = []
        self._watches: dict[str, Callable[[object], None]] = {}
        self._fired: set[str] = set()  # services, or "" for the base
        self._woken = asyncio.Event()
        self.connections = 0  # how often the connection was made or lost
        self._read_over = -1  # as it was when everything was read

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        return MappingProxyType(self._nodes)

    @property
    def is_current(self) -> bool:
        return self._session.is_connected and self._read_over == self.connections

    def listen(self, heard: Callable[[str], None]) -> None:
        self._listeners.append(heard)

    def connection_moved(self) -> None:
        self.connections += 1
        self._woken.set()

    def tell(self, node: Node, connections: int) -> None:
        """Show a node that we have just put, until its service is read anew.

        `connections` as they were before it was put: its session may be over since.
        """
        if self.is_current and self.connections == connections:
            self._told.setdefault(node.service, {})[node.name] = node
            self._show(node.service)
            # Somebody may have replaced or deleted it already, while there was no watch.
            self._fire(node.service)

    async def read(self, service: str, name: str) -> Node | None:
        try:
            answer = await self._session.call("get", f"{self._base}/{service}/{name}")
        except NoNodeError:
            return None
        return node_of(service, name, answer)

    async def _read_many(self, service: str, names: Sequence[str]) -> dict[str, Node]:
        answers = await self._session.read_many([f"{self._base}/{service}/{n}" for n in names])
        nodes = (node_of(service, *found) for found in zip(names, answers, strict=True))
        return {node.name: node for node in nodes if node is not None}

    async def follow(self) -> None:
        try:
            while True:
                await self.refresh()
                due = monotonic() + RELIST_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
                while self.is_current and await self._wakes(due - monotonic()):
                    await self._catch_up()
                if not self._session.is_connected:
                    raise NodesUnavailable("the connection to ZooKeeper was lost")
        finally:
            self._read_over = -1  # what changes now is not seen

    async def _wakes(self, within: float) -> bool:
        """Wait for a sign of change; tell whether there was one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._woken.wait()
                await asyncio.sleep(self._debounce)
                return True
        return False

    async def _catch_up(self) -> None:
        async with self._turn:
            began = monotonic()
            self._woken.clear()
            fired, self._fired = self._fired, set()
            if "" in fired:
                fired |= await self._list_services() ^ self._listed.keys()
            for service in sorted(fired - {""}):
                await self._list(service)
            taken = monotonic() - began
            self._debounce = min(max(DEBOUNCE_SECONDS, taken), _LONGEST_DEBOUNCE_SECONDS)

    async def refresh(self) -> None:
        async with self._turn:
            connections = self.connections
            services = await self._list_services()
            for service in sorted(services | self._listed.keys() | self._told.keys()):
                await self._list(service, anew=True)
            self._read_over = connections

    async def _list_services(self) -> set[str]:
        while True:
            try:
                names = await self._session.call("get_children", self._base, self._watch(""))
            except NoNodeError:
                # A watch on what does not exist would be one of another kind.
                with suppress(NodeExistsError):
                    await self._session.call("create", self._base, makepath=True)
                continue
            return set(names)

    async def _list(self, service: str, *, anew: bool = False) -> None:
        known = self._listed.get(service, _Listed())
        try:
            path = f"{self._base}/{service}"
            watch = self._watch(service)
            names, stat = await self._session.call("get_children", path, watch, include_data=True)
        except NoNodeError:
            # Its watch is gone with it; that of the base tells when it is there again.
            self._watches.pop(service, None)
            self._take(service, None, self._told.get(service, {}))
            return
        older = dict(self._told.get(service, {}))  # what is told from now on may not be in names
        here = set(names)
        kept: Mapping[str, Node] = {}
        if not anew and known.may_hold(here, stat.czxid, stat.cversion):
            kept = {name: node for name, node in known.nodes.items() if name in here}
        read = await self._read_many(service, sorted(here - kept.keys()))
        self._take(service, _Listed(stat.czxid, stat.cversion, {**kept, **read}), older)

    def _take(self, service: str, listed: _Listed | None, older: Mapping[str, Node]) -> None:
        told = self._told.pop(service, {})
        newer = {name: node for name, node in told.items() if older.get(name) is not node}
        if newer:
            self._told[service] = newer
        if listed is None:
            self._listed.pop(service, None)
        else:
            self._listed[service] = listed
        self._show(service)

    def _show(self, service: str) -> None:
        before = self._nodes.get(service, {})
        listed = self._listed.get(service)
        now = {} if listed is None else listed.nodes
        if service in self._told:
            now = {**now, **self._told[service]}
        if now == before:
            return
        if now:
            self._nodes[service] = now
        else:
            self._nodes.pop(service, None)
        for heard in self._listeners:
            heard(service)

    def _watch(self, service: str) -> Callable[[object], None]:
        """Return the same function for a service again: kazoo then keeps one watch and not many."""
        return self._watches.setdefault(service, partial(self._notice, service))

    def _notice(self, service: str, _: object) -> None:
        self._session.hand_over(self._fire, service)  # on a thread of kazoo's

    def _fire(self, service: str) -> None:
        self._fired.add(service)
        self._woken.set()


def node_of(service: str, name: str, answer: Any) -> Node | None:
    """Read ZooKeeper's answer to a question for a node."""
    if isinstance(answer, NoNodeError):
        return None
    if isinstance(answer, Exception):
        raise answer
    data, stat = answer
    return Node(service, name, data, stat.ephemeralOwner)
