"""This replica's view of the log: every document's pointer, followed by revision."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from time import monotonic

import structlog

from app.changes.errors import LogUnavailable, RevisionNotReached
from app.changes.model import Change, Entity, Pointer, Snapshot
from app.changes.port import ChangeLog

POLL_SECONDS = 0.25
READ_YOUR_WRITES_SECONDS = 2.0
_BATCH = 1000
_log = structlog.get_logger(__name__)


Prepare = Callable[[frozenset[str]], Awaitable[None]]


class Follower:
    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._pointers: dict[str, Pointer] = {}
        self._listeners: list[Callable[[Change], None]] = []
        self._preparing: list[Prepare] = []
        self._adopted: Snapshot | None = None
        self._doubters: list[Callable[[], None]] = []
        self._moved = asyncio.Event()
        self._started = False
        self._contact = monotonic()
        self._complete = -inf
        self.revision = 0
        self.generation = 0  # moves with every pointer, to tell cheaply that none has moved

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        return self._pointers

    @property
    def started(self) -> bool:
        """Whether pointers were read, be it from elsewhere: before, absence means nothing."""
        return self._started or self._adopted is not None

    @property
    def is_following(self) -> bool:
        """Whether this view is the log's own, read at least once since the start."""
        return self._started

    @property
    def silence(self) -> float:
        """Seconds since the log was last read."""
        return monotonic() - self._contact

    def knows_all_before(self, moment: float) -> bool:
        """Whether all that was committed before `moment` (of `monotonic`) was followed."""
        return self._complete >= moment

    def pointer(self, key: str) -> Pointer | None:
        if not self.started:
            raise LogUnavailable("the change log has not been read since this replica started")
        return self._pointers.get(key)

    def learn(self, pointer: Pointer) -> None:
        """Move one pointer ahead of the followed revision: this replica's own write."""
        present = self._pointers.get(pointer.entity.key)
        if present is None or present.version < pointer.version:
            self._pointers[pointer.entity.key] = pointer
            self.generation += 1
            self._wake()

    async def follow(self) -> None:
        """Follow for ever; raises LogUnavailable when the log is away, to be called again."""
        if not self._started:
            await self.start()
        while True:
            await self.catch_up()
            await self._log.changed(POLL_SECONDS)

    def adopt(self, snapshot: Snapshot, age: float) -> None:
        """Read by what was known elsewhere `age` seconds ago, until the log can be read."""
        if self.started:
            return
        for pointer in snapshot.pointers.values():
            self.learn(pointer)
        self.revision = snapshot.revision
        self._contact = monotonic() - age
        self._adopted = snapshot
        self._wake()

    def doubt(self, forget: Callable[[], None]) -> None:
        """Call `forget` if what was adopted proves to be of another log."""
        self._doubters.append(forget)

    async def start(self) -> None:
        """Take the snapshot to follow from."""
        if self._adopted is not None:
            await self.catch_up()  # those who listen already must not miss what lies between
        asked = monotonic()
        snapshot = await self._log.snapshot()
        await self._prepare(pointer.entity for pointer in snapshot.pointers.values())
        if self._adopted is not None:
            self._compare(self._adopted, snapshot)
        for pointer in snapshot.pointers.values():
            self.learn(pointer)
        self.revision = snapshot.revision
        self._contact = monotonic()
        self._complete = asked
        self._started = True
        self._adopted = None
        self._wake()

    def _compare(self, adopted: Snapshot, snapshot: Snapshot) -> None:
        """Let go of adopted pointers that the log denies.

        In one log versions only rise, so it can be behind none of them. If it is, it was made
        anew or lost its end, and nothing that was read by those pointers holds.
        """
        denied = [
            key
            for key, pointer in adopted.pointers.items()
            if self._pointers.get(key) is pointer
            and _is_denied(pointer, snapshot.pointers.get(key))
        ]
        if not denied:
            return
        _log.error("adopted_pointers_denied", documents=len(denied), revision=adopted.revision)
        for key in denied:
            del self._pointers[key]
        self.generation += 1
        for forget in self._doubters:
            forget()

    async def catch_up(self) -> None:
        while True:
            asked = monotonic()
            changes = await self._log.since(self.revision, _BATCH)
            await self._prepare(change.entity for change in changes)
            for change in changes:
                self._apply(change)
            self._contact = monotonic()
            if len(changes) < _BATCH:
                self._complete = max(self._complete, asked)
                return

    def prepare(self, prepare: Prepare) -> None:
        """Await `prepare` with the kinds of what changed, before any answer claims its revision."""
        self._preparing.append(prepare)

    async def _prepare(self, changed: Iterable[Entity]) -> None:
        kinds = frozenset(entity.kind for entity in changed)
        if kinds or not self._started:
            for prepare in self._preparing:
                await prepare(kinds)

    def listen(self, heard: Callable[[Change], None]) -> None:
        """Call `heard` with every change, once and in order, after its pointer has moved."""
        self._listeners.append(heard)

    def _apply(self, change: Change) -> None:
        # The pointer moves first: an answer must never claim a revision it does not reflect.
        self.learn(pointer_of(change))
        # Two callers may catch up at once, and the slower one brings what is known already.
        if change.revision > self.revision:
            self.revision = change.revision
            for heard in self._listeners:
                heard(change)
        self._wake()

    def release(self) -> None:
        """Let everybody who waits look again: the service stops."""
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def reach(self, revision: int, within: float = READ_YOUR_WRITES_SECONDS) -> None:
        """Wait until this replica has seen `revision`, or raise RevisionNotReached."""
        try:
            async with asyncio.timeout(within):
                while self.revision < revision:
                    await self._moved.wait()
        except TimeoutError:
            if self.revision < revision:  # it may have come in the very last moment
                raise RevisionNotReached(revision, self.revision) from None

    async def moved(self, within: float) -> None:
        """Return when any pointer moves, at the latest after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return


def pointer_of(change: Change) -> Pointer:
    return Pointer(
        entity=change.entity,
        version=change.version,
        revision=change.revision,
        deleted=change.deleted,
        at=change.at,
        actor=change.actor,
    )


def _is_denied(adopted: Pointer, logged: Pointer | None) -> bool:
    if logged is None or logged.version < adopted.version:
        return True
    same = (logged.revision, logged.at) == (adopted.revision, adopted.at)
    return logged.version == adopted.version and not same
