"""Snapshots of flags in the cache, so that a replica can start while the store is unavailable."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

import structlog

from app.changes.model import Snapshot
from app.changes.warm_start import compression
from app.flags.cache import KINDS, EnvironmentFlags, FlagCache
from app.flags.model import Item

_FORMAT = 1
_log = structlog.get_logger(__name__)


class NewestCache(Protocol):
    """The methods of a cache that snapshots need; see `app.cache.port`."""

    async def get_newest(self, key: str) -> bytes | None: ...
    async def put_newest(self, key: str, version: int, value: bytes) -> None: ...


class FlagSnapshots:
    """Goes with `warm_start.pointers.PointerSnapshots`: saved before them, adopted with them."""

    def __init__(self, sets: FlagCache, cache: NewestCache) -> None:
        self._sets = sets
        self._cache = cache
        self._packed: dict[str, tuple[EnvironmentFlags, bytes]] = {}

    async def save(self) -> None:
        """Save every environment's flags; an unchanged environment is not encoded again."""
        for name, environment in list(self._sets.environments.items()):
            known, value = self._packed.get(name, (None, b""))
            if known is not environment:
                value = await encode_snapshot(environment)
                self._packed[name] = environment, value
            if len(value) <= compression.AT_MOST_BYTES:
                await self._cache.put_newest(_cache_key(name), environment.revision, value)
            elif known is not environment:
                _log.warning("flags_too_large_to_keep", environment=name, bytes=len(value))

    async def adopt(self, snapshot: Snapshot) -> int:
        """Load the snapshot of every environment that the pointers name."""
        newest: dict[str, int] = {}
        for pointer in snapshot.pointers.values():
            if pointer.entity.kind in KINDS:
                name = pointer.entity.environment
                newest[name] = max(newest.get(name, 0), pointer.revision)
        revision = snapshot.revision
        items: list[Item] = []
        missing = []
        for name, pointed in newest.items():
            snapshot_items = decode_snapshot(await self._cache.get_newest(_cache_key(name)))
            if not snapshot_items:
                missing.append(name)
                continue
            items += snapshot_items
            if (kept := max(item.revision for item in snapshot_items)) < pointed:
                revision = min(revision, kept)
        self._sets.adopt(items, missing)
        _log.warning("flags_adopted", environments=len(newest) - len(missing), flags=len(items))
        return revision


async def encode_snapshot(environment: EnvironmentFlags) -> bytes:
    return await compression.compress_lines(_lines(environment))


def _lines(environment: EnvironmentFlags) -> Iterable[bytes]:
    yield compression.encode_line([_FORMAT])
    for item in environment.items.values():
        yield compression.encode_line(
            [
                item.kind,
                item.environment,
                item.name,
                item.version,
                item.definition,
                item.action,
                item.actor,
                item.comment,
                item.at.isoformat(),
                item.created_at.isoformat(),
                item.revision,
            ]
        )


def decode_snapshot(value: bytes | None) -> list[Item]:
    """Decode a snapshot; an empty list if it is missing, corrupted or of another format."""
    try:
        head, *lines = compression.decompress_lines(value)
        if json.loads(head) != [_FORMAT]:
            return []
        return [_item(json.loads(line)) for line in lines]
    except (ValueError, TypeError):
        return []


def _item(members: list[Any]) -> Item:
    *described, at, created_at, revision = members
    kind, environment, name, version, definition, action, actor, comment = described
    return Item(
        kind=kind,
        environment=environment,
        name=name,
        version=version,
        definition=definition,
        action=action,
        actor=actor,
        comment=comment,
        at=datetime.fromisoformat(at),
        created_at=datetime.fromisoformat(created_at),
        revision=revision,
    )


def _cache_key(environment: str) -> str:
    return f"flags:{environment}"
