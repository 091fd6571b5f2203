"""Requests that are carried out together: who gets what, and who waits for whom."""

import asyncio
from collections.abc import Sequence

import pytest

from app.registry.batching import Batcher


class Work:
    """Doubles numbers, a batch at a time, when it is let; what is below 0 is refused."""

    def __init__(self, at_most: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may = asyncio.Event(), asyncio.Event()
        self.gathering = Batcher(self._carry_out, at_most)

    async def _carry_out(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append([*numbers])
        self.begun.set()
        await self.may.wait()
        if 0 in numbers:
            raise ZeroDivisionError
        return [ValueError(number) if number < 0 else 2 * number for number in numbers]

    def ask(self, *numbers: int) -> "list[asyncio.Future[int]]":
        return [asyncio.ensure_future(self.gathering.submit(number)) for number in numbers]


async def begin(work: Work) -> "asyncio.Future[int]":
    """Have a first batch under way."""
    (first,) = work.ask(1)
    await work.begun.wait()
    return first


async def test_what_comes_while_a_batch_is_under_way_makes_the_next_ones() -> None:
    work = Work(at_most=3)
    first = await begin(work)
    others = work.ask(2, 3, 4, 5)
    work.may.set()

    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert work.batches == [[1], [2, 3, 4], [5]]
    assert await work.gathering.submit(6) == 12


async def test_each_gets_its_own_error() -> None:
    work = Work()
    work.may.set()

    outcomes = await asyncio.gather(*work.ask(1, -1, 2), return_exceptions=True)

    assert [outcomes[0], outcomes[2]] == [2, 4]
    assert isinstance(outcomes[1], ValueError)


async def test_the_error_of_a_batch_reaches_all_of_it_and_no_other() -> None:
    work = Work()
    first = await begin(work)
    failing = work.ask(0, 7)
    work.may.set()

    assert await first == 2
    for one in failing:
        with pytest.raises(ZeroDivisionError):
            await one
    assert await work.gathering.submit(3) == 6


async def test_who_stops_waiting_takes_the_request_back_and_no_other_along() -> None:
    work = Work()
    first = await begin(work)
    impatient, patient, last = work.ask(2, 3, 4)
    await asyncio.sleep(0)
    first.cancel()
    impatient.cancel()
    work.may.set()

    assert [await patient, await last] == [6, 8]
    assert work.batches == [[1], [3, 4]]
