"""This replica's view of the log: every document's pointer, followed by revision."""

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic

import structlog

from app.changes.errors import LogUnavailable, RevisionNotReached
from app.changes.listeners import Listeners
from app.changes.log.port import ChangeLog
from app.changes.model import Change, Pointer, Snapshot

POLL_SECONDS = 0.25
READ_YOUR_WRITES_SECONDS = 2.0
_BATCH = 1000
_log = structlog.get_logger(__name__)


class Follower:
    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._pointers: dict[str, Pointer] = {}
        self._adopted: Snapshot | None = None
        self._moved = asyncio.Event()
        self._started = False
        self._last_contact = monotonic()
        self.listeners = Listeners()
        self.revision = 0
        self.generation = 0  # moves with every pointer, to tell cheaply that none has moved
        self.followed_until = -inf  # of `monotonic`: all commits before it were followed

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        return self._pointers

    @property
    def has_pointers(self) -> bool:
        """Whether pointers were read, from the log or a snapshot: before, absence means nothing."""
        return self._started or self._adopted is not None

    @property
    def is_following(self) -> bool:
        """Whether this view is the log's own, read at least once since the start."""
        return self._started

    @property
    def silence(self) -> float:
        """Seconds since the log was last read."""
        return monotonic() - self._last_contact

    def pointer(self, key: str) -> Pointer | None:
        if not self.has_pointers:
            raise LogUnavailable("the change log has not been read since this replica started")
        return self._pointers.get(key)

    def advance_pointer(self, pointer: Pointer) -> None:
        """Move one pointer ahead of the followed revision: this replica's own write."""
        present = self._pointers.get(pointer.entity.key)
        if present is None or present.version < pointer.version:
            self._pointers[pointer.entity.key] = pointer
            self.generation += 1
            self.listeners.report_pointer(pointer)
            self.wake_waiters()

    async def follow(self) -> None:
        """Keep following; raises LogUnavailable when the log is unavailable; call it again."""
        if not self._started:
            await self.start()
        while True:
            await self.catch_up()
            await self._log.wait_for_change(POLL_SECONDS)

    def adopt_snapshot(self, snapshot: Snapshot, age: float) -> None:
        """Serve from a snapshot that is `age` seconds old until the log can be read."""
        if self.has_pointers:
            return
        for pointer in snapshot.pointers.values():
            self.advance_pointer(pointer)
        self.revision = snapshot.revision
        self._last_contact = monotonic() - age
        self._adopted = snapshot
        self.wake_waiters()

    async def start(self) -> None:
        """Take the snapshot to follow from."""
        if self._adopted is not None:
            await self.catch_up()  # those who listen already must not miss what lies between
        asked_at = monotonic()
        snapshot = await self._log.snapshot()
        entities = (pointer.entity for pointer in snapshot.pointers.values())
        await self.listeners.prepare(entities, is_first=not self._started)
        adopted = self._adopted
        if adopted is not None and (denied := _denied_keys(adopted, self._pointers, snapshot)):
            _log.error("adopted_pointers_denied", documents=len(denied), revision=adopted.revision)
            for key in denied:
                del self._pointers[key]
            self.generation += 1
            self.listeners.report_log_replaced()
        for pointer in snapshot.pointers.values():
            self.advance_pointer(pointer)
        self.revision = snapshot.revision
        self._last_contact = monotonic()
        self.followed_until = asked_at
        self._started = True
        self._adopted = None
        self.wake_waiters()

    async def catch_up(self) -> None:
        while True:
            asked_at = monotonic()
            changes = await self._log.since(self.revision, _BATCH)
            entities = (change.entity for change in changes)
            await self.listeners.prepare(entities, is_first=not self._started)
            for change in changes:
                self._apply(change)
            self._last_contact = monotonic()
            if len(changes) < _BATCH:
                self.followed_until = max(self.followed_until, asked_at)
                return

    def _apply(self, change: Change) -> None:
        # The pointer moves first: an answer must never claim a revision it does not reflect.
        self.advance_pointer(pointer_of(change))
        # Two callers may catch up at once, and the slower one brings what is known already.
        if change.revision > self.revision:
            self.revision = change.revision
            self.listeners.report_change(change)
        self.wake_waiters()

    def wake_waiters(self) -> None:
        """Wake all who wait: something has moved, or the service stops."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def wait_for_revision(
        self, revision: int, within: float = READ_YOUR_WRITES_SECONDS
    ) -> None:
        """Wait until this replica has seen `revision`, or raise RevisionNotReached."""
        try:
            async with asyncio.timeout(within):
                while self.revision < revision:
                    await self._moved.wait()
        except TimeoutError:
            if self.revision < revision:  # it may have arrived just now
                raise RevisionNotReached(revision, self.revision) from None

    async def wait_for_change(self, within: float) -> None:
        """Return when any pointer moves, at the latest after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return


async def catch_up_to(follower: Follower, revision: int) -> None:
    """Reach `revision`, which is known to be logged, without waiting for the next look.

    Raises LogUnavailable and RevisionNotReached.
    """
    if follower.revision < revision:
        await follower.catch_up()
    await follower.wait_for_revision(revision)


def pointer_of(change: Change) -> Pointer:
    return Pointer(
        entity=change.entity,
        version=change.version,
        revision=change.revision,
        deleted=change.deleted,
        at=change.at,
        actor=change.actor,
    )


def _denied_keys(
    adopted: Snapshot, held: Mapping[str, Pointer], snapshot: Snapshot
) -> Sequence[str]:
    """Return the keys of adopted pointers, still held, that contradict the log.

    In one log versions only rise, so it cannot be behind any of them. If it is, it was replaced
    or lost its end, and nothing that was read by those pointers is valid.
    """
    return [
        key
        for key, pointer in adopted.pointers.items()
        if held.get(key) is pointer and _is_denied(pointer, snapshot.pointers.get(key))
    ]


def _is_denied(adopted: Pointer, logged: Pointer | None) -> bool:
    if logged is None or logged.version < adopted.version:
        return True
    same = (logged.revision, logged.at) == (adopted.revision, adopted.at)
    return logged.version == adopted.version and not same
