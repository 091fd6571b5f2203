"""Nodes of instances on ZooKeeper: ephemeral ones, behind fences that are not."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from kazoo.client import TransactionRequest
from kazoo.exceptions import NodeExistsError, NoNodeError

from app.patience import within
from app.registry.errors import NodesUnavailable, Superseded
from app.registry.port import Node, Session, Wanted
from app.registry.zookeeper_session import (
    CALL_SECONDS,
    CONNECTION_SECONDS,
    SESSION_SECONDS,
    ZooKeeperSession,
)
from app.registry.zookeeper_view import ZooKeeperView, node_of
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import Tag

FENCES = "/pilothouse-epochs"
_BATCH = 50  # nodes that are put in one transaction
_BATCH_BYTES = 512 * 1024  # in it: ZooKeeper drops the connection of whoever sends a mebibyte
_PER_SECOND = 8000.0
_FIRST = Tag(1, 1)  # before which there is none, and so no fence


@dataclass(frozen=True, slots=True)
class _Fence:
    data: bytes = b""
    version: int | None = None  # None: there is none

    @property
    def tag(self) -> Tag | None:
        """Return its tag; what is none keeps nobody out, and is written over."""
        epoch, _, term = self.data.partition(b",")
        return Tag(int(epoch), int(term)) if epoch.isdigit() and term.isdigit() else None


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
    ) -> None:
        self._base, self._fences = base, fences
        self._session = ZooKeeperSession(
            hosts,
            self._connection_moved,
            seconds=session_seconds,
            connection_seconds=connection_seconds,
        )
        self._view = ZooKeeperView(self._session, base)
        self._making: dict[str, asyncio.Task[None]] = {}  # where a service's nodes will be

    def _connection_moved(self) -> None:
        self._view.connection_moved()

    @property
    def session(self) -> Session:
        return self._session.session

    async def put(self, wanted: Wanted) -> None:
        if len(wanted.data) >= MAX_NODE_BYTES:
            raise ValueError("the data of a node is too large")
        session, connections = self.session.id, self._view.connections
        is_new = self._is_new(wanted)

        async def attempt() -> bool | None:
            nonlocal is_new
            if is_new and wanted.service not in self._view.nodes:
                await self._make_room(wanted.service)
            fence, node = (
                await self._guess(wanted)
                if is_new
                else await self._both(wanted.service, wanted.name)
            )
            is_new = False  # or else the guess was wrong
            return await self._try_to_put(wanted, fence, node)

        await self._until_done(attempt)
        self._view.tell(Node(wanted.service, wanted.name, wanted.data, session), connections)

    async def put_all(self, wanted: Iterable[Wanted]) -> Sequence[Superseded]:
        late: list[Superseded] = []
        for batch in _batches(wanted):
            began = monotonic()
            late += await self._put_together(batch)
            # The server has others to serve; and a lost session is lost for everybody at once.
            await asyncio.sleep(max(0, began + len(batch) / _PER_SECOND - monotonic()))
        return late

    async def _put_together(
        self, batch: Sequence[Wanted], *, again: bool = False
    ) -> list[Superseded]:
        """Put all in one transaction: it costs both sides far less than one for each."""
        late: list[Superseded] = []
        planned = []
        seen = frozenset() if again else self._view.nodes.keys()
        await asyncio.gather(*map(self._make_room, {one.service for one in batch} - seen))
        transaction = self._session.transaction()
        found = await self._found_for_each(batch, guesses=not again)
        for wanted, (fence, node) in zip(batch, found, strict=True):
            try:
                if self._plan_to_put(transaction, wanted, fence, node):
                    planned.append(wanted)
            except Superseded as error:
                late.append(error)
        if not planned or _happened(await self._session.commit(transaction)):
            return late
        if not again:  # what seemed new was not, or somebody has removed what is above
            return late + await self._put_together(planned, again=True)
        # A race for one of them fails all. Each by itself, the others are put.
        told = await asyncio.gather(*map(self._put_or_tell, planned))
        return late + [error for error in told if error is not None]

    async def _put_or_tell(self, wanted: Wanted) -> Superseded | None:
        try:
            await self.put(wanted)
        except Superseded as error:
            return error
        return None

    def _is_new(self, wanted: Wanted) -> bool:
        """Tell whether no node can be seen: it is then created, without a look, if there is none.

        Should there be one after all, the transaction fails, and everything is read.
        """
        nodes = self._view.nodes.get(wanted.service, {})
        return self._view.is_current and wanted.name not in nodes

    async def _guess(self, wanted: Wanted) -> tuple[_Fence, None]:
        if wanted.tag == _FIRST:
            return _Fence(), None
        return await self._read_fence(wanted.service, wanted.name), None

    async def _found_for_each(
        self, batch: Sequence[Wanted], *, guesses: bool
    ) -> list[tuple[_Fence, Node | None]]:
        """Read all fences and then all nodes, which is the order in which they are answered.

        With guesses, no node that is new; but fences, because most of what is put here was put
        before. Nor is a fence remembered that was written here: once it is reaped and created anew,
        its version begins at 0 again.
        """
        names = [(one.service, one.name) for one in batch]
        of_nodes = [(one.service, one.name) for one in batch if not (guesses and self._is_new(one))]
        paths = [self._fence_path(*of) for of in names] + [self._path(*of) for of in of_nodes]
        answers = iter(await self._session.read_many(paths))
        fences = [_fence_of(next(answers)) for _ in names]
        nodes = {of: node_of(*of, next(answers)) for of in of_nodes}
        return [(fence, nodes.get(of)) for of, fence in zip(names, fences, strict=True)]

    async def remove(self, service: str, name: str, tag: Tag) -> None:
        await self._until_done(partial(self._try_to_remove, service, name, tag))

    async def drop(self, service: str, name: str) -> bool:
        return await self._until_done(partial(self._try_to_drop, service, name))

    async def node(self, service: str, name: str) -> Node | None:
        return await self._view.read(service, name)

    async def fence(self, service: str, name: str) -> Tag | None:
        return (await self._read_fence(service, name)).tag

    async def reap(self, service: str, name: str, tag: Tag) -> bool:
        fence, node = await self._both(service, name)
        if fence.version is None:
            return True
        if node is not None or (fence.tag is not None and fence.tag > tag):
            return False
        transaction = self._session.transaction()
        transaction.delete(self._fence_path(service, name), fence.version)
        return _happened(await self._session.commit(transaction))

    async def follow(self) -> None:
        await self._view.follow()

    @property
    def nodes(self) -> Mapping[str, Mapping[str, Node]]:
        return self._view.nodes

    @property
    def is_current(self) -> bool:
        return self._view.is_current

    def listen(self, heard: Callable[[str], None]) -> None:
        self._view.listen(heard)

    async def refresh(self) -> None:
        await self._view.refresh()

    async def ping(self) -> None:
        await self._session.call("exists", "/")

    async def close(self) -> None:
        await self._session.close()

    async def _try_to_put(self, wanted: Wanted, fence: _Fence, node: Node | None) -> bool | None:
        transaction = self._session.transaction()
        if not self._plan_to_put(transaction, wanted, fence, node):
            return True
        return await self._carry_out(transaction, wanted.service)

    def _plan_to_put(
        self, transaction: TransactionRequest, wanted: Wanted, fence: _Fence, node: Node | None
    ) -> bool:
        """Tell whether there is anything left to do; raises Superseded."""
        service, name = wanted.service, wanted.name
        _check(fence, service, name, wanted.tag)
        if node == Node(service, name, wanted.data, self.session.id) and fence.tag == wanted.tag:
            return False
        self._replace(transaction, service, name, fence, _written(wanted.tag), node)
        transaction.create(self._path(service, name), wanted.data, ephemeral=True)
        return True

    async def _try_to_remove(self, service: str, name: str, tag: Tag) -> bool | None:
        fence, node = await self._both(service, name)
        _check(fence, service, name, tag)
        if node is None and fence.tag == tag:
            return True
        transaction = self._session.transaction()
        self._replace(transaction, service, name, fence, _written(tag), node)
        return await self._carry_out(transaction, service)

    async def _try_to_drop(self, service: str, name: str) -> bool | None:
        fence, node = await self._both(service, name)
        if node is None or node.session != self.session.id:
            return False
        transaction = self._session.transaction()
        self._replace(transaction, service, name, fence, fence.data, node)
        return await self._carry_out(transaction, service)

    async def _both(self, service: str, name: str) -> tuple[_Fence, Node | None]:
        """Read the fence and then the node: who changes the node later moves the fence."""
        return await self._read_fence(service, name), await self._view.read(service, name)

    async def _read_fence(self, service: str, name: str) -> _Fence:
        try:
            return _fence_of(await self._session.call("get", self._fence_path(service, name)))
        except NoNodeError:
            return _Fence()

    def _replace(
        self,
        transaction: TransactionRequest,
        service: str,
        name: str,
        fence: _Fence,
        moved: bytes,
        seen: Node | None,
    ) -> None:
        """Have a transaction move the fence and delete the node that was seen.

        It fails as a whole if the fence is not as it was read. A check of the node's own version
        would not do: it begins at 0 again when the node is created anew.
        """
        if fence.version is None:
            transaction.create(self._fence_path(service, name), moved)
        else:
            transaction.set_data(self._fence_path(service, name), moved, fence.version)
        if seen is not None:
            transaction.delete(self._path(service, name))

    async def _carry_out(self, transaction: TransactionRequest, service: str) -> bool | None:
        """Return True if all of it happened, None if nothing did and all is to be read again."""
        results = await self._session.commit(transaction)
        if any(isinstance(result, NoNodeError) for result in results):
            await self._make_room(service)
        return _happened(results) or None

    async def _make_room(self, service: str) -> None:
        """Create what is above the nodes and fences of a service, once for all who want it now.

        Each for itself, three hundred first instances would ask for 2,100 things instead of 302.
        """
        making = self._making.get(service)
        if making is None:
            making = self._making[service] = asyncio.create_task(self._create_both(service))
            making.add_done_callback(lambda _: self._making.pop(service))
        await asyncio.shield(making)  # the others want it even if this one is given up

    async def _create_both(self, service: str) -> None:
        for above in self._base, self._fences:
            with suppress(NodeExistsError):
                await self._session.call("create", f"{above}/{service}", makepath=True)

    async def _until_done(self, attempt: Callable[[], Awaitable[bool | None]]) -> bool:
        try:
            async with within(CALL_SECONDS):
                while (done := await attempt()) is None:
                    pass
                return done
        except TimeoutError as error:
            raise NodesUnavailable("ZooKeeper does not answer in time") from error

    def _path(self, service: str, name: str) -> str:
        return f"{self._base}/{service}/{name}"

    def _fence_path(self, service: str, name: str) -> str:
        return f"{self._fences}/{service}/{name}"


def _batches(wanted: Iterable[Wanted]) -> Iterator[Sequence[Wanted]]:
    batch: list[Wanted] = []
    size = 0
    for one in wanted:
        if batch and (len(batch) == _BATCH or size + len(one.data) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.data)
    if batch:
        yield batch


def _fence_of(answer: Any) -> _Fence:
    if isinstance(answer, NoNodeError):
        return _Fence()
    if isinstance(answer, Exception):
        raise answer
    data, stat = answer
    return _Fence(data, stat.version)


def _written(tag: Tag) -> bytes:
    return f"{tag.epoch},{tag.term}".encode()


def _check(fence: _Fence, service: str, name: str, tag: Tag) -> None:
    if fence.tag is not None and fence.tag > tag:
        raise Superseded(service, name, fence.tag)


def _happened(results: Sequence[object]) -> bool:
    return not any(isinstance(result, Exception) for result in results)
