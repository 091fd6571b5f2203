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

from app.registry.instances.port import InstanceStore
from app.registry.model import (
    Heartbeat,
    InstanceKey,
    InstanceRow,
    Registration,
    RegistrationResult,
    RowToken,
)
from app.registry.nodes.port import Node
from app.registry.nodes.zookeeper import fences
from app.registry.nodes.zookeeper.fences import FencedNodes
from app.registry.reconciler import NodeReconciler
from app.registry.view import RegistryView

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
    sweep = NodeReconciler.reconcile

    async def swept(reconciler: Any) -> None:
        rows = reconciler._rows  # noqa: SLF001
        if seeded.has("sweeps_from_memory"):
            reconciler._rows = _Remembered(rows, reconciler._view)  # noqa: SLF001
        try:
            await sweep(reconciler)
        finally:
            reconciler._rows = rows  # noqa: SLF001

    NodeReconciler.reconcile = swept  # type: ignore[method-assign, assignment]


class _Remembered:
    """Rows as they are known here, whatever has become of them."""

    def __init__(self, rows: InstanceStore, view: RegistryView) -> None:
        self._rows = rows
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def rows_by_key(self, keys: Sequence[InstanceKey]) -> Mapping[InstanceKey, InstanceRow]:
        await self._rows.rows_by_key(keys)  # so that the sweep can be held up here all the same
        found = ((key, self._view.row(*key)) for key in keys)
        return {key: row for key, row in found if row is not None}


def _plant_in_nodes(seeded: Seeded) -> None:
    """Put and remove nodes without moving or looking at a fence."""
    fenced = cast("Any", FencedNodes)
    replaces, checks = fenced.plan_replacement, fences.check_fence

    def plan_replacement_without_fence(
        self: Any, transaction: TransactionRequest, *of: Any
    ) -> None:
        if not seeded.has("no_fence"):
            replaces(self, transaction, *of)
            return
        service, name, _, _, seen = of
        if seen is not None:
            assert isinstance(seen, Node)
            transaction.delete(self.node_path(service, name))

    def check_fence_unless_seeded(*of: Any) -> None:
        if not seeded.has("no_fence"):
            checks(*of)

    fenced.plan_replacement = plan_replacement_without_fence
    fences.check_fence = check_fence_unless_seeded  # type: ignore[assignment]


class BuggyRows:
    """The rows of one replica, with what is wrong about calling them."""

    def __init__(self, rows: InstanceStore, database: str, seeded: Seeded) -> None:
        self._rows = rows
        self._database = database
        self._seeded = seeded
        self._replica = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def register(self, registration: Registration) -> RegistrationResult:
        self._replica = registration.owner
        return await self._rows.register(registration)

    async def claim(
        self, tokens: Sequence[RowToken], owner: str, settle_seconds: float
    ) -> Sequence[InstanceRow]:
        if self._seeded.has("claims_without_tag"):
            found = await self._rows.rows_by_key([token[:2] for token in tokens])
            tokens = [row.token for row in found.values()]
        claimed = await self._rows.claim(tokens, owner, settle_seconds)
        if not self._seeded.has("adoption_moves_epoch"):
            return claimed
        connection = await asyncpg.connect(self._database, timeout=2)
        try:
            await connection.executemany(_EPOCH_MOVED, [row.key for row in claimed])
        finally:
            await connection.close()
        return [replace(row, epoch=row.epoch + 1) for row in claimed]

    async def record_heartbeats(
        self, heartbeats: Sequence[Heartbeat]
    ) -> Mapping[InstanceKey, InstanceRow]:
        if not self._seeded.has("owner_counts_heartbeats"):
            return await self._rows.record_heartbeats(heartbeats)
        found = await self._rows.rows_by_key([beat[:2] for beat in heartbeats])
        known = {key: row for key, row in found.items() if row.state == "registered"}
        own = [beat for beat in heartbeats if found[beat[:2]].owner == self._replica]
        return {**known, **await self._rows.record_heartbeats(own)}
