"""Nodes of instances and their persistent fences, which change in the same transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kazoo.client import TransactionRequest
from kazoo.exceptions import NodeExistsError, NoNodeError

from app.registry.errors import NodesUnavailable, Superseded
from app.registry.nodes.port import Node, NodeSpec
from app.registry.nodes.zookeeper.session import ZooKeeperSession
from app.registry.nodes.zookeeper.view import ZooKeeperView, node_from_reply
from app.timeouts import timeout_while_running
from pilothouse_core.instances import FencingToken

_FIRST = FencingToken(1, 1)  # the first of an instance: there is no fence before it


@dataclass(frozen=True, slots=True)
class Fence:
    data: bytes = b""
    version: int | None = None  # None: it does not exist

    @property
    def token(self) -> FencingToken | None:
        """Return its token; invalid data does not fence and is overwritten."""
        epoch, _, term = self.data.partition(b",")
        return FencingToken(int(epoch), int(term)) if epoch.isdigit() and term.isdigit() else None


class FencedNodes:
    """`base` and `fences` are the paths below which nodes and fences are stored."""

    def __init__(
        self, session: ZooKeeperSession, view: ZooKeeperView, base: str, fences: str
    ) -> None:
        self._session = session
        self._view = view
        self._base, self._fences = base, fences
        self._parent_tasks: dict[str, asyncio.Task[None]] = {}  # by service

    def is_new(self, spec: NodeSpec) -> bool:
        """Whether no node is known: it is then created without reading it first.

        If there is one after all, the transaction fails, and everything is read.
        """
        nodes = self._view.nodes.get(spec.service, {})
        return self._view.is_current and spec.name not in nodes

    async def guess_fence(self, spec: NodeSpec) -> tuple[Fence, None]:
        if spec.token == _FIRST:
            return Fence(), None
        return await self.read_fence(spec.service, spec.name), None

    async def read_both(self, service: str, name: str) -> tuple[Fence, Node | None]:
        """Read the fence and then the node: every later change of the node changes the fence."""
        return await self.read_fence(service, name), await self._view.read(service, name)

    async def read_fence(self, service: str, name: str) -> Fence:
        try:
            return _fence_from_reply(
                await self._session.call("get", self.fence_path(service, name))
            )
        except NoNodeError:
            return Fence()

    async def read_many(
        self, batch: Sequence[NodeSpec], *, guesses: bool
    ) -> list[tuple[Fence, Node | None]]:
        """Read all fences and then all nodes; replies come in the same order.

        With `guesses`, new nodes are not read. Fences are: most nodes put here were put before.
        Fences are not cached: after one is reaped and created again, its version begins at 0.
        """
        names = [(one.service, one.name) for one in batch]
        of_nodes = [(one.service, one.name) for one in batch if not (guesses and self.is_new(one))]
        paths = [self.fence_path(*of) for of in names] + [self.node_path(*of) for of in of_nodes]
        answers = iter(await self._session.read_many(paths))
        fences = [_fence_from_reply(next(answers)) for _ in names]
        nodes = {of: node_from_reply(*of, next(answers)) for of in of_nodes}
        return [(fence, nodes.get(of)) for of, fence in zip(names, fences, strict=True)]

    def plan_put(
        self, transaction: TransactionRequest, spec: NodeSpec, fence: Fence, node: Node | None
    ) -> bool:
        """Add a put to a transaction; False if there is nothing to do. Raises Superseded."""
        service, name = spec.service, spec.name
        check_fence(fence, service, name, spec.token)
        own_session = self._session.session.id
        if node == Node(service, name, spec.data, own_session) and fence.token == spec.token:
            return False
        self.plan_replacement(transaction, service, name, fence, _fence_data(spec.token), node)
        transaction.create(self.node_path(service, name), spec.data, ephemeral=True)
        return True

    async def try_to_remove(self, service: str, name: str, token: FencingToken) -> bool | None:
        fence, node = await self.read_both(service, name)
        check_fence(fence, service, name, token)
        if node is None and fence.token == token:
            return True
        transaction = self._session.transaction()
        self.plan_replacement(transaction, service, name, fence, _fence_data(token), node)
        return await self.commit(transaction, service)

    async def try_to_drop(self, service: str, name: str) -> bool | None:
        fence, node = await self.read_both(service, name)
        if node is None or node.session != self._session.session.id:
            return False
        transaction = self._session.transaction()
        self.plan_replacement(transaction, service, name, fence, fence.data, node)
        return await self.commit(transaction, service)

    def plan_replacement(
        self,
        transaction: TransactionRequest,
        service: str,
        name: str,
        fence: Fence,
        data: bytes,
        node: Node | None,
    ) -> None:
        """Add the change of the fence and the deletion of the known node to a transaction.

        It fails as a whole if the fence has changed. Checking the version of the node would not
        suffice: it begins at 0 when the node is created again.
        """
        if fence.version is None:
            transaction.create(self.fence_path(service, name), data)
        else:
            transaction.set_data(self.fence_path(service, name), data, fence.version)
        if node is not None:
            transaction.delete(self.node_path(service, name))

    async def commit(self, transaction: TransactionRequest, service: str) -> bool | None:
        """Return True if the transaction was committed, None if everything has to be read again."""
        results = await self._session.commit(transaction)
        if any(isinstance(result, NoNodeError) for result in results):
            await self.ensure_parents(service)
        return is_committed(results) or None

    async def ensure_parents(self, service: str) -> None:
        """Create the parents of nodes and fences of a service, once for all concurrent callers.

        Otherwise 300 first instances would send 2,100 requests instead of 302.
        """
        creating = self._parent_tasks.get(service)
        if creating is None:
            creating = asyncio.create_task(self._create_parents(service))
            self._parent_tasks[service] = creating
            creating.add_done_callback(lambda _: self._parent_tasks.pop(service))
        await asyncio.shield(creating)  # other callers wait for it even if this one is cancelled

    async def _create_parents(self, service: str) -> None:
        for parent in self._base, self._fences:
            with suppress(NodeExistsError):
                await self._session.call("create", f"{parent}/{service}", makepath=True)

    def node_path(self, service: str, name: str) -> str:
        return f"{self._base}/{service}/{name}"

    def fence_path(self, service: str, name: str) -> str:
        return f"{self._fences}/{service}/{name}"


async def retry_until_done(attempt: Callable[[], Awaitable[bool | None]], seconds: float) -> bool:
    """Repeat an attempt until it returns a boolean. Raises NodesUnavailable after `seconds`."""
    try:
        async with timeout_while_running(seconds):
            while (done := await attempt()) is None:
                pass
            return done
    except TimeoutError as error:
        raise NodesUnavailable("ZooKeeper does not answer in time") from error


def _fence_from_reply(answer: Any) -> Fence:
    if isinstance(answer, NoNodeError):
        return Fence()
    if isinstance(answer, Exception):
        raise answer
    data, stat = answer
    return Fence(data, stat.version)


def _fence_data(token: FencingToken) -> bytes:
    return f"{token.epoch},{token.term}".encode()


def check_fence(fence: Fence, service: str, name: str, token: FencingToken) -> None:
    if fence.token is not None and fence.token > token:
        raise Superseded(service, name, fence.token)


def is_committed(results: Sequence[object]) -> bool:
    return not any(isinstance(result, Exception) for result in results)
