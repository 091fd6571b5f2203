"""Keeps copies current: by one stream of events for all, else by waiting reads, else by polling.

A `Resource` is one thing that the service holds, with its URL and what to do with an answer. The
`Follower` reads each when an event concerns it, and compares by ETag. Without a stream it lets the
service hold the read until something changes (`Prefer: wait`, RFC 7240); where that is not
understood either, it reads at intervals. Whatever fails is tried again after full jitter.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pilothouse.errors import BadAnswer, PilothouseError, Unavailable
from pilothouse.stream import EventStream
from pilothouse.timeouts import cancel_and_wait, wait_for_event
from pilothouse.transport import Answer, Transport, full_jitter

Mode = Literal["stream", "waiting", "polling"]
_log = logging.getLogger("pilothouse")


@dataclass(frozen=True)
class RefreshPolicy:
    """How and how often the client looks for changes; all times in seconds.

    `mode` is the preferred way: `waiting` and `polling` are for networks that block streams.
    `poll_interval` is also how often the client reads while it has a stream.
    """

    mode: Mode = "stream"
    poll_interval: float = 30.0
    wait: float = 30.0
    backoff: float = 0.5
    longest_backoff: float = 30.0

    def after_failures(self, failures: int) -> float:
        return full_jitter(failures, self.backoff, self.longest_backoff)


def _any_change(_: Mapping[str, Any]) -> bool:
    return True


@dataclass(eq=False)
class Resource:
    """A resource of the service of which the client keeps a copy.

    `accept` takes an answer with status 200 and swaps the copy; whatever it raises refuses the
    answer, which is logged, and the copy stays. `recheck` is called when the service says that the
    copy is current; what it raises is recorded, and the copy stays. `kinds` are the kinds of change
    that concern it (`config`, `flag`, `segment`, `instance`, `schema`), `concerns` decides about
    one change by the data of its event (`kind`, `environment`, `name`, ...). `saved` returns the
    part for the snapshot on disk, as JSON, or None; `restore` accepts it at the next start.
    `noticed` is called whenever a read has failed, and when one succeeds for the first time or
    again. `is_held`: the stream does not report every change of it, so the service also holds reads
    while there is a stream.
    """

    name: str
    path: str
    params: Mapping[str, str]
    accept: Callable[[Answer], Awaitable[None]]
    kinds: frozenset[str] = frozenset()
    concerns: Callable[[Mapping[str, Any]], bool] = _any_change
    saved: Callable[[], Any] | None = None
    restore: Callable[[Any], None] | None = None
    noticed: Callable[[], None] = lambda: None
    is_held: bool = False
    recheck: Callable[[], Awaitable[None]] | None = None

    etag: str = field(default="", init=False)
    revision: int = field(default=0, init=False)  # that an answer has to reach
    last_error: PilothouseError | None = field(default=None, init=False)
    confirmed_at: float | None = field(default=None, init=False)  # of the monotonic clock
    stale_seconds: float = field(default=0.0, init=False)  # as the service states it

    @property
    def is_ready(self) -> bool:
        """Whether the service has answered once."""
        return self.confirmed_at is not None


@dataclass(eq=False)
class _Followed:
    resource: Resource
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: list["asyncio.Future[None]"] = field(default_factory=list)
    failures: int = 0
    task: "asyncio.Task[None] | None" = None

    @property
    def is_current(self) -> bool:
        return not self.woken.is_set() and not self.failures and self.resource.is_ready

    def record_success(self, answer: Answer) -> None:
        resource = self.resource
        if self.failures:
            _log.info("%s is current again", resource.name)
        self.failures = 0
        is_news = resource.last_error is not None or not resource.is_ready
        resource.last_error = None
        resource.confirmed_at = time.monotonic()
        stale = answer.headers.get("x-stale", "")
        resource.stale_seconds = float(stale) if stale.isdecimal() else 0.0
        if is_news:
            resource.noticed()

    def record_failure(self, error: Exception) -> PilothouseError:
        """Record why a read failed, and return it as an error of this package."""
        resource = self.resource
        if isinstance(error, PilothouseError):
            failure = error
        else:
            failure = BadAnswer(f"an answer that cannot be read: {type(error).__name__}")
            failure.__cause__ = error
        is_news = resource.last_error is None or str(resource.last_error) != str(failure)
        level = logging.WARNING if is_news else logging.DEBUG
        _log.log(level, "could not refresh %s: %s (%s)", resource.name, failure, failure.code)
        self.failures += 1
        resource.last_error = failure
        resource.noticed()
        if failure.code == "revision_not_reached" and self.failures > 2:  # noqa: PLR2004 - tries
            resource.revision = 0  # the service was set back; its own word counts
        return failure


class Follower:
    """Follows the resources attached to it, on the event loop that runs when they are attached."""

    def __init__(
        self,
        transport: Transport,
        selection: Mapping[str, str],
        pace: RefreshPolicy,
        changed: Callable[[Resource], None] = lambda _: None,
    ) -> None:
        """`selection` are the parameters of the stream; `changed` is called after each answer."""
        self._transport = transport
        self._pace = pace
        self._changed = changed
        self._followed: dict[Resource, _Followed] = {}
        self._stream = EventStream(
            transport,
            selection,
            self,
            backoff=pace.backoff,
            longest_backoff=pace.longest_backoff,
        )
        self._held_open = 0  # reads that the service holds

    @property
    def is_streaming(self) -> bool:
        return self._stream.is_open

    def attach(self, resource: Resource) -> None:
        """Begin to follow; a second call for the same resource does nothing."""
        if resource in self._followed:
            return
        resource.revision = 0
        followed = _Followed(resource)
        self._followed[resource] = followed
        if self._pace.mode == "stream":
            self._stream.listen(resource.kinds)
        followed.task = asyncio.create_task(self._keep(followed))

    def detach(self, resource: Resource) -> None:
        followed = self._followed.pop(resource, None)
        if followed is not None and followed.task is not None:
            followed.task.cancel()

    async def close(self) -> None:
        tasks = [one.task for one in self._followed.values() if one.task is not None]
        if self._stream.task is not None:
            tasks.append(self._stream.task)
        await cancel_and_wait(tasks)
        for followed in self._followed.values():
            for waiter in followed.waiters:
                waiter.cancel()
        self._followed.clear()

    async def refresh(self, resource: Resource) -> None:
        """Read now, and return when the copy is as new as the answer; raises PilothouseError."""
        followed = self._followed[resource]
        waiter = asyncio.get_running_loop().create_future()
        followed.waiters.append(waiter)
        followed.woken.set()
        await waiter

    async def settle(self, resource: Resource, *, patiently: bool) -> None:
        """Return when the first read has succeeded or failed.

        With `patiently`, also wait while the service is unavailable.
        """
        followed = self._followed[resource]
        await followed.tried.wait()
        while patiently and isinstance(resource.last_error, Unavailable):
            followed.tried.clear()
            await followed.tried.wait()

    # Reading one resource

    async def _keep(self, followed: _Followed) -> None:
        while True:
            followed.woken.clear()
            waiters, followed.waiters = followed.waiters, []
            try:
                pause = await self._read(followed)
            except Exception as error:  # noqa: BLE001 - whatever it is, the copy stays
                failure = followed.record_failure(error)
                pause = self._pace.after_failures(followed.failures)
                if isinstance(failure, Unavailable) and failure.retry_after:
                    pause += min(failure.retry_after, self._pace.longest_backoff)
                _answer(waiters, failure)
            else:
                _answer(waiters, None)
            followed.tried.set()
            await wait_for_event(followed.woken, pause)

    async def _read(self, followed: _Followed) -> float:
        """Read once; return the seconds to the next read, if nothing calls for one earlier."""
        resource = followed.resource
        wait = await self._waiting(followed)
        began = time.monotonic()
        answer = await self._fetch(followed, wait)
        if answer is None:  # something calls
            return 0.0
        if not answer.is_unchanged:
            await resource.accept(answer)
            resource.etag = answer.etag
            self._changed(resource)
        elif resource.recheck is not None:
            resource.confirmed_at = time.monotonic()  # the copy is current, even if it is refused
            await resource.recheck()
        followed.record_success(answer)
        is_held = answer.is_unchanged and time.monotonic() - began >= wait / 2
        if wait and (is_held or not answer.is_unchanged):
            return 0.0
        if wait or not await self._waiting(followed):
            # The service did not wait though it was asked to; or this is the net below a stream.
            return self._pace.poll_interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        return 0.0

    async def _waiting(self, followed: _Followed) -> float:
        """Return how long the service may delay the next read: 0 if there is a stream."""
        resource = followed.resource
        if (
            self._pace.mode == "polling"
            or not resource.etag
            or followed.waiters
            or followed.failures
        ):
            return 0.0
        if self._held_open >= self._transport.connections // 2:
            return 0.0  # the rest of the pool is for what cannot wait
        if self._pace.mode == "stream" and resource.kinds and not resource.is_held:
            await self._stream.wait_until_decided(1.0)
            if self.is_streaming:
                return 0.0
        return self._pace.wait

    async def _fetch(self, followed: _Followed, wait: float) -> Answer | None:
        """Return the answer, or None if the resource was woken during a waiting read."""
        resource = followed.resource
        params, headers = dict(resource.params), {}
        if resource.etag:
            headers["If-None-Match"] = resource.etag
        if resource.revision:
            params["min_revision"] = str(resource.revision)
        if wait:
            headers["Prefer"] = f"wait={max(1, round(wait))}"
            self._held_open += 1
        reading = asyncio.create_task(
            self._transport.get(resource.path, params, headers, attempts=1, longer=wait)
        )
        woken = asyncio.create_task(followed.woken.wait())
        try:
            await asyncio.wait(
                {reading, woken} if wait else {reading}, return_when="FIRST_COMPLETED"
            )
            if reading.done():
                return reading.result()
        finally:
            self._held_open -= bool(wait)
            await cancel_and_wait([reading, woken])
        return None

    # Handling the stream

    def on_stream_open(self, revision: int) -> None:
        """Read everything, because changes before the stream was open are not in it."""
        for followed in self._followed.values():
            if followed.resource.kinds:
                followed.resource.revision = revision
                followed.woken.set()

    def on_change(self, change: Mapping[str, Any] | None, revision: int) -> None:
        for followed in self._followed.values():
            if change is None or _is_concerned(followed.resource, change):
                resource = followed.resource
                resource.revision = max(resource.revision, revision)
                followed.woken.set()

    def on_quiet(self) -> None:
        """Confirm the copies: an open stream without a change means that they are current."""
        now = time.monotonic()
        for followed in self._followed.values():
            if followed.resource.kinds and followed.is_current:
                followed.resource.confirmed_at = now

    def on_stream_loss(self) -> None:
        for followed in self._followed.values():
            followed.woken.set()


def _is_concerned(resource: Resource, change: Mapping[str, Any]) -> bool:
    return change.get("kind") in resource.kinds and resource.concerns(change)


def _answer(waiters: list["asyncio.Future[None]"], error: PilothouseError | None) -> None:
    for future in waiters:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
