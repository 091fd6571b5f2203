"""The last flags, kept in a cache: what a replica evaluates that starts while the store is away."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

import structlog

from app.changes import packing
from app.changes.model import Snapshot
from app.flags.model import Item
from app.flags.sets import KINDS, Environment, FlagSets

_FORMAT = 1
_log = structlog.get_logger(__name__)


class Newest(Protocol):
    """What this needs of a cache; see `app.cache.port`."""

    async def get_newest(self, key: str) -> bytes | None: ...
    async def put_newest(self, key: str, version: int, value: bytes) -> None: ...


class LastFlags:
    """Goes with `app.changes.keeping.LastPointers`: saved before them, adopted with them."""

    def __init__(self, sets: FlagSets, cache: Newest) -> None:
        self._sets = sets
        self._cache = cache
        self._packed: dict[str, tuple[Environment, bytes]] = {}

    async def save(self) -> None:
        """Keep every environment's flags; what has not changed is not written out again."""
        for name, environment in list(self._sets.environments.items()):
            known, value = self._packed.get(name, (None, b""))
            if known is not environment:
                value = await packed(environment)
                self._packed[name] = environment, value
            if len(value) <= packing.AT_MOST_BYTES:
                await self._cache.put_newest(_key(name), environment.revision, value)
            elif known is not environment:
                _log.warning("flags_too_large_to_keep", environment=name, bytes=len(value))

    async def adopt(self, snapshot: Snapshot) -> int:
        """Let the replica evaluate what is kept of every environment that the pointers name."""
        newest: dict[str, int] = {}
        for pointer in snapshot.pointers.values():
            if pointer.entity.kind in KINDS:
                name = pointer.entity.environment
                newest[name] = max(newest.get(name, 0), pointer.revision)
        revision = snapshot.revision
        items: list[Item] = []
        missing = []
        for name, pointed in newest.items():
            found = unpacked(await self._cache.get_newest(_key(name)))
            if not found:
                missing.append(name)
                continue
            items += found
            if (kept := max(item.revision for item in found)) < pointed:
                revision = min(revision, kept)
        self._sets.adopt(items, missing)
        _log.warning("flags_adopted", environments=len(newest) - len(missing), flags=len(items))
        return revision


async def packed(environment: Environment) -> bytes:
    return await packing.packed(_lines(environment))


def _lines(environment: Environment) -> Iterable[bytes]:
    yield packing.line([_FORMAT])
    for item in environment.items.values():
        yield packing.line(
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


def unpacked(value: bytes | None) -> list[Item]:
    """Read what `packed` wrote; nothing if it is anything else."""
    try:
        head, *lines = packing.unpacked(value)
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


def _key(environment: str) -> str:
    return f"flags:{environment}"
