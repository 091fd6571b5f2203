"""Port: ephemeral nodes of instances, each of which lasts as long as its owner's session.

Adapters: `zookeeper` and `embedded`. Both pass `tests/contracts/test_service_registry.py`. Every
call is one transaction that is done before the call returns; it raises `NodesUnavailable` within
its deadline.

A fencing token identifies the registration and the claim that a node represents. The newest token
of each instance outlives its nodes: the fence, which rejects operations with older tokens.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.registry.errors import Superseded
from pilothouse_core.instances import FencingToken


@dataclass(frozen=True, slots=True)
class Node:
    """A node as read. `session` is its owner's session, 0 if it has no owner."""

    service: str
    name: str
    data: bytes
    session: int


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node to be stored. `data` is smaller than 64 KiB."""

    service: str
    name: str
    token: FencingToken
    data: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """State of this replica's session; its nodes are deleted when it ends.

    `suspended`: not connected, the nodes still exist. `lost`: never connected, or disconnected
    until the nodes were deleted. `number` increases with every new session: all nodes have to be
    put again then. `seconds` have passed since the state was entered.
    """

    state: Literal["connected", "suspended", "lost"]
    id: int
    number: int
    seconds: float


class ServiceRegistryClient(Protocol):
    @property
    def session(self) -> Session:
        """Return the known state of the session, without I/O."""
        ...

    async def put(self, spec: NodeSpec) -> None:
        """Store a node of this session, and set the fence to its token.

        An existing node is replaced, unless it is equal and of this session. The node is in `nodes`
        at once if they are current. Raises Superseded if the fence is newer.
        """
        ...

    async def put_all(self, specs: Iterable[NodeSpec]) -> Sequence[Superseded]:
        """Put many nodes at a limited rate; return the errors of those with an outdated token.

        They are in `nodes` after the next read. The only call that may take long and that has
        several transactions. Raises NodesUnavailable when one of them fails; others may be stored
        then.
        """
        ...

    async def remove(self, service: str, name: str, token: FencingToken) -> None:
        """Set the fence to `token` and delete the node, whichever session owns it.

        Raises Superseded if the fence is newer.
        """
        ...

    async def drop(self, service: str, name: str) -> bool:
        """Delete the node if it is of this session, and leave the fence unchanged.

        Returns whether there was one.
        """
        ...

    async def node(self, service: str, name: str) -> Node | None:
        """Read one node."""
        ...

    async def fence(self, service: str, name: str) -> FencingToken | None:
        """Read the newest token that was put or removed, None if there is none."""
        ...

    async def reap(self, service: str, name: str, token: FencingToken) -> bool:
        """Delete the fence of an instance that is gone for good, unless it is newer than `token`.

        Returns whether it is gone; it stays if there is a node.
        """
        ...

    async def follow(self) -> None:
        """Keep `nodes` current until cancelled; raises NodesUnavailable, then call it again."""
        ...

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        """Return the last known nodes of all services, without I/O."""
        ...

    @property
    def is_current(self) -> bool:
        """Whether `nodes` was read over the current connection and is being followed."""
        ...

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the name of each service after its nodes have changed."""
        ...

    async def refresh(self) -> None:
        """Read all of `nodes` again."""
        ...

    async def ping(self) -> None:
        """Return if ZooKeeper answers."""
        ...
