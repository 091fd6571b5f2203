"""Nodes of instances in memory: the default, for one replica."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from types import MappingProxyType

from app.registry.errors import Superseded
from app.registry.nodes.port import Node, NodeSpec, Session
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import FencingToken


class EmbeddedNodes:
    """Nodes and fences of all services, shared by the clients of one process."""

    def __init__(self) -> None:
        self.nodes: dict[str, Mapping[str, Node]] = {}
        self.fences: dict[tuple[str, str], FencingToken] = {}
        self.listeners: list[Callable[[str], None]] = []
        self._sessions = 0

    def new_session(self) -> int:
        self._sessions += 1
        return self._sessions

    def end_session(self, session: int) -> None:
        for service, nodes in list(self.nodes.items()):
            self._set_nodes(
                service, {n: node for n, node in nodes.items() if node.session != session}
            )

    def node(self, service: str, name: str) -> Node | None:
        return self.nodes.get(service, {}).get(name)

    def place(self, node: Node) -> None:
        self._set_nodes(node.service, {**self.nodes.get(node.service, {}), node.name: node})

    def delete(self, service: str, name: str) -> None:
        nodes = self.nodes.get(service, {})
        self._set_nodes(service, {other: node for other, node in nodes.items() if other != name})

    def _set_nodes(self, service: str, nodes: Mapping[str, Node]) -> None:
        if nodes == self.nodes.get(service, {}):
            return
        if nodes:
            self.nodes[service] = nodes
        else:
            del self.nodes[service]
        for callback in self.listeners:
            callback(service)


class EmbeddedServiceRegistryClient:
    def __init__(self, nodes: EmbeddedNodes) -> None:
        self._nodes = nodes
        self._id = nodes.new_session()
        self._number = 1
        self._since = monotonic()

    @property
    def session(self) -> Session:
        return Session("connected", self._id, self._number, monotonic() - self._since)

    def lose_session(self) -> None:
        """Begin a new session, as after a long outage."""
        self._nodes.end_session(self._id)
        self._id = self._nodes.new_session()
        self._number += 1
        self._since = monotonic()

    async def put(self, spec: NodeSpec) -> None:
        if len(spec.data) >= MAX_NODE_BYTES:
            raise ValueError("the data of a node is too large")
        self._move_fence(spec.service, spec.name, spec.token)
        self._nodes.place(Node(spec.service, spec.name, spec.data, self._id))

    async def put_all(self, specs: Iterable[NodeSpec]) -> Sequence[Superseded]:
        late = []
        for one in specs:
            try:
                await self.put(one)
            except Superseded as error:
                late.append(error)
        return late

    async def remove(self, service: str, name: str, token: FencingToken) -> None:
        self._move_fence(service, name, token)
        self._nodes.delete(service, name)

    def _move_fence(self, service: str, name: str, token: FencingToken) -> None:
        newest = self._nodes.fences.get((service, name))
        if newest is not None and newest > token:
            raise Superseded(service, name, newest)
        self._nodes.fences[service, name] = token

    async def drop(self, service: str, name: str) -> bool:
        node = self._nodes.node(service, name)
        if node is None or node.session != self._id:
            return False
        self._nodes.delete(service, name)
        return True

    async def node(self, service: str, name: str) -> Node | None:
        return self._nodes.node(service, name)

    async def fence(self, service: str, name: str) -> FencingToken | None:
        return self._nodes.fences.get((service, name))

    async def reap(self, service: str, name: str, token: FencingToken) -> bool:
        newest = self._nodes.fences.get((service, name))
        if newest is None:
            return True
        if newest > token or self._nodes.node(service, name) is not None:
            return False
        del self._nodes.fences[service, name]
        return True

    async def follow(self) -> None:
        await asyncio.Event().wait()  # nothing to follow: changes are visible at once

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        return MappingProxyType(self._nodes.nodes)

    @property
    def is_current(self) -> bool:
        return True

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._nodes.listeners.append(callback)

    async def refresh(self) -> None:
        """No-op: the nodes are always current."""

    async def ping(self) -> None:
        """No-op: memory is always available."""

    async def close(self) -> None:
        self._nodes.end_session(self._id)
