"""One registered instance: heartbeats, repeated registration after a loss, and a graceful end."""

import asyncio
import logging
import os
import random
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from pilothouse.errors import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    Refused,
    Unavailable,
)
from pilothouse.sync import RefreshPolicy
from pilothouse.timeouts import cancel_and_wait, run_with_timeout, wait_for_event
from pilothouse.transport import Transport
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Instance, instance_json, read_registration

_REGISTRY = "/api/v1/registry"
_BEATS = 3.0  # in each ttl
_SHORTEST_ANSWER = 1.0  # seconds, however often heartbeats are due
_LONGEST_ANSWER = 5.0
_LEAVING = 2.0  # seconds that the end may take, in addition to the drain
_KEPT_DRAINED = 10.0  # seconds until the service ends a drain without heartbeats
_log = logging.getLogger("pilothouse")


class RegistrationClient(Protocol):
    """What the registry needs of a client."""

    offline: bool
    start_timeout: float
    pace: RefreshPolicy
    transport: Transport


def instance_of(members: Mapping[str, Any]) -> Instance:
    """Read a registration; raises ValueError, which names the member, for one that cannot be."""
    try:
        return read_registration(
            {name: value for name, value in members.items() if value is not None}
        )
    except DefinitionError as error:
        raise ValueError(f"{error.pointer.lstrip('/')} {error.detail}") from None


class AsyncRegistration:
    """Registers when it is entered, and is kept registered until it is left.

    Entering waits at most the client's `start_timeout` and raises only permanent errors (Refused):
    while the service is unavailable, it retries. `epoch` is None while it is not registered,
    `last_error` says why. Leaving takes the instance out of discovery at once, waits
    `drain_seconds` for requests in progress, and deregisters; in addition it takes at most two
    seconds.
    """

    def __init__(
        self,
        client: RegistrationClient,
        instance: Instance,
        drain_seconds: float,
        entered: set["AsyncRegistration"],
    ) -> None:
        """Create a registration, which is in `entered` from entering to leaving."""
        self.service_name, self.instance_id = instance.service_name, instance.instance_id
        self.epoch: int | None = None
        self.last_error: PilothouseError | None = None
        self._client = client
        self._instance = instance
        self._drain_seconds = drain_seconds
        self._entered = entered
        self._leaving = asyncio.Event()
        self._hurried = asyncio.Event()
        self._decided = asyncio.Event()  # registered, or refused
        self._drained_at: float | None = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._pid = 0

    @property
    def is_registered(self) -> bool:
        return self.epoch is not None

    @property
    def is_offline(self) -> bool:
        """Whether the client never asks: then entering and leaving do nothing."""
        return self._client.offline

    @property
    def is_entered(self) -> bool:
        """Whether it has to be left; False in a forked process, whose parent keeps it."""
        return self._task is not None and self._pid == os.getpid()

    async def __aenter__(self) -> "AsyncRegistration":
        if self._pid:
            raise RuntimeError("a registration is entered once: register again")
        if self.is_offline:
            return self
        self._pid = os.getpid()
        self._entered.add(self)
        self._task = asyncio.create_task(self._keep())
        try:
            await wait_for_event(self._decided, self._client.start_timeout)
        except asyncio.CancelledError:  # then it would never be left
            await self.leave(hurried=True)
            raise
        if self.epoch is None and isinstance(self.last_error, Refused):
            await self.leave(hurried=True)
            raise self.last_error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.leave()

    async def drain(self) -> None:
        """Take the instance out of discovery now, to be left later; never raises.

        For a signal to end, while the requests that came before are still answered.
        """
        self._leaving.set()
        if self._task is not None and self.is_entered:
            await self._try("drain", _LEAVING, self._drain(self._task))

    async def leave(self, *, hurried: bool = False) -> None:
        """End; a second call does nothing, nor does one in a forked process."""
        self._entered.discard(self)
        if hurried:
            self._hurried.set()
        task = self._task
        if task is None or not self.is_entered:
            return
        self._task = None
        self._leaving.set()
        try:
            await self._try("leave", _LEAVING + self._drain_seconds, self._end(task))
        finally:
            self.epoch = None
            await cancel_and_wait([task])

    # Staying registered

    async def _keep(self) -> None:
        while not self._leaving.is_set():
            try:
                await self._beat_once()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                pause = self._record_failure(error)
            else:
                self._record_success()
                pause = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
            await wait_for_event(self._leaving, pause)

    @property
    def _interval(self) -> float:
        return self._instance.ttl_seconds / _BEATS

    async def _beat_once(self) -> None:
        """Send a heartbeat, or register if there is no registration."""
        if self.epoch is not None:
            try:
                await self._beat(self.epoch)
            except (NotFound, Conflict) as error:
                _log.warning("%s is registered again: %s", self._name, error)
                self.epoch = None
        if self.epoch is None:
            await self._register()

    async def _register(self) -> None:
        body = instance_json(self._instance)
        answer = await self._send("POST", f"{_REGISTRY}/register", body)
        epoch = answer.get("epoch")
        if type(epoch) is not int:
            raise OutcomeUnknown("the service registered without an epoch")
        self.epoch = epoch

    async def _beat(self, epoch: int) -> None:
        await self._send("PUT", f"{self._path}/heartbeat", {"epoch": epoch})

    def _record_success(self) -> None:
        if self.last_error is not None:
            _log.info("%s is registered", self._name)
        self.last_error, self._failures = None, 0
        self._decided.set()

    def _record_failure(self, error: Exception) -> float:
        """Record a failure; return the seconds to the next attempt.

        They are never more often than heartbeats, so that a crowd is no more than it always is.
        """
        failure = error if isinstance(error, PilothouseError) else PilothouseError(repr(error))
        is_news = str(failure) != str(self.last_error)
        level = logging.WARNING if is_news else logging.DEBUG
        _log.log(
            level, "%s could not send its heartbeat: %s (%s)", self._name, failure, failure.code
        )
        self.last_error = failure
        self._failures += 1
        if isinstance(failure, Refused):
            self._decided.set()
        pace = self._client.pace
        pause = min(pace.after_failures(self._failures), self._interval)
        retry_after = failure.retry_after if isinstance(failure, Unavailable) else None
        return pause + min(retry_after or 0.0, pace.longest_backoff, self._interval)

    # The end

    async def _end(self, task: "asyncio.Task[None]") -> None:
        drained_at = await self._drain(task)
        if self.epoch is None:
            return
        rest = drained_at + self._drain_seconds - time.monotonic()
        await wait_for_event(self._hurried, max(0.0, rest))
        body = {**self._who, "epoch": self.epoch}
        await self._send("POST", f"{_REGISTRY}/deregister", body)

    async def _drain(self, task: "asyncio.Task[None]") -> float:
        """End discovery; return since when, by the monotonic clock."""
        # A request that is under way is answered first: what it did would be unknown.
        await asyncio.wait({task}, timeout=_LEAVING / 2)
        if self._drained_at is None and self.epoch is not None:
            grace = self._drain_seconds + _KEPT_DRAINED
            body = {"epoch": self.epoch, "grace_seconds": grace}
            await self._send("POST", f"{self._path}/drain", body)
            self._drained_at = time.monotonic()
        return self._drained_at or time.monotonic()

    async def _try(self, what: str, seconds: float, call: Coroutine[Any, Any, object]) -> None:
        try:
            await run_with_timeout(seconds, call)
        except (NotFound, Conflict):
            pass  # it is gone already, or another one's
        except (PilothouseError, TimeoutError) as error:
            _log.warning("%s could not %s: %r", self._name, what, error)

    # Requests

    @property
    def _who(self) -> dict[str, str]:
        return {"service_name": self.service_name, "instance_id": self.instance_id}

    @property
    def _name(self) -> str:
        return f"{self.service_name}/{self.instance_id}"

    @property
    def _path(self) -> str:
        return f"{_REGISTRY}/services/{self.service_name}/instances/{self.instance_id}"

    async def _send(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        seconds = min(max(self._interval, _SHORTEST_ANSWER), _LONGEST_ANSWER)
        sending = self._client.transport.request(method, path, body=body, attempts=1)
        with suppress(TimeoutError):
            return (await run_with_timeout(seconds, sending)).object()
        raise Unavailable(f"no answer within {seconds:g} s")
