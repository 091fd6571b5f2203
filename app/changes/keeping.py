"""The last pointers, kept in a cache: what a replica reads by that starts while the log is away."""

import asyncio
import json
import random
import zlib
from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from time import monotonic, time
from typing import Protocol

import structlog

from app.changes.follower import Follower
from app.changes.model import Entity, Pointer, Snapshot

NAME = "pointers"
AT_MOST_BYTES = 8 * 1024 * 1024
SAVE_SECONDS = 1.0
REFRESH_SECONDS = 10.0  # though nothing has moved: the pointers' age is counted from here
_SHARE = 50  # of the time, at most one part goes into saving
_AT_ONCE = 500
_FORMAT = 1
_INFLATED_AT_MOST = 32 * AT_MOST_BYTES
_log = structlog.get_logger(__name__)


class Newest(Protocol):
    """What this needs of a cache; see `app.cache.port`."""

    @property
    def is_usable(self) -> bool: ...
    async def get_newest(self, key: str) -> bytes | None: ...
    async def put_newest(self, key: str, version: int, value: bytes) -> None: ...


class LastPointers:
    def __init__(self, follower: Follower, cache: Newest) -> None:
        self._follower = follower
        self._cache = cache
        self._saved = (-1, -REFRESH_SECONDS)  # generation, and when
        self._is_too_large = False

    async def adopt(self) -> None:
        """Let the follower read by what is kept, if it has nothing yet and something is."""
        if self._follower.started:
            return
        found = unpacked(await self._cache.get_newest(NAME))
        if found is not None:
            snapshot, at = found
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
    """Write pointers for a cache, a few at a time: there may be many, and others want to go on."""
    squeezing = zlib.compressobj(level=1)
    pieces = [squeezing.compress(_line([_FORMAT, revision, at]))]
    for start in range(0, len(pointers), _AT_ONCE):
        lines = b"".join(map(_written, pointers[start : start + _AT_ONCE]))
        pieces.append(squeezing.compress(lines))
        await asyncio.sleep(0)
    pieces.append(squeezing.flush())
    body = b"".join(pieces)
    return _checksum(body) + body


def unpacked(value: bytes | None) -> tuple[Snapshot, float] | None:
    """Read what `packed` wrote, and when that was; None if it is anything else."""
    size = len(_checksum(b""))
    if value is None or _checksum(value[size:]) != value[:size]:
        return None
    try:
        lines = _inflated(value[size:]).splitlines()
        form, revision, at = json.loads(lines[0])
        if form != _FORMAT:
            return None
        pointers = {pointer.entity.key: pointer for pointer in map(_read, lines[1:])}
        return Snapshot(int(revision), pointers), float(at)
    except (ValueError, TypeError, LookupError, zlib.error):
        return None


def _inflated(body: bytes) -> bytes:
    inflating = zlib.decompressobj()
    text = inflating.decompress(body, _INFLATED_AT_MOST)
    if not inflating.eof:
        raise ValueError("more than was ever written")
    return text


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _line(members: Iterable[object]) -> bytes:
    return json.dumps(list(members), separators=(",", ":")).encode() + b"\n"


def _written(pointer: Pointer) -> bytes:
    about = pointer.entity
    return _line(
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
