"""Nodes of instances on ZooKeeper: ephemeral ones, behind fences that are not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import monotonic

from kazoo.exceptions import NodeExistsError, NoNodeError

from app.patience import within
from app.registry.errors import NodesUnavailable, Superseded
from app.registry.port import Node, Session, Wanted
from app.registry.zookeeper_session import CALL_SECONDS, SESSION_SECONDS, ZooKeeperSession
from app.registry.zookeeper_view import ZooKeeperView
from pilothouse_core.curator import MAX_NODE_BYTES
from pilothouse_core.instances import Tag

FENCES = "/pilothouse-epochs"
_BATCH = 50  # nodes that are put at the same time
_PER_SECOND = 2000.0


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
    ) -> None:
        self._base, self._fences = base, fences
        self._session = ZooKeeperSession(hosts, self._connection_moved, seconds=session_seconds)
        self._view = ZooKeeperView(self._session, base)

    def _connection_moved(self) -> None:
        self._view.connection_moved()

    @property
    def session(self) -> Session:
        return self._session.session

    async def put(self, wanted: Wanted) -> None:
        if len(wanted.data) >= MAX_NODE_BYTES:
            raise ValueError("the data of a node is too large")
        await self._until_done(partial(self._try_to_put, wanted))

    async def put_all(self, wanted: Sequence[Wanted]) -> Sequence[Superseded]:
        late: list[Superseded] = []
        rest = iter(wanted)
        while batch := list(islice(rest, _BATCH)):
            began = monotonic()
            results = await asyncio.gather(*map(self.put, batch), return_exceptions=True)
            for result in results:
                match result:
                    case Superseded():
                        late.append(result)
                    case BaseException():
                        raise result
            # The server has others to serve; and a lost session is lost for everybody at once.
            await asyncio.sleep(max(0, began + len(batch) / _PER_SECOND - monotonic()))
        return late

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

    async def _try_to_put(self, wanted: Wanted) -> bool | None:
        service, name = wanted.service, wanted.name
        fence, node = await self._both(service, name)
        _check(fence, service, name, wanted.tag)
        in_place = Node(service, name, wanted.data, self.session.id)
        if node == in_place and fence.tag == wanted.tag:
            return True
        return await self._replace(in_place, fence, _written(wanted.tag), node)

    async def _try_to_remove(self, service: str, name: str, tag: Tag) -> bool | None:
        fence, node = await self._both(service, name)
        _check(fence, service, name, tag)
        if node is None and fence.tag == tag:
            return True
        return await self._replace(Node(service, name, b"", 0), fence, _written(tag), node)

    async def _try_to_drop(self, service: str, name: str) -> bool | None:
        fence, node = await self._both(service, name)
        if node is None or node.session != self.session.id:
            return False
        return await self._replace(Node(service, name, b"", 0), fence, fence.data, node)

    async def _both(self, service: str, name: str) -> tuple[_Fence, Node | None]:
        """Read the fence and then the node: who changes the node later moves the fence."""
        return await self._read_fence(service, name), await self._view.read(service, name)

    async def _read_fence(self, service: str, name: str) -> _Fence:
        try:
            data, stat = await self._session.call("get", self._fence_path(service, name))
        except NoNodeError:
            return _Fence()
        return _Fence(data, stat.version)

    async def _replace(
        self, node: Node, fence: _Fence, moved: bytes, seen: Node | None
    ) -> bool | None:
        """Move the fence, delete what was seen and create `node` if it belongs to our session.

        All or nothing; None: something is not as it was read, and has to be read again. A check of
        the node's own version would not do: it begins at 0 again when the node is created anew.
        """
        path, fence_path = self._path(node), self._fence_path(node.service, node.name)
        transaction = self._session.transaction()
        if fence.version is None:
            transaction.create(fence_path, moved)
        else:
            transaction.set_data(fence_path, moved, fence.version)
        if seen is not None:
            transaction.delete(path)
        if node.session:
            transaction.create(path, node.data, ephemeral=True)
        results = await self._session.commit(transaction)
        if any(isinstance(result, NoNodeError) for result in results):
            await self._create_above(path)
            await self._create_above(fence_path)
        return _happened(results) or None

    async def _create_above(self, path: str) -> None:
        steps = path.split("/")
        for end in range(2, len(steps)):
            with suppress(NodeExistsError):
                await self._session.call("create", "/".join(steps[:end]))

    async def _until_done(self, attempt: Callable[[], Awaitable[bool | None]]) -> bool:
        try:
            async with within(CALL_SECONDS):
                while (done := await attempt()) is None:
                    pass
                return done
        except TimeoutError as error:
            raise NodesUnavailable("ZooKeeper does not answer in time") from error

    def _path(self, node: Node) -> str:
        return f"{self._base}/{node.service}/{node.name}"

    def _fence_path(self, service: str, name: str) -> str:
        return f"{self._fences}/{service}/{name}"


def _written(tag: Tag) -> bytes:
    return f"{tag.epoch},{tag.term}".encode()


def _check(fence: _Fence, service: str, name: str, tag: Tag) -> None:
    if fence.tag is not None and fence.tag > tag:
        raise Superseded(service, name, fence.tag)


def _happened(results: Sequence[object]) -> bool:
    return not any(isinstance(result, Exception) for result in results)
