"""Subscribers to changes, which are called in order; an exception of one affects no other."""

import asyncio
import inspect
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pilothouse.changes import ConfigChange, concerns
from pilothouse.forks import ForkLock

Callback = Callable[[ConfigChange], object]
BatchCallback = Callable[[list[ConfigChange]], object]
_log = logging.getLogger(__name__)


class Subscription:
    """The reference to hand to `unsubscribe`."""

    __slots__ = ("__weakref__", "_callback", "_pending", "_task", "in_batches", "path")

    def __init__(
        self,
        callback: Callable[[Any], object],
        path: str | None,
        gone: Callable[["Subscription"], object],
        *,
        in_batches: bool = False,
    ) -> None:
        self.path = path
        self.in_batches = in_batches
        self._pending: deque[Awaitable[object]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._callback: Callable[[], Callable[[Any], object] | None]
        if inspect.ismethod(callback):
            # A strong reference would keep the object alive as long as its subscription.
            own = weakref.ref(self)
            self._callback = weakref.WeakMethod(callback, lambda _: _drop(own, gone))
        else:
            self._callback = lambda: callback

    def concerns(self, change: ConfigChange) -> bool:
        return concerns(self.path or "", change.path)

    def call(self, change: ConfigChange) -> None:
        self._call(change, change.path)

    def call_with_batch(self, changes: Iterable[ConfigChange]) -> None:
        """Call once with the list of all changes that concern this subscription."""
        concerning = [change for change in changes if self.concerns(change)]
        if concerning:
            self._call(concerning, ", ".join(change.path for change in concerning))

    def _call(self, argument: Any, paths: str) -> None:
        callback = self._callback()
        if callback is None:
            return
        try:
            result = callback(argument)
            if inspect.isawaitable(result):
                self._wait_for(result)
        except Exception:  # noqa: BLE001 - it is the caller's code
            _log.exception("a callback failed on the change of %s", paths)

    def _wait_for(self, result: Awaitable[object]) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if inspect.iscoroutine(result):
                result.close()
            raise RuntimeError("an async callback needs the manager to be started") from None
        # One after the other: two tasks would report changes in any order.
        self._pending.append(result)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._await_pending())

    def renew(self) -> object:
        """Forget the task of the parent process, and return it."""
        task, self._task = self._task, None
        return task

    async def _await_pending(self) -> None:
        while self._pending:
            try:
                await self._pending.popleft()
            except Exception:  # noqa: BLE001 - it is the caller's code
                _log.exception("a callback failed on a change below %r", self.path or "")


def _drop(own: "weakref.ref[Subscription]", gone: Callable[[Subscription], object]) -> None:
    subscription = own()
    if subscription is not None:
        gone(subscription)


class Subscriptions:
    """The callbacks of one manager."""

    def __init__(self) -> None:
        # Reentrant: a bound method's object may be collected while this very thread holds it.
        self._lock = ForkLock(is_reentrant=True)
        self._all: tuple[Subscription, ...] = ()
        self._waiting: deque[tuple[ConfigChange, ...]] = deque()
        self._is_notifying = False

    def __len__(self) -> int:
        return len(self._all)

    def renew(self) -> object:
        """Continue in a forked process, and return what belongs to its parent.

        The thread that was calling subscribers may not exist here.
        """
        self._is_notifying = False
        return [subscription.renew() for subscription in self._all]

    def add(self, callback: Callback, path: str | None) -> Subscription:
        return self._add(Subscription(callback, path, self.remove))

    def add_batch(self, callback: BatchCallback, path: str | None) -> Subscription:
        return self._add(Subscription(callback, path, self.remove, in_batches=True))

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock.lock:
            self._all = (*self._all, subscription)
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """Return whether it was subscribed."""
        with self._lock.lock:
            kept = tuple(one for one in self._all if one is not subscription)
            is_known = len(kept) < len(self._all)
            self._all = kept
        return is_known

    def note(self, changes: Iterable[ConfigChange]) -> None:
        """Add changes, in the order in which subscribers are to be called."""
        batch = tuple(changes)
        if batch:
            self._waiting.append(batch)

    def notify(self) -> None:
        """Call subscribers with all noted changes, unless another caller does so at this time."""
        while True:
            with self._lock.lock:
                if self._is_notifying or not self._waiting:
                    return
                self._is_notifying = True
                batch = self._waiting.popleft()
                subscriptions = self._all
            try:
                for change in batch:
                    for subscription in subscriptions:
                        if not subscription.in_batches and subscription.concerns(change):
                            subscription.call(change)
                for subscription in subscriptions:
                    if subscription.in_batches:
                        subscription.call_with_batch(batch)
            finally:
                with self._lock.lock:
                    self._is_notifying = False
