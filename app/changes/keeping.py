"""The last pointers, kept in a cache: what a replica reads by that starts while the log is away."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic, time
from typing import Protocol

import structlog

from app.changes import packing
from app.changes.follower import Follower
from app.changes.model import Entity, Pointer, Snapshot
from app.changes.packing import AT_MOST_BYTES

NAME = "pointers"
SAVE_SECONDS = 1.0
REFRESH_SECONDS = 10.0  # though nothing has moved: the pointers' age is counted from here
_SHARE = 50  # of the time, at most one part goes into saving
_FORMAT = 1
_log = structlog.get_logger(__name__)


class Newest(Protocol):
    """What this needs of a cache; see `app.cache.port`."""

    @property
    def is_usable(self) -> bool: ...
    async def get_newest(self, key: str) -> bytes | None: ...
    async def put_newest(self, key: str, version: int, value: bytes) -> None: ...


class Companion(Protocol):
    """Something else that replicas have in memory, and that goes with the pointers."""

    async def save(self) -> None:
        """Keep what is known, before the pointers to it are kept."""
        ...

    async def adopt(self, snapshot: Snapshot) -> int:
        """Take over what is kept; return up to which revision it goes with these pointers."""
        ...


class LastPointers:
    def __init__(
        self, follower: Follower, cache: Newest, companions: Sequence[Companion] = ()
    ) -> None:
        self._follower = follower
        self._cache = cache
        self._companions = companions
        self._saved = (-1, -REFRESH_SECONDS)  # generation, and when
        self._is_too_large = False

    async def adopt(self) -> None:
        """Let the follower read by what is kept, if it has nothing yet and something is."""
        if self._follower.started:
            return
        found = unpacked(await self._cache.get_newest(NAME))
        if found is not None:
            snapshot, at = found
            revisions = [await companion.adopt(snapshot) for companion in self._companions]
            # What is claimed of the whole is true of each part.
            snapshot = replace(snapshot, revision=min([snapshot.revision, *revisions]))
            age = max(0.0, time() - at)
            self._follower.adopt(snapshot, age)
            _log.warning("pointers_adopted", revision=snapshot.revision, age_seconds=round(age))

    async def keep(self) -> None:
        """Save for ever what the follower knows, soon after it has moved."""
        pause = SAVE_SECONDS
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            began = monotonic()
            if self._is_due(began):
                await self.save()
            pause = max(SAVE_SECONDS, (monotonic() - began) * _SHARE)

    def _is_due(self, now: float) -> bool:
        follower = self._follower
        # While the log is away, what is kept may be newer than what is known here.
        if not follower.is_following or follower.silence > SAVE_SECONDS:
            return False
        generation, when = self._saved
        return generation != follower.generation or now - when >= REFRESH_SECONDS

    async def save(self) -> None:
        if not self._cache.is_usable:
            return
        follower = self._follower
        for companion in self._companions:
            await companion.save()
        self._saved = (follower.generation, monotonic())
        at = time() - follower.silence
        # Read before the pointers: they may be newer than the revision, never older.
        revision = follower.revision
        value = await packed(revision, at, list(follower.pointers.values()))
        if len(value) <= AT_MOST_BYTES:
            await self._cache.put_newest(NAME, revision, value)
        elif not self._is_too_large:
            _log.warning("pointers_too_large_to_keep", bytes=len(value), limit=AT_MOST_BYTES)
        self._is_too_large = len(value) > AT_MOST_BYTES


async def packed(revision: int, at: float, pointers: list[Pointer]) -> bytes:
    return await packing.packed([packing.line([_FORMAT, revision, at]), *map(_written, pointers)])


def unpacked(value: bytes | None) -> tuple[Snapshot, float] | None:
    """Read what `packed` wrote, and when that was; None if it is anything else."""
    try:
        head, *lines = packing.unpacked(value)
        form, revision, at = json.loads(head)
        if form != _FORMAT:
            return None
        pointers = {pointer.entity.key: pointer for pointer in map(_read, lines)}
        return Snapshot(int(revision), pointers), float(at)
    except (ValueError, TypeError, LookupError):
        return None


def _written(pointer: Pointer) -> bytes:
    about = pointer.entity
    return packing.line(
        [
            about.kind,
            about.environment,
            about.name,
            about.key,
            pointer.version,
            pointer.revision,
            pointer.deleted,
            pointer.at.isoformat(),
            pointer.actor,
        ]
    )


def _read(line: bytes) -> Pointer:
    kind, environment, name, key, version, revision, deleted, at, actor = json.loads(line)
    return Pointer(
        entity=Entity(str(kind), str(environment), str(name), str(key)),
        version=int(version),
        revision=int(revision),
        deleted=bool(deleted),
        at=datetime.fromisoformat(at),
        actor=str(actor),
    )
