"""This replica's view of the log: every document's pointer, followed by revision."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from app.changes.errors import LogUnavailable, RevisionNotReached
from app.changes.model import Change, Pointer
from app.changes.port import ChangeLog

POLL_SECONDS = 0.25
READ_YOUR_WRITES_SECONDS = 2.0
_BATCH = 1000


class Follower:
    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self._pointers: dict[str, Pointer] = {}
        self._moved = asyncio.Event()
        self._started = False
        self._contact = monotonic()
        self.revision = 0
        self.generation = 0  # moves with every pointer, to tell cheaply that none has moved

    @property
    def pointers(self) -> Mapping[str, Pointer]:
        return self._pointers

    @property
    def started(self) -> bool:
        """Whether the log was read at least once: before, absence means nothing."""
        return self._started

    @property
    def silence(self) -> float:
        """Seconds since the log was last read."""
        return monotonic() - self._contact

    def pointer(self, key: str) -> Pointer | None:
        if not self._started:
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

    async def start(self) -> None:
        """Take the snapshot to follow from."""
        snapshot = await self._log.snapshot()
        for pointer in snapshot.pointers.values():
            self.learn(pointer)
        self.revision = snapshot.revision
        self._started = True
        self._wake()

    async def catch_up(self) -> None:
        while True:
            changes = await self._log.since(self.revision, _BATCH)
            for change in changes:
                self._apply(change)
            self._contact = monotonic()
            if len(changes) < _BATCH:
                return

    def _apply(self, change: Change) -> None:
        # The pointer moves first: an answer must never claim a revision it does not reflect.
        self.learn(pointer_of(change))
        # Two callers may catch up at once, and the slower one brings what is known already.
        self.revision = max(self.revision, change.revision)
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
