"""Starts and stops a manager, on a loop of the program or in a thread, also after a fork."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from pilothouse.forks import ForkLock, keep_of_parent
from pilothouse.loop_thread import run_and_wait
from pilothouse.reload.errors import StartFailed
from pilothouse.reload.home import HomeLoop
from pilothouse.reload.model import ReloadResult
from pilothouse.reload.reloader import Reloader
from pilothouse.reload.sources.file_watch import prepare
from pilothouse.reload.subscriptions import Subscriptions
from pilothouse.reload.watchers import Watchers

Result = TypeVar("Result")
_guard = ForkLock()  # of every start


class Lifecycle:
    """Knows whether the manager has been started, and where."""

    def __init__(
        self,
        home: HomeLoop,
        reloader: Reloader,
        watchers: Watchers,
        subscriptions: Subscriptions,
        *,
        watch_files: bool,
    ) -> None:
        self._home = home
        self._reloader = reloader
        self._watchers = watchers
        self._subscriptions = subscriptions
        self._watch_files = watch_files
        self._starting: Future[ReloadResult] | None = None
        self._pid = os.getpid()
        self.is_started = False

    def touch(self) -> None:
        """Begin again if this is a forked process: what ran in its parent does not run here."""
        if self._pid != os.getpid():
            self._begin_in_fork()

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and the loop it was started on still runs."""
        self.touch()
        return self.is_started and self._home.running is not None

    @property
    def has_lost_loop(self) -> bool:
        """Whether it has been started, and the loop it was started on has ended."""
        self.touch()
        return self.is_started and self._home.running is None

    async def start(self) -> ReloadResult:
        """Start once; a second call while the first one is under way waits for it."""
        self.touch()
        self._leave_ended_loop()
        if self.is_started:
            return self._reloader.unchanged_result()
        with _guard.lock:
            before = self._starting
            starting: Future[ReloadResult] = Future()
            if before is None:
                self._starting = starting
        if before is not None:
            return await asyncio.shield(asyncio.wrap_future(before))
        try:
            result = await self._start()
        except asyncio.CancelledError:
            self._home.leave()
            starting.set_exception(RuntimeError("the start was cancelled"))
            raise
        except BaseException as error:
            self._home.leave()
            starting.set_exception(error)
            raise
        else:
            starting.set_result(result)
            return result
        finally:
            self._starting = None

    def start_sync(self) -> ReloadResult:
        self.touch()
        self._leave_ended_loop()
        if self.is_started:
            return self._reloader.unchanged_result()
        thread = self._home.open_thread()
        try:
            result = run_and_wait(self.start(), thread.loop)
        except BaseException:
            thread.close()
            raise
        self._home.adopt(thread)  # unless it was being started elsewhere
        return result

    async def stop(self) -> None:
        self.touch()
        self._leave_ended_loop()
        await self._home.run(self._stop)
        thread = self._home.take_thread()
        if thread is not None:
            await asyncio.to_thread(thread.close)

    def stop_sync(self) -> None:
        self.touch()
        self._leave_ended_loop()
        run_and_wait(self._home.run(self._stop), self._home.running)
        thread = self._home.take_thread()
        if thread is not None:
            thread.close()

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `work()` on the loop of the manager, where its connections and callbacks belong."""
        self.touch()
        return await self._home.run(work)

    def run_sync(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `work()` as `run` does, and wait for it."""
        self.touch()
        return run_and_wait(self._home.run(work), self._home.running)

    def load_sync(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `work()` as `run_sync` does, and close the connections of a loop that it ends."""
        self.touch()
        if self._home.running is not None:
            return self.run_sync(work)

        async def load_once() -> Result:
            try:
                return await work()
            finally:
                await self._watchers.close_sources()

        return run_and_wait(load_once(), None)

    async def _start(self) -> ReloadResult:
        self._home.enter()
        if self._watch_files and any(one.kind == "file" for one in self._reloader.members):
            await asyncio.to_thread(prepare)
        try:
            result = await self._reloader.load_first()
        except StartFailed:
            await self._watchers.close_sources()
            raise
        self.is_started = True
        self._reloader.tally.measures.open()
        self._watchers.begin_all()
        return result

    async def _stop(self) -> None:
        await self._watchers.stop()
        if self.is_started:
            self._reloader.tally.measures.close()
        self.is_started = False
        self._home.leave()

    def _leave_ended_loop(self) -> None:
        """Forget a loop that has ended without `stop`, as after `asyncio.run(manager.start())`."""
        if not self.has_lost_loop:
            return
        self._watchers.leave_ended_loop()
        self._reloader.tally.measures.close()
        self._home.leave()
        self.is_started = False

    def _begin_in_fork(self) -> None:
        with _guard.lock:
            if self._pid == os.getpid():
                return
            has_thread = self._home.has_thread
            watchers = self._watchers.forget()
            keep_of_parent(self._home.forget(), watchers, self._subscriptions.renew())
            self._starting = None
            was_started, self.is_started = self.is_started, False
            if was_started and has_thread:
                loop = self._home.begin_in_fork()
                self.is_started = True
                loop.call_soon_threadsafe(self._watchers.begin_all)
            self._pid = os.getpid()
