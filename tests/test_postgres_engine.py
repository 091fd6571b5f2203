import asyncio
import gc
from time import monotonic

import pytest

from app.postgres.calls import measure_call
from app.postgres.engine import run_with_timeout
from app.telemetry import REGISTRY
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS


async def test_an_answer_in_time_is_passed_on() -> None:
    async def answer() -> int:
        return 42

    assert await run_with_timeout(1, answer()) == 42


async def test_a_failure_in_time_is_passed_on() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await run_with_timeout(1, fail())


async def test_the_caller_does_not_wait_for_the_clean_up() -> None:
    cleaned_up, go_on = asyncio.Event(), asyncio.Event()

    async def slow_to_stop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()
            cleaned_up.set()

    began = monotonic()
    with pytest.raises(TimeoutError):
        await run_with_timeout(0.05, slow_to_stop())
    assert monotonic() - began < SLACK_SECONDS
    assert not cleaned_up.is_set()

    go_on.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await cleaned_up.wait()


async def test_a_failure_after_the_caller_has_left_disturbs_nobody() -> None:
    disturbances: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: disturbances.append(facts))
    failed = asyncio.Event()

    async def fail_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            failed.set()
            raise ConnectionError

    with pytest.raises(TimeoutError):
        await run_with_timeout(0.01, fail_late())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await failed.wait()
    await asyncio.sleep(0)  # lets the task end, and be collected

    asyncio.get_running_loop().set_exception_handler(None)
    assert disturbances == []


async def test_a_failure_while_the_caller_is_cancelled_disturbs_nobody() -> None:
    disturbances: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, facts: disturbances.append(facts))
    begun, away = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await away.wait()
        raise ConnectionError

    caller = asyncio.create_task(run_with_timeout(10, fail()))
    await begun.wait()
    away.set()
    await asyncio.sleep(0)  # it fails, and nobody was told yet
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    del caller
    await asyncio.sleep(0)  # lets the task end, and be collected
    gc.collect()

    asyncio.get_running_loop().set_exception_handler(None)
    assert disturbances == []


async def test_a_caller_who_is_cancelled_cancels_the_call() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    caller = asyncio.create_task(run_with_timeout(10, call()))
    await begun.wait()
    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller
    async with asyncio.timeout(PATIENCE_SECONDS):
        await cancelled.wait()


def test_a_call_is_counted_by_what_became_of_it() -> None:
    def count(outcome: str) -> float:
        labels = {"operation": "test", "outcome": outcome}
        return REGISTRY.get_sample_value("pilothouse_database_calls_total", labels) or 0

    with measure_call("test"):
        pass
    with pytest.raises(TimeoutError), measure_call("test"):
        raise TimeoutError

    assert (count("ok"), count("failed")) == (1, 1)
    duration = "pilothouse_database_call_duration_seconds_count"
    assert REGISTRY.get_sample_value(duration, {"operation": "test"}) == 2
