"""The port: nodes of instances, each of which lasts as long as the session of its owner.

Adapters: `zookeeper` and `embedded`. Both pass `tests/contracts/test_service_registry.py`. Every
call is one transaction, done before it returns, and raises `NodesUnavailable` within its deadline.

A tag tells which registration and which claim of it a node stands for. The newest tag of each
instance outlives its nodes: the fence, which keeps whoever comes late with an older one from
changing anything.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.registry.errors import Superseded
from pilothouse_core.instances import Tag


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was read. `session` is that of its owner, 0 if it belongs to nobody."""

    service: str
    name: str
    data: bytes
    session: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A node as it should be. `data` holds less than 64 KiB."""

    service: str
    name: str
    tag: Tag
    data: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """How it stands with our own session, whose end takes all of our nodes along.

    `suspended`: not connected, the nodes still stand. `lost`: not connected for so long that they
    are gone, or never connected. `number` moves with every session after the first: all nodes have
    to be put again then. `seconds` have passed since the state was entered.
    """

    state: Literal["connected", "suspended", "lost"]
    id: int
    number: int
    seconds: float


class ServiceRegistryClient(Protocol):
    @property
    def session(self) -> Session:
        """Tell the state of the session, without asking anybody."""
        ...

    async def put(self, wanted: Wanted) -> None:
        """Put a node in place, as one of our session, and move the fence to its tag.

        Whatever stands there is replaced, unless it is the very same of our session. It is among
        `nodes` at once where they are current. Raises Superseded if the fence is newer.
        """
        ...

    async def put_all(self, wanted: Iterable[Wanted]) -> Sequence[Superseded]:
        """Put many nodes, as `put` does, at a bounded rate; return those that came too late.

        They are among `nodes` when those are read next. The only call that may take long, and of
        several transactions. Raises NodesUnavailable when one of them fails; others may be in place
        then.
        """
        ...

    async def remove(self, service: str, name: str, tag: Tag) -> None:
        """Move the fence to `tag` and delete the node, whoever owns it.

        Raises Superseded if the fence is newer.
        """
        ...

    async def drop(self, service: str, name: str) -> bool:
        """Delete the node if it is of our session, and leave the fence where it is.

        Tells whether there was one.
        """
        ...

    async def node(self, service: str, name: str) -> Node | None:
        """Ask for one node as it is now."""
        ...

    async def fence(self, service: str, name: str) -> Tag | None:
        """Ask for the newest tag that was put or removed, None if there is none any more."""
        ...

    async def reap(self, service: str, name: str, tag: Tag) -> bool:
        """Forget the fence of an instance that is gone for good, unless it moved beyond `tag`.

        Tells whether it is gone; it stays where there is a node.
        """
        ...

    async def follow(self) -> None:
        """Keep `nodes` current for ever; raises NodesUnavailable, to be called again."""
        ...

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        """Return what was last seen of all services and their nodes, without asking anybody."""
        ...

    @property
    def is_current(self) -> bool:
        """Tell whether `nodes` was read over the connection there is now, and is followed."""
        ...

    def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with the name of each service whose nodes have changed, after the change."""
        ...

    async def refresh(self) -> None:
        """Read all of `nodes` again, whatever is known of it."""
        ...

    async def ping(self) -> None:
        """Return if ZooKeeper answers."""
        ...
