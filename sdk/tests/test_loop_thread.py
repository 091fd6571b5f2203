"""The thread with an event loop, and the locks, that both configuration clients use."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from pilothouse.background import Background
from pilothouse.errors import PilothouseError
from pilothouse.forks import ForkLock
from pilothouse.loop_thread import LoopThread
from tests.servers.process import PATIENCE_SECONDS


async def _do_nothing() -> None:
    pass


def test_a_closed_thread_has_cancelled_what_still_ran() -> None:
    thread = LoopThread("test-loop")
    waiting = thread.submit(asyncio.sleep(3600))

    thread.close()

    with pytest.raises(CancelledError):
        waiting.result(PATIENCE_SECONDS)
    assert thread.loop.is_closed()


def test_the_loop_runs_as_soon_as_the_thread_exists() -> None:
    thread = LoopThread("test-loop")
    assert thread.loop.is_running()
    assert not thread.is_current
    thread.close()


def test_a_caller_that_waits_for_a_closing_client_gets_an_error() -> None:
    background = Background(_do_nothing, _do_nothing)
    background.start()
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(3600)

    call: Coroutine[Any, Any, None] = wait()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(background.run, call)
        assert begun.wait(PATIENCE_SECONDS)
        background.close()
        with pytest.raises(PilothouseError, match="was closed"):
            running.result(PATIENCE_SECONDS)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("is_reentrant", [False, True])
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_process(is_reentrant: bool) -> None:  # noqa: FBT001
    guard = ForkLock(is_reentrant=is_reentrant)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with guard.lock:
            held.set()
            release.wait(PATIENCE_SECONDS)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE_SECONDS)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if guard.lock.acquire(timeout=1) else 1)
    _, status = os.waitpid(pid, 0)
    is_free = guard.lock.acquire(blocking=False)
    release.set()
    holder.join()

    assert os.waitstatus_to_exitcode(status) == 0
    assert not is_free  # in the parent, where it is held
