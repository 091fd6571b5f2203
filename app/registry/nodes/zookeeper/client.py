"""Ephemeral nodes of instances in ZooKeeper, guarded by persistent fences."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from kazoo.client import TransactionRequest
from kazoo.exceptions import NodeExistsError, NoNodeError

from app.registry.errors import NodesUnavailable, Superseded
from app.registry.nodes.port import Node, NodeSpec, Session
from app.registry.nodes.zookeeper.session import (
    CALL_SECONDS,
    CONNECTION_SECONDS,
    SESSION_SECONDS,
    ZooKeeperSession,
)
from app.registry.nodes.zookeeper.view import ZooKeeperView, node_from_reply
from app.timeouts import timeout_while_running
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import FencingToken

FENCES = "/pilothouse-epochs"
_BATCH = 50  # nodes that are put in one transaction
_BATCH_BYTES = 512 * 1024  # in one transaction: ZooKeeper closes a connection that sends a mebibyte
_PER_SECOND = 8000.0
_FIRST = FencingToken(1, 1)  # the first of an instance: there is no fence before it


@dataclass(frozen=True, slots=True)
class _Fence:
    data: bytes = b""
    version: int | None = None  # None: it does not exist

    @property
    def token(self) -> FencingToken | None:
        """Return its token; invalid data does not fence and is overwritten."""
        epoch, _, term = self.data.partition(b",")
        return FencingToken(int(epoch), int(term)) if epoch.isdigit() and term.isdigit() else None


class ZooKeeperServiceRegistryClient:
    """`base` and `fences` are paths that begin with a slash; neither lies inside the other."""

    def __init__(
        self,
        hosts: str,
        *,
        base: str,
        fences: str = FENCES,
        session_seconds: float = SESSION_SECONDS,
        connection_seconds: float = CONNECTION_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._base, self._fences = base, fences
        self._call_seconds = call_seconds
        self._session = ZooKeeperSession(
            hosts,
            self._on_connection_change,
            seconds=session_seconds,
            connection_seconds=connection_seconds,
            call_seconds=call_seconds,
        )
        self._view = ZooKeeperView(self._session, base)
        self._parent_tasks: dict[
            str, asyncio.Task[None]
        ] = {}  # creation of parent nodes, by service

    def _on_connection_change(self) -> None:
        self._view.on_connection_change()

    @property
    def session(self) -> Session:
        return self._session.session

    async def put(self, spec: NodeSpec) -> None:
        if len(spec.data) >= MAX_NODE_BYTES:
            raise ValueError("the data of a node is too large")
        session, connections = self.session.id, self._view.connections
        is_new = self._is_new(spec)

        async def attempt() -> bool | None:
            nonlocal is_new
            if is_new and spec.service not in self._view.nodes:
                await self._ensure_parents(spec.service)
            fence, node = (
                await self._guess_fence(spec)
                if is_new
                else await self._read_fence_and_node(spec.service, spec.name)
            )
            is_new = False  # a second attempt means that the guess was wrong
            return await self._try_to_put(spec, fence, node)

        await self._retry_until_done(attempt)
        self._view.show_own_node(Node(spec.service, spec.name, spec.data, session), connections)

    async def put_all(self, specs: Iterable[NodeSpec]) -> Sequence[Superseded]:
        late: list[Superseded] = []
        for batch in _batches(specs):
            began = monotonic()
            late += await self._put_batch(batch)
            # The server has other clients, and all of them may lose their sessions at once.
            await asyncio.sleep(max(0, began + len(batch) / _PER_SECOND - monotonic()))
        return late

    async def _put_batch(
        self, batch: Sequence[NodeSpec], *, again: bool = False
    ) -> list[Superseded]:
        """Put all in one transaction, which costs far less than one for each."""
        late: list[Superseded] = []
        pending = []
        seen = frozenset() if again else self._view.nodes.keys()
        await asyncio.gather(*map(self._ensure_parents, {one.service for one in batch} - seen))
        transaction = self._session.transaction()
        found = await self._read_fences_and_nodes(batch, guesses=not again)
        for spec, (fence, node) in zip(batch, found, strict=True):
            try:
                if self._plan_put(transaction, spec, fence, node):
                    pending.append(spec)
            except Superseded as error:
                late.append(error)
        if not pending or _is_committed(await self._session.commit(transaction)):
            return late
        if not again:  # a node was not new after all, or a parent was removed
            return late + await self._put_batch(pending, again=True)
        # A race for one node fails the whole transaction: put each by itself.
        errors = await asyncio.gather(*map(self._put_single, pending))
        return late + [error for error in errors if error is not None]

    async def _put_single(self, spec: NodeSpec) -> Superseded | None:
        try:
            await self.put(spec)
        except Superseded as error:
            return error
        return None

    def _is_new(self, spec: NodeSpec) -> bool:
        """Whether no node is known: it is then created without reading it first.

        If there is one after all, the transaction fails, and everything is read.
        """
        nodes = self._view.nodes.get(spec.service, {})
        return self._view.is_current and spec.name not in nodes

    async def _guess_fence(self, spec: NodeSpec) -> tuple[_Fence, None]:
        if spec.token == _FIRST:
            return _Fence(), None
        return await self._read_fence(spec.service, spec.name), None

    async def _read_fences_and_nodes(
        self, batch: Sequence[NodeSpec], *, guesses: bool
    ) -> list[tuple[_Fence, Node | None]]:
        """Read all fences and then all nodes; replies come in the same order.

        With `guesses`, new nodes are not read. Fences are: most nodes put here were put before.
        Fences are not cached: after one is reaped and created again, its version begins at 0.
        """
        names = [(one.service, one.name) for one in batch]
        of_nodes = [(one.service, one.name) for one in batch if not (guesses and self._is_new(one))]
        paths = [self._fence_path(*of) for of in names] + [self._path(*of) for of in of_nodes]
        answers = iter(await self._session.read_many(paths))
        fences = [_fence_from_reply(next(answers)) for _ in names]
        nodes = {of: node_from_reply(*of, next(answers)) for of in of_nodes}
        return [(fence, nodes.get(of)) for of, fence in zip(names, fences, strict=True)]

    async def remove(self, service: str, name: str, token: FencingToken) -> None:
        await self._retry_until_done(partial(self._try_to_remove, service, name, token))

    async def drop(self, service: str, name: str) -> bool:
        return await self._retry_until_done(partial(self._try_to_drop, service, name))

    async def node(self, service: str, name: str) -> Node | None:
        return await self._view.read(service, name)

    async def fence(self, service: str, name: str) -> FencingToken | None:
        return (await self._read_fence(service, name)).token

    async def reap(self, service: str, name: str, token: FencingToken) -> bool:
        fence, node = await self._read_fence_and_node(service, name)
        if fence.version is None:
            return True
        if node is not None or (fence.token is not None and fence.token > token):
            return False
        transaction = self._session.transaction()
        transaction.delete(self._fence_path(service, name), fence.version)
        return _is_committed(await self._session.commit(transaction))

    async def follow(self) -> None:
        await self._view.follow()

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        return self._view.nodes

    @property
    def is_current(self) -> bool:
        return self._view.is_current

    def on_change(self, callback: Callable[[str], None]) -> None:
        self._view.on_change(callback)

    async def refresh(self) -> None:
        await self._view.refresh()

    async def ping(self) -> None:
        try:
            await self._session.call("exists", "/")
        except NodesUnavailable as error:
            raise NodesUnavailable(f"{error}{await self._session.outage_reason()}") from error

    async def close(self) -> None:
        await self._session.close()

    async def _try_to_put(self, spec: NodeSpec, fence: _Fence, node: Node | None) -> bool | None:
        transaction = self._session.transaction()
        if not self._plan_put(transaction, spec, fence, node):
            return True
        return await self._commit(transaction, spec.service)

    def _plan_put(
        self, transaction: TransactionRequest, spec: NodeSpec, fence: _Fence, node: Node | None
    ) -> bool:
        """Add a put to a transaction; False if there is nothing to do. Raises Superseded."""
        service, name = spec.service, spec.name
        _check_fence(fence, service, name, spec.token)
        if node == Node(service, name, spec.data, self.session.id) and fence.token == spec.token:
            return False
        self._plan_replacement(transaction, service, name, fence, _fence_data(spec.token), node)
        transaction.create(self._path(service, name), spec.data, ephemeral=True)
        return True

    async def _try_to_remove(self, service: str, name: str, token: FencingToken) -> bool | None:
        fence, node = await self._read_fence_and_node(service, name)
        _check_fence(fence, service, name, token)
        if node is None and fence.token == token:
            return True
        transaction = self._session.transaction()
        self._plan_replacement(transaction, service, name, fence, _fence_data(token), node)
        return await self._commit(transaction, service)

    async def _try_to_drop(self, service: str, name: str) -> bool | None:
        fence, node = await self._read_fence_and_node(service, name)
        if node is None or node.session != self.session.id:
            return False
        transaction = self._session.transaction()
        self._plan_replacement(transaction, service, name, fence, fence.data, node)
        return await self._commit(transaction, service)

    async def _read_fence_and_node(self, service: str, name: str) -> tuple[_Fence, Node | None]:
        """Read the fence and then the node: every later change of the node changes the fence."""
        return await self._read_fence(service, name), await self._view.read(service, name)

    async def _read_fence(self, service: str, name: str) -> _Fence:
        try:
            return _fence_from_reply(
                await self._session.call("get", self._fence_path(service, name))
            )
        except NoNodeError:
            return _Fence()

    def _plan_replacement(
        self,
        transaction: TransactionRequest,
        service: str,
        name: str,
        fence: _Fence,
        data: bytes,
        node: Node | None,
    ) -> None:
        """Add the change of the fence and the deletion of the known node to a transaction.

        It fails as a whole if the fence has changed. Checking the version of the node would not
        suffice: it begins at 0 when the node is created again.
        """
        if fence.version is None:
            transaction.create(self._fence_path(service, name), data)
        else:
            transaction.set_data(self._fence_path(service, name), data, fence.version)
        if node is not None:
            transaction.delete(self._path(service, name))

    async def _commit(self, transaction: TransactionRequest, service: str) -> bool | None:
        """Return True if the transaction was committed, None if everything has to be read again."""
        results = await self._session.commit(transaction)
        if any(isinstance(result, NoNodeError) for result in results):
            await self._ensure_parents(service)
        return _is_committed(results) or None

    async def _ensure_parents(self, service: str) -> None:
        """Create the parents of nodes and fences of a service, once for all concurrent callers.

        Otherwise 300 first instances would send 2,100 requests instead of 302.
        """
        making = self._parent_tasks.get(service)
        if making is None:
            making = self._parent_tasks[service] = asyncio.create_task(
                self._create_parents(service)
            )
            making.add_done_callback(lambda _: self._parent_tasks.pop(service))
        await asyncio.shield(making)  # other callers wait for it even if this one is cancelled

    async def _create_parents(self, service: str) -> None:
        for parent in self._base, self._fences:
            with suppress(NodeExistsError):
                await self._session.call("create", f"{parent}/{service}", makepath=True)

    async def _retry_until_done(self, attempt: Callable[[], Awaitable[bool | None]]) -> bool:
        try:
            async with timeout_while_running(self._call_seconds):
                while (done := await attempt()) is None:
                    pass
                return done
        except TimeoutError as error:
            raise NodesUnavailable("ZooKeeper does not answer in time") from error

    def _path(self, service: str, name: str) -> str:
        return f"{self._base}/{service}/{name}"

    def _fence_path(self, service: str, name: str) -> str:
        return f"{self._fences}/{service}/{name}"


def _batches(specs: Iterable[NodeSpec]) -> Iterator[Sequence[NodeSpec]]:
    batch: list[NodeSpec] = []
    size = 0
    for one in specs:
        if batch and (len(batch) == _BATCH or size + len(one.data) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.data)
    if batch:
        yield batch


def _fence_from_reply(answer: Any) -> _Fence:
    if isinstance(answer, NoNodeError):
        return _Fence()
    if isinstance(answer, Exception):
        raise answer
    data, stat = answer
    return _Fence(data, stat.version)


def _fence_data(token: FencingToken) -> bytes:
    return f"{token.epoch},{token.term}".encode()


def _check_fence(fence: _Fence, service: str, name: str, token: FencingToken) -> None:
    if fence.token is not None and fence.token > token:
        raise Superseded(service, name, fence.token)


def _is_committed(results: Sequence[object]) -> bool:
    return not any(isinstance(result, Exception) for result in results)
