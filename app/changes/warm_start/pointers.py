"""Pointer snapshots in the cache, so that a replica can start while the log is unavailable."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic, time
from typing import Protocol

import structlog

from app.changes.follower import Follower
from app.changes.model import Entity, Pointer, Snapshot
from app.changes.warm_start import compression
from app.changes.warm_start.compression import AT_MOST_BYTES

NAME = "pointers"
SAVE_SECONDS = 1.0
REFRESH_SECONDS = 10.0  # though nothing has moved: the pointers' age is counted from here
_SHARE = 50  # of the time, at most one part goes into saving
_FORMAT = 1
_log = structlog.get_logger(__name__)


class SnapshotCache(Protocol):
    """What this needs of a cache; see `app.cache.port`."""

    @property
    def is_usable(self) -> bool: ...
    async def get_newest(self, key: str) -> bytes | None: ...
    async def put_newest(self, key: str, version: int, value: bytes) -> None: ...


class Companion(Protocol):
    """Another snapshot that is saved and adopted together with the pointers."""

    async def save(self) -> None:
        """Save it before the pointers to it are saved."""
        ...

    async def adopt(self, snapshot: Snapshot) -> int:
        """Take over what is kept; return up to which revision it goes with these pointers."""
        ...


class PointerSnapshots:
    def __init__(
        self, follower: Follower, cache: SnapshotCache, companions: Sequence[Companion] = ()
    ) -> None:
        self._follower = follower
        self._cache = cache
        self._companions = list(companions)
        self._saved = (-1, -REFRESH_SECONDS)  # generation, and when
        self._is_too_large = False

    def add_companion(self, companion: Companion) -> None:
        """Save and adopt another snapshot together with the pointers from now on."""
        self._companions.append(companion)

    async def adopt(self) -> None:
        """Let the follower adopt the saved snapshot if it has no pointers yet."""
        if self._follower.has_pointers:
            return
        cached = decode_snapshot(await self._cache.get_newest(NAME))
        if cached is not None:
            snapshot, at = cached
            revisions = [await companion.adopt(snapshot) for companion in self._companions]
            # What is claimed of the whole is true of each part.
            snapshot = replace(snapshot, revision=min([snapshot.revision, *revisions]))
            age = max(0.0, time() - at)
            self._follower.adopt_snapshot(snapshot, age)
            _log.warning("pointers_adopted", revision=snapshot.revision, age_seconds=round(age))

    async def keep_saving(self) -> None:
        """Keep saving the follower's pointers, soon after they have changed."""
        pause = SAVE_SECONDS
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            began = monotonic()
            if self._is_due(began):
                await self.save()
            pause = max(SAVE_SECONDS, (monotonic() - began) * _SHARE)

    def _is_due(self, now: float) -> bool:
        follower = self._follower
        # While the log is unavailable, the saved snapshot may be newer than our pointers.
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
        value = await encode_snapshot(revision, at, list(follower.pointers.values()))
        if len(value) <= AT_MOST_BYTES:
            await self._cache.put_newest(NAME, revision, value)
        elif not self._is_too_large:
            _log.warning("pointers_too_large_to_keep", bytes=len(value), limit=AT_MOST_BYTES)
        self._is_too_large = len(value) > AT_MOST_BYTES


async def encode_snapshot(revision: int, at: float, pointers: list[Pointer]) -> bytes:
    return await compression.compress_lines(
        [compression.encode_line([_FORMAT, revision, at]), *map(_encode_pointer, pointers)]
    )


def decode_snapshot(value: bytes | None) -> tuple[Snapshot, float] | None:
    """Read what `encode_snapshot` wrote, and when that was; None if it is anything else."""
    try:
        head, *lines = compression.decompress_lines(value)
        form, revision, at = json.loads(head)
        if form != _FORMAT:
            return None
        pointers = {pointer.entity.key: pointer for pointer in map(_decode_pointer, lines)}
        return Snapshot(int(revision), pointers), float(at)
    except (ValueError, TypeError, LookupError):
        return None


def _encode_pointer(pointer: Pointer) -> bytes:
    about = pointer.entity
    return compression.encode_line(
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


def _decode_pointer(line: bytes) -> Pointer:
    kind, environment, name, key, version, revision, deleted, at, actor = json.loads(line)
    return Pointer(
        entity=Entity(str(kind), str(environment), str(name), str(key)),
        version=int(version),
        revision=int(revision),
        deleted=bool(deleted),
        at=datetime.fromisoformat(at),
        actor=str(actor),
    )
