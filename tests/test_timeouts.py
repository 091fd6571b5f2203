"""A time-out is about the one who is asked, not about how busy the one is who asks."""

import asyncio
from time import monotonic

import pytest

from app.timeouts import timeout_while_running
from tests.servers.process import SLACK_SECONDS


def stand_still(seconds: float) -> None:
    end = monotonic() + seconds
    while monotonic() < end:
        pass


async def test_what_is_done_in_time_is_answered() -> None:
    async with timeout_while_running(5):
        answer = await asyncio.to_thread(lambda: "ahoy")

    assert answer == "ahoy"


async def test_what_never_comes_is_given_up_in_time() -> None:
    began = monotonic()
    with pytest.raises(TimeoutError):
        async with timeout_while_running(0.1):
            await asyncio.Event().wait()

    assert 0.1 <= monotonic() - began < SLACK_SECONDS


async def test_a_standstill_does_not_count_against_an_answer_that_has_come() -> None:
    reader, answer = asyncio.StreamReader(), asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(stand_still, 0.3)
    asyncio.get_running_loop().call_soon(lambda: answer.set_result(b"ahoy"))
    async with timeout_while_running(0.1):
        reader.feed_data(await answer)
        reader.feed_eof()
        for _ in range(20):  # an answer is not taken in one turn
            await asyncio.sleep(0)

    assert await reader.read() == b"ahoy"


async def test_an_ordinary_timer_would_have_counted_it() -> None:
    async def take() -> None:
        async with asyncio.timeout(0.1):
            for _ in range(20):
                await asyncio.sleep(0)

    asyncio.get_running_loop().call_soon(stand_still, 0.3)
    with pytest.raises(TimeoutError):
        await take()


async def test_an_error_passes_through_and_the_timer_is_gone() -> None:
    with pytest.raises(KeyError):
        async with timeout_while_running(0.01):
            raise KeyError("name")

    stand_still(0.02)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_is_cancelled_is_cancelled_and_not_late() -> None:
    async def wait() -> None:
        async with timeout_while_running(5):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
