"""The two clients. `AsyncPilothouse` does all that is done; `Pilothouse` runs it on a thread.

How another thing that the service holds is attached (flags, the registry):

1.  Write a class whose reads look into memory, with a `sync.Resource`: its path, the kinds
    of change in the stream that concern it, and `accept`, which takes an answer and swaps the copy
    or raises BadAnswer. All resources of a client share one stream and one pool of connections.
2.  `client.attach(resource)`, before the client begins or on its event loop. `await
    client.attach_and_wait(resource)` also waits until the service has answered, the snapshot had
    the resource, or `start_timeout` is over. `resource.last_error` and `.is_ready` show its state,
    and `client.age_of(resource)` how old the copy is.
3.  Before a read call `client.config.touch()`: it starts again in a forked process. Callbacks go
    through `client.config.deliver(call)`, which keeps them off the event loop.
4.  `client.transport` makes requests; it is another one after a fork, so ask for it each time.
    Loops of one's own (heartbeats) are given to `client.spawn(coroutine function)`, which begins
    them again in a forked process and cancels them at the end.
5.  `Pilothouse` passes on: `self.run(coroutine, within)` runs one on the client's loop.
"""

import asyncio
import atexit
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pilothouse.background import Background
from pilothouse.configuration import Configuration, OnChange
from pilothouse.documents import AsyncDocuments, Documents
from pilothouse.effective import ConfigTarget, EffectiveConfiguration, Judge, Validate
from pilothouse.errors import PilothouseError, SnapshotRefused
from pilothouse.flags import Flags
from pilothouse.flags.administration import AsyncFlagAdmin, FlagAdmin
from pilothouse.flags.resource import flag_set
from pilothouse.flags.usage import UsageReporter
from pilothouse.proposals import AsyncProposals, Proposals
from pilothouse.registry import AsyncRegistry, Registry
from pilothouse.releases import instance_name
from pilothouse.snapshot import Snapshot
from pilothouse.sync import Follower, RefreshPolicy, Resource
from pilothouse.timeouts import cancel_and_wait
from pilothouse.transport import Limits, Token, Transport

Result = TypeVar("Result")
Loop = Callable[[], Coroutine[Any, Any, None]]
_SAVE_AT_MOST_EVERY = 1.0  # seconds
_STALE_AFTER = 60.0  # seconds; a stream sends something every 15
_log = logging.getLogger("pilothouse")


class AsyncPilothouse:
    """A service's view of Pilothouse, held in memory; `async with` begins and ends it.

    At the start the client reads from the service. If that fails for `start_timeout` seconds, it
    uses the snapshot on disk, or else the defaults, and raises nothing. Invalid arguments, such as
    a malformed URL, raise ValueError.

    `instance` is the id of this instance, True for the name of this machine: with it the client
    takes part in releases, and reports whether it has adopted or refused what it has read.
    `defaults` are overridden by configured values. `validate` gets the nested values and raises to
    reject them, as a Pydantic model's `model_validate` does. With `schemas`, which needs an extra
    of the same name, the service's schemas judge each configuration here as well. With
    `schema_defaults` the defaults of its schemas are read below the configured values, and above
    `defaults`. `reveal_secrets` reads plain values of secrets, which needs the right to, and is
    audited. `snapshot` is a path; without `snapshot_key` (32 bytes) secrets are left out of the
    file. `flags=False` is for a token that may not read them. With `offline` no requests are sent:
    values come from the snapshot and the defaults.
    """

    def __init__(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        url: str,
        service: str,
        environment: str = "default",
        token: Token = None,
        *,
        user: str | None = None,
        instance: str | bool | None = None,
        defaults: Mapping[str, Any] | None = None,
        validate: Validate | None = None,
        schemas: bool = False,
        schema_defaults: bool = False,
        reveal_secrets: bool = False,
        snapshot: str | Path | None = None,
        snapshot_key: bytes | None = None,
        flags: bool = True,
        offline: bool = False,
        start_timeout: float = 5.0,
        pace: RefreshPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.service, self.environment, self.user = service, environment, user
        self.offline = offline
        self.start_timeout = start_timeout
        self.pace = pace or RefreshPolicy()
        self._connect = partial(Transport, url, token, limits)
        self.transport = self._connect()
        whose = ConfigTarget(environment, service, user, schema_defaults, instance_name(instance))
        self._disk = None
        if snapshot is not None:
            owner = {"url": self.transport.url, **whose.content_params}
            self._disk = Snapshot(snapshot, owner, snapshot_key)
        self._disk_error: PilothouseError | None = None
        self._restored: dict[str, Any] = {}
        self._restored_ages: dict[str, tuple[float, float]] = {}
        self._resources: list[Resource] = []
        self._loops: list[Loop] = []
        self._follower: Follower | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unsaved = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None

        self.config = Configuration(defaults)
        effective = EffectiveConfiguration(
            whose,
            self.config,
            lambda: self.transport,
            validate=validate,
            judge=self._judge_by_schemas(whose) if schemas else None,
            reveals=reveal_secrets,
            keeps_secrets=self._disk is not None and self._disk.may_hold_secrets,
        )
        self.participant = effective.participant
        self._effective = effective.resource
        self.config.age_of = lambda: self.age_of(self._effective)
        self.config.stale_after = max(_STALE_AFTER, 3 * self.pace.poll_interval)
        self.attach(self._effective)

        self.flags = Flags()
        self.flags.is_offline = offline
        self.flags.stale_after = self.config.stale_after
        self._usage = UsageReporter(
            self.flags.usage,
            environment,
            lambda: self.transport,
            overridden=lambda: self.flags.overridden,
        )
        self._flag_set = flag_set(environment, self.flags)
        self.flags.error_of = lambda: self._flag_set.last_error
        self.flags.age_of = lambda: self.age_of(self._flag_set)
        if flags:
            self.attach(self._flag_set)
            self.spawn(self._usage.keep)
        self.flag_admin = AsyncFlagAdmin(lambda: self.transport, environment)
        self.proposals = AsyncProposals(lambda: self.transport)

        self.registry = AsyncRegistry(self)
        self.documents = AsyncDocuments(lambda: self.transport, environment)

    def _judge_by_schemas(self, whose: ConfigTarget) -> Judge:
        from pilothouse.judging.applied import AppliedSchemas  # noqa: PLC0415 - few programs ask

        return AppliedSchemas(whose.selection, lambda: self.transport).check

    # Beginning and ending

    async def start(self) -> None:
        """Begin, and return when there is something to read; never raises if the service fails."""
        await self.begin()
        await self.ready()

    async def begin(self) -> None:
        """Begin without waiting; may be called again in a forked process."""
        if self.offline:
            self.restore()
            return
        self.transport = self._connect()
        selection = {"environment": self.environment, "service_name": self.service}
        self._follower = Follower(self.transport, selection, self.pace, self._mark_unsaved)
        self.restore()
        self._tasks = [asyncio.create_task(loop()) for loop in self._loops]
        if self._disk is not None:
            self._unsaved, self._writing = asyncio.Event(), None
            self._tasks.append(asyncio.create_task(self._save_always(self._disk)))

    def restore(self) -> None:
        """Load the snapshot on disk."""
        self._read_snapshot()
        for resource in self._resources:
            self._follow(resource)

    async def ready(self, within: float | None = None) -> bool:
        """Wait for the service, at most `start_timeout`; return whether it answered all.

        Resources that the snapshot has are awaited only until the first attempt fails.
        """
        await self._wait_for_resources(
            self._resources, self.start_timeout if within is None else within
        )
        return all(resource.is_ready for resource in self._resources)

    async def close(self) -> None:
        """End; the content stays readable. Writes the snapshot if it is not up to date."""
        await self.registry.close()
        await cancel_and_wait(self._tasks)
        self._tasks = []
        if self._follower is not None and self._flag_set.last_error is None:
            await self._usage.finish()
        if self._follower is not None:
            await self._follower.close()
            self._follower = None
        if self._writing is not None:
            with suppress(OSError):
                await self._writing  # otherwise it would replace what is written now
        if self._disk is not None and self._unsaved.is_set():
            await self._save(self._disk)
        await self.transport.close()

    async def __aenter__(self) -> "AsyncPilothouse":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # Reading

    @property
    def last_error(self) -> PilothouseError | None:
        """Why some content may be outdated; None when everything is current."""
        errors = [resource.last_error for resource in self._resources] + [self.flags.last_error]
        return next(filter(None, errors), self._disk_error)

    def on_change(self, key_or_prefix: str, callback: OnChange) -> Callable[[], None]:
        return self.config.on_change(key_or_prefix, callback)

    async def refresh(self) -> None:
        """Read configuration and flags now; raises PilothouseError when that fails."""
        if self.offline:
            return
        if self._follower is None:
            raise PilothouseError("the client has not begun, or is closed")
        await self._follower.refresh(self._effective)
        if self._flag_set in self._resources:
            await self._follower.refresh(self._flag_set)

    # For attached resources

    def attach(self, resource: Resource) -> None:
        """Follow a resource from now on: on the client's event loop, or before it begins."""
        self._resources.append(resource)
        if self._follower is not None:
            self._follow(resource)

    async def attach_and_wait(self, resource: Resource) -> None:
        """Attach a resource, and wait for its first answer as `start` does."""
        self.attach(resource)
        await self._wait_for_resources([resource], self.start_timeout)

    attached = attach_and_wait  # deprecated alias

    def detach(self, resource: Resource) -> None:
        with suppress(ValueError):
            self._resources.remove(resource)
        if self._follower is not None:
            self._follower.detach(resource)

    def spawn(self, loop: Loop) -> None:
        """Run `loop()` as a task while the client runs, in a forked process again."""
        self._loops.append(loop)
        if self._follower is not None:
            self._tasks.append(asyncio.create_task(loop()))

    def age_of(self, resource: Resource) -> float:
        """Return the seconds since the service last confirmed the copy of a resource."""
        now = time.monotonic()
        if resource.confirmed_at is not None:
            return now - resource.confirmed_at + resource.stale_seconds
        age, at = self._restored_ages.get(resource.name, (float("inf"), now))
        return age + now - at

    def _follow(self, resource: Resource) -> None:
        if not resource.is_ready and resource.restore is not None:
            self._restore(resource, resource.restore)
        if self._follower is not None:
            self._follower.attach(resource)

    async def _wait_for_resources(self, resources: list[Resource], within: float) -> None:
        follower = self._follower
        if follower is None:
            return
        settling = [
            asyncio.create_task(
                follower.settle(resource, patiently=resource.name not in self._restored_ages)
            )
            for resource in resources
        ]
        try:
            await asyncio.wait(settling, timeout=within)
        finally:
            await cancel_and_wait(settling)

    # The snapshot

    def _read_snapshot(self) -> None:
        if self._disk is None or any(resource.is_ready for resource in self._resources):
            return
        try:
            self._restored = self._disk.read() or {}
        except SnapshotRefused as error:
            self._disk_error = error
            _log.warning("continuing without the snapshot: %s", error)

    def _restore(self, resource: Resource, restore: Callable[[Any], None]) -> None:
        part = self._restored.get(resource.name)
        if not isinstance(part, dict):
            return
        try:
            age = max(0.0, time.time() - float(part["at"]))
            restore(part["content"])
        except Exception as error:  # noqa: BLE001 - the client starts whatever the file contains
            reason = SnapshotRefused(f"the snapshot's {resource.name} is refused: {error}")
            reason.__cause__ = error
            self._disk_error = reason
            _log.warning("continuing without it: %s", reason)
            return
        # The wall clock is the only one shared by processes; from here on the monotonic clock.
        self._restored_ages[resource.name] = (age, time.monotonic())

    def _mark_unsaved(self, _: Resource) -> None:
        self._unsaved.set()

    async def _save_always(self, disk: Snapshot) -> None:
        while True:
            await self._unsaved.wait()
            await self._save(disk)
            await asyncio.sleep(_SAVE_AT_MOST_EVERY)

    async def _save(self, disk: Snapshot) -> None:
        self._unsaved.clear()
        parts = dict(self._restored)  # of what the service has not answered yet
        for resource in self._resources:
            if resource.is_ready and resource.saved is not None:
                content = resource.saved()
                if content is not None:
                    parts[resource.name] = {"at": time.time(), "content": content}
        try:
            self._writing = asyncio.ensure_future(asyncio.to_thread(disk.write, parts))
            await asyncio.shield(self._writing)
        except OSError as error:
            is_news = self._disk_error is None
            self._disk_error = PilothouseError(f"{disk.path} cannot be written: {error.strerror}")
            _log.log(logging.WARNING if is_news else logging.DEBUG, "%s", self._disk_error)
        else:
            self._disk_error = None


class Pilothouse:
    """The client for programs without an event loop: reads are the same looks into memory.

    Starts when it is created, and waits at most `start_timeout` seconds for the service. One daemon
    thread does the work, a second one runs callbacks if there are any. After a fork (gunicorn,
    Celery) the first read in the child starts the client again, without waiting. The arguments are
    those of `AsyncPilothouse`.
    """

    def __init__(  # noqa: PLR0913 - each is one thing a caller may say
        self,
        url: str,
        service: str,
        environment: str = "default",
        token: Token = None,
        *,
        user: str | None = None,
        instance: str | bool | None = None,
        defaults: Mapping[str, Any] | None = None,
        validate: Validate | None = None,
        schemas: bool = False,
        schema_defaults: bool = False,
        reveal_secrets: bool = False,
        snapshot: str | Path | None = None,
        snapshot_key: bytes | None = None,
        flags: bool = True,
        offline: bool = False,
        start_timeout: float = 5.0,
        pace: RefreshPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.client = AsyncPilothouse(
            url,
            service,
            environment,
            token,
            user=user,
            instance=instance,
            defaults=defaults,
            validate=validate,
            schemas=schemas,
            schema_defaults=schema_defaults,
            reveal_secrets=reveal_secrets,
            snapshot=snapshot,
            snapshot_key=snapshot_key,
            flags=flags,
            offline=offline,
            start_timeout=start_timeout,
            pace=pace,
            limits=limits,
        )
        self._background = Background(self.client.begin, self.client.close)
        self.config, self.flags = self.client.config, self.client.flags
        self.registry = Registry(self.client.registry, self.run)
        self.flag_admin = FlagAdmin(self.client.flag_admin, self.run)
        self.proposals = Proposals(self.client.proposals, self.run)
        self.documents = Documents(self.client.documents, self.run)
        if offline:
            self.client.restore()
            return
        for held in (self.config, self.flags):
            held.touch, held.deliver = self._background.touch, self._background.deliver
        _open.add(self)
        self._background.start()
        self.ready()

    @classmethod
    def offline(
        cls,
        config: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
        service: str = "offline",
        environment: str = "default",
    ) -> "Pilothouse":
        """Return a client that never asks: `config` nested as it is read, `flags` by their values.

        For work on a machine without the service. Callbacks run where something is changed.
        """
        client = Pilothouse(
            "http://offline.invalid", service, environment, defaults=config, offline=True
        )
        for name, value in (flags or {}).items():
            client.flags.override(name, value)
        return client

    def run(self, call: Coroutine[Any, Any, Result], within: float | None = None) -> Result:
        """Run a coroutine on the client's loop; Unavailable when it takes longer than `within`."""
        if self.client.offline:
            call.close()
            raise PilothouseError("the client is offline")
        return self._background.run(call, within)

    def ready(self, within: float | None = None) -> bool:
        """Wait for the service, at most `start_timeout`; return whether it answered all."""
        return not self.client.offline and self.run(self.client.ready(within))

    @property
    def last_error(self) -> PilothouseError | None:
        """Why some content may be outdated; None when everything is current."""
        return self.client.last_error

    def on_change(self, key_or_prefix: str, callback: OnChange) -> Callable[[], None]:
        """Call `callback` with every change of a key or below a section, on its own thread."""
        return self.config.on_change(key_or_prefix, callback)

    def refresh(self, within: float = 10.0) -> None:
        """Read configuration and flags now; raises PilothouseError when that fails."""
        if not self.client.offline:
            self.run(self.client.refresh(), within)

    def close(self) -> None:
        """End and wait for the threads; what is held stays readable."""
        _open.discard(self)
        self._background.close()

    def __enter__(self) -> "Pilothouse":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_open: "weakref.WeakSet[Pilothouse]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Write what is not saved, and say goodbye, where a program forgot to close."""
    for client in list(_open):
        client.close()
