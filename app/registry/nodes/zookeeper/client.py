"""Ephemeral nodes of instances in ZooKeeper, guarded by persistent fences."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from app.registry.errors import NodesUnavailable, Superseded
from app.registry.nodes.port import Node, NodeSpec, Session
from app.registry.nodes.zookeeper.fences import FencedNodes, is_committed, retry_until_done
from app.registry.nodes.zookeeper.puts import NodePuts
from app.registry.nodes.zookeeper.session import (
    CALL_SECONDS,
    CONNECTION_SECONDS,
    SESSION_SECONDS,
    ZooKeeperSession,
)
from app.registry.nodes.zookeeper.view import ZooKeeperView
from pilothouse_core.instances import FencingToken

FENCES = "/pilothouse-epochs"


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
        self._call_seconds = call_seconds
        self._session = ZooKeeperSession(
            hosts,
            lambda: self._view.on_connection_change(),  # noqa: PLW0108 - created below
            seconds=session_seconds,
            connection_seconds=connection_seconds,
            call_seconds=call_seconds,
        )
        self._view = ZooKeeperView(self._session, base)
        self._fenced = FencedNodes(self._session, self._view, base, fences)
        self._puts = NodePuts(self._session, self._view, self._fenced, call_seconds)

    @property
    def session(self) -> Session:
        return self._session.session

    async def put(self, spec: NodeSpec) -> None:
        await self._puts.put(spec)

    async def put_all(self, specs: Iterable[NodeSpec]) -> Sequence[Superseded]:
        return await self._puts.put_all(specs)

    async def remove(self, service: str, name: str, token: FencingToken) -> None:
        attempt = partial(self._fenced.try_to_remove, service, name, token)
        await retry_until_done(attempt, self._call_seconds)

    async def drop(self, service: str, name: str) -> bool:
        attempt = partial(self._fenced.try_to_drop, service, name)
        return await retry_until_done(attempt, self._call_seconds)

    async def node(self, service: str, name: str) -> Node | None:
        return await self._view.read(service, name)

    async def fence(self, service: str, name: str) -> FencingToken | None:
        return (await self._fenced.read_fence(service, name)).token

    async def reap(self, service: str, name: str, token: FencingToken) -> bool:
        fence, node = await self._fenced.read_both(service, name)
        if fence.version is None:
            return True
        if node is not None or (fence.token is not None and fence.token > token):
            return False
        transaction = self._session.transaction()
        transaction.delete(self._fenced.fence_path(service, name), fence.version)
        return is_committed(await self._session.commit(transaction))

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
