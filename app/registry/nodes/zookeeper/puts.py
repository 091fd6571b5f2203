"""Puts of nodes, one by one and in batches."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic

from app.registry.errors import Superseded
from app.registry.nodes.port import Node, NodeSpec
from app.registry.nodes.zookeeper.fences import Fence, FencedNodes, is_committed, retry_until_done
from app.registry.nodes.zookeeper.session import ZooKeeperSession
from app.registry.nodes.zookeeper.view import ZooKeeperView
from pilothouse_core.curator import MAX_NODE_BYTES

_BATCH = 50  # nodes that are put in one transaction
_BATCH_BYTES = 512 * 1024  # in one transaction: ZooKeeper closes a connection that sends a mebibyte
_PER_SECOND = 8000.0


class NodePuts:
    """New nodes are put without reading them first; `call_seconds` bounds one put."""

    def __init__(
        self,
        session: ZooKeeperSession,
        view: ZooKeeperView,
        fenced: FencedNodes,
        call_seconds: float,
    ) -> None:
        self._session = session
        self._view = view
        self._fenced = fenced
        self._call_seconds = call_seconds

    async def put(self, spec: NodeSpec) -> None:
        if len(spec.data) >= MAX_NODE_BYTES:
            raise ValueError("the data of a node is too large")
        session, connections = self._session.session.id, self._view.connections
        is_new = self._fenced.is_new(spec)

        async def attempt() -> bool | None:
            nonlocal is_new
            if is_new and spec.service not in self._view.nodes:
                await self._fenced.ensure_parents(spec.service)
            fence, node = (
                await self._fenced.guess_fence(spec)
                if is_new
                else await self._fenced.read_both(spec.service, spec.name)
            )
            is_new = False  # a second attempt means that the guess was wrong
            return await self._try_to_put(spec, fence, node)

        await retry_until_done(attempt, self._call_seconds)
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
        await asyncio.gather(
            *map(self._fenced.ensure_parents, {one.service for one in batch} - seen)
        )
        transaction = self._session.transaction()
        states = await self._fenced.read_many(batch, guesses=not again)
        for spec, (fence, node) in zip(batch, states, strict=True):
            try:
                if self._fenced.plan_put(transaction, spec, fence, node):
                    pending.append(spec)
            except Superseded as error:
                late.append(error)
        if not pending or is_committed(await self._session.commit(transaction)):
            return late
        if not again:  # a node was not new after all, or a parent was removed
            return late + await self._put_batch(pending, again=True)
        # A race for one node fails the whole transaction: put each by itself.
        errors = await asyncio.gather(*map(self._put_single, pending))
        return late + [error for error in errors if error is not None]

    async def _try_to_put(self, spec: NodeSpec, fence: Fence, node: Node | None) -> bool | None:
        transaction = self._session.transaction()
        if not self._fenced.plan_put(transaction, spec, fence, node):
            return True
        return await self._fenced.commit(transaction, spec.service)

    async def _put_single(self, spec: NodeSpec) -> Superseded | None:
        try:
            await self.put(spec)
        except Superseded as error:
            return error
        return None


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
