"""Requests of many callers that are carried out together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Gathering(Generic[T, R]):
    """While one batch is under way the next one gathers: nobody waits for a batch to fill."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        at_most: int,
    ) -> None:
        """Have at most so many requests carried out together; each gets a result or an error."""
        self._carry_out = carry_out
        self._at_most = at_most
        self._gathered: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._under_way: asyncio.Task[None] | None = None

    async def add(self, request: T) -> R:
        """Return the result or raise the error of a request, or that of its whole batch.

        Who stops waiting before it is carried out takes it back.
        """
        waiting: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._gathered.append((request, waiting))
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._go_on())
        return await waiting

    async def _go_on(self) -> None:
        try:
            while self._gathered:
                size = min(len(self._gathered), self._at_most)
                batch = [self._gathered.popleft() for _ in range(size)]
                await self._settle([one for one in batch if not one[1].done()])
        finally:
            self._under_way = None

    async def _settle(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        if not batch:
            return
        results: Sequence[R | Exception]
        try:
            results = await self._carry_out([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to those who wait
            results = [error] * len(batch)
        for (_, waiting), result in zip(batch, results, strict=True):
            if waiting.done():
                continue
            if isinstance(result, Exception):
                waiting.set_exception(result)
            else:
                waiting.set_result(result)
