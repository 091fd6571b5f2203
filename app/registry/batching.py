"""Batches concurrent requests of many callers."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """While one batch runs, the next one is collected; no batch waits until it is full."""

    def __init__(
        self,
        run_batch: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        max_size: int,
    ) -> None:
        """Run at most `max_size` requests in a batch; each gets a result or an error."""
        self._run_batch = run_batch
        self._max_size = max_size
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._under_way: asyncio.Task[None] | None = None

    async def submit(self, request: T) -> R:
        """Return the result or raise the error of a request, or that of its whole batch.

        A caller that is cancelled before its batch runs withdraws the request.
        """
        waiting: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((request, waiting))
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._run_batches())
        return await waiting

    async def _run_batches(self) -> None:
        try:
            while self._queue:
                size = min(len(self._queue), self._max_size)
                batch = [self._queue.popleft() for _ in range(size)]
                await self._settle([one for one in batch if not one[1].done()])
        finally:
            self._under_way = None

    async def _settle(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        if not batch:
            return
        results: Sequence[R | Exception]
        try:
            results = await self._run_batch([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised by every waiting caller
            results = [error] * len(batch)
        for (_, waiting), result in zip(batch, results, strict=True):
            if waiting.done():
                continue
            if isinstance(result, Exception):
                waiting.set_exception(result)
            else:
                waiting.set_result(result)
