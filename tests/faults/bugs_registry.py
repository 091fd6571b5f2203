"""Seeded bugs: how the registry must not be kept, so that the checkers can show their teeth.

Each is a rule of docs/protocols.md, part C, left out; none is in the service. Which one there is
stands in a file that may change while the service runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
from kazoo.client import TransactionRequest

from app.registry import zookeeper
from app.registry.keeping import Keeper
from app.registry.port import Node
from app.registry.rows import Beat, InstanceRows, Key, Registered, Registration, Row, Tag
from app.registry.view import View
from app.registry.zookeeper import ZooKeeperServiceRegistryClient

REGISTRY_BUGS = (
    "claims_without_tag",
    "no_fence",
    "sweeps_from_memory",
    "owner_counts_heartbeats",
    "adoption_moves_epoch",
)
_EPOCH_MOVED = "UPDATE instances SET epoch = epoch + 1 WHERE service = $1 AND instance_id = $2"


class Seeded:
    """Tells which bug there is now."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def has(self, bug: str) -> bool:
        return self._file.exists() and self._file.read_text() == bug


def plant_in_registry(seeded: Seeded) -> None:
    """Plant what is no matter of the rows: in the sweep, and in what is sent to ZooKeeper."""
    _plant_in_sweep(seeded)
    _plant_in_nodes(seeded)


def _plant_in_sweep(seeded: Seeded) -> None:
    sweep = Keeper.sweep

    async def swept(keeper: Any) -> None:
        rows = keeper._rows  # noqa: SLF001
        if seeded.has("sweeps_from_memory"):
            keeper._rows = _Remembered(rows, keeper._view)  # noqa: SLF001
        try:
            await sweep(keeper)
        finally:
            keeper._rows = rows  # noqa: SLF001

    Keeper.sweep = swept  # type: ignore[method-assign, assignment]


class _Remembered:
    """Rows as they are known here, whatever has become of them."""

    def __init__(self, rows: InstanceRows, view: View) -> None:
        self._rows = rows
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def current(self, keys: Sequence[Key]) -> Mapping[Key, Row]:
        await self._rows.current(keys)  # so that the sweep can be held up here all the same
        found = ((key, self._view.row(*key)) for key in keys)
        return {key: row for key, row in found if row is not None}


def _plant_in_nodes(seeded: Seeded) -> None:
    """Put and remove nodes without moving or looking at a fence."""
    client = cast("Any", ZooKeeperServiceRegistryClient)
    replaces, checks = client._replace, zookeeper._check  # noqa: SLF001

    def replaced(self: Any, transaction: TransactionRequest, *of: Any) -> None:
        if not seeded.has("no_fence"):
            replaces(self, transaction, *of)
            return
        service, name, _, _, seen = of
        if seen is not None:
            assert isinstance(seen, Node)
            transaction.delete(self._path(service, name))

    def checked(*of: Any) -> None:
        if not seeded.has("no_fence"):
            checks(*of)

    client._replace = replaced
    zookeeper._check = checked  # type: ignore[assignment] # noqa: SLF001


class BuggyRows:
    """The rows of one replica, with what is wrong about calling them."""

    def __init__(self, rows: InstanceRows, database: str, seeded: Seeded) -> None:
        self._rows = rows
        self._database = database
        self._seeded = seeded
        self._replica = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def register(self, registration: Registration) -> Registered:
        self._replica = registration.owner
        return await self._rows.register(registration)

    async def claim(self, tags: Sequence[Tag], owner: str, settle_seconds: float) -> Sequence[Row]:
        if self._seeded.has("claims_without_tag"):
            found = await self._rows.current([tag[:2] for tag in tags])
            tags = [row.tag for row in found.values()]
        claimed = await self._rows.claim(tags, owner, settle_seconds)
        if not self._seeded.has("adoption_moves_epoch"):
            return claimed
        connection = await asyncpg.connect(self._database, timeout=2)
        try:
            await connection.executemany(_EPOCH_MOVED, [row.key for row in claimed])
        finally:
            await connection.close()
        return [replace(row, epoch=row.epoch + 1) for row in claimed]

    async def beat(self, beats: Sequence[Beat]) -> Mapping[Key, Row]:
        if not self._seeded.has("owner_counts_heartbeats"):
            return await self._rows.beat(beats)
        found = await self._rows.current([beat[:2] for beat in beats])
        known = {key: row for key, row in found.items() if row.state == "registered"}
        own = [beat for beat in beats if found[beat[:2]].owner == self._replica]
        return {**known, **await self._rows.beat(own)}
