"""Evicts silent instances, ends drains, and deletes the rows of instances that are gone.

The steps and their order are those of docs/protocols.md, part C.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from math import inf
from time import monotonic

import structlog

from app.registry.errors import NodesUnavailable, RegistryUnavailable
from app.registry.heartbeat_history import HeartbeatHistory
from app.registry.instances.port import InstanceStore
from app.registry.model import (
    MAX_LOGGED_PER_CALL,
    PROTECTED_LEASES,
    EvictionCandidates,
    InstanceRow,
    RowToken,
)
from app.registry.nodes.port import ServiceRegistryClient
from app.registry.self_preservation import Protection, protection
from app.registry.view import RegistryView
from app.telemetry import INSTANCES_EVICTED, INSTANCES_PROTECTED, SERVICES_PROTECTED
from pilothouse_core.instances import FencingToken

EVICT_SECONDS = 1.0
REAP_SECONDS = 24 * 3600.0
FORGET_SECONDS = 600.0
GAP_SECONDS = 3.0  # without reading the rows: this replica was frozen or disconnected
_LONGEST_LEASE = 24 * 3600.0
_AT_ONCE = 5000  # rows that are read at once
_log = structlog.get_logger(__name__)


class InstanceEvictor:
    """`remove_node` removes the node of a row; `gap` is in seconds."""

    def __init__(
        self,
        rows: InstanceStore,
        nodes: ServiceRegistryClient,
        view: RegistryView,
        remove_node: Callable[[InstanceRow], Awaitable[None]],
        clock: Callable[[], float] = monotonic,
        *,
        gap: float = GAP_SECONDS,
    ) -> None:
        self._rows = rows
        self._nodes = nodes
        self._view = view
        self._remove_node = remove_node
        self._clock = clock
        self._gap = gap
        self._steady_since = self._looked_at = clock()
        self._protected_at: dict[str, float] = {}  # last time each service was protected
        self.heartbeat_history = HeartbeatHistory(clock)

    async def run_evictions(self) -> None:
        """Suspect, evict and end drains until cancelled; raises RegistryUnavailable."""
        while True:
            await self.evict_silent()
            await asyncio.sleep(EVICT_SECONDS)

    async def evict_silent(self) -> None:
        """Mark suspects, evict instances that are silent for too long, and end drains."""
        try:
            candidates = await self._rows.mark_suspects()
        except RegistryUnavailable:
            self._steady_since = self._clock()  # heartbeats received since are not recorded yet
            raise
        self._update_steadiness()
        self._protect(protection(candidates.counts))
        due = [row.token for row in self._evictable(candidates)]
        for start in range(0, len(due), MAX_LOGGED_PER_CALL):
            evicted = await self._rows.evict(due[start : start + MAX_LOGGED_PER_CALL])
            if evicted:
                INSTANCES_EVICTED.inc(len(evicted))
                _log.warning("instances_evicted", instances=len(evicted))
            await self._remove_nodes(evicted)
        await self._remove_nodes(await self._rows.finish_drains())

    def _protect(self, protected: Protection) -> None:
        now = self._clock()
        self._view.set_protection(protected)
        SERVICES_PROTECTED.set(len(protected.services))
        INSTANCES_PROTECTED.set(protected.silent)
        kept = {name: at for name, at in self._protected_at.items() if now - at <= _LONGEST_LEASE}
        self._protected_at = kept | dict.fromkeys(protected.services, now)

    def _evictable(self, candidates: EvictionCandidates) -> Iterator[InstanceRow]:
        now, bounds = self._clock(), dict[float, float]()
        for row in candidates.due:
            lease = row.ttl_seconds
            # After an outage of this replica all instances get time to send a heartbeat first.
            if now - self._steady_since <= lease:
                continue
            if lease not in bounds:
                bounds[lease] = self.heartbeat_history.seconds_back(PROTECTED_LEASES * lease, lease)
            # After protection ends, instances that have not returned get the same time.
            is_protected = now - self._protected_at.get(row.service, -inf) <= lease
            is_overdue = candidates.silent_seconds[row.key] >= bounds[lease]
            if not is_protected or is_overdue or row.key in candidates.released:
                yield row

    def _update_steadiness(self) -> None:
        now = self._clock()
        # Without ZooKeeper no instance is evicted: local knowledge may be outdated.
        if now - self._looked_at > self._gap or not self._nodes.is_current:
            self._steady_since = now
        self._looked_at = now

    async def _remove_nodes(self, rows: Iterable[InstanceRow]) -> None:
        rows = list(rows)
        self._view.learn(rows)
        for row in rows:
            try:
                await self._remove_node(row)
            except NodesUnavailable:
                break  # hidden by its row; its owner removes the node

    async def reap(self) -> None:
        """Delete rows unregistered for a day, with their fences."""
        for tag in await self._rows.reap(REAP_SECONDS):
            self._forget(tag)
            await self._nodes.reap(tag.service, tag.instance_id, FencingToken(tag.epoch, tag.term))

    async def run_forgetting(self) -> None:
        """Forget rows reaped by other replicas until cancelled; raises RegistryUnavailable."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            await self.forget_reaped()

    async def forget_reaped(self) -> None:
        """Forget rows that other replicas have reaped."""
        ended = [row for row in self._view.rows() if row.state != "registered"]
        for start in range(0, len(ended), _AT_ONCE):
            batch = ended[start : start + _AT_ONCE]
            current = await self._rows.rows_by_key([row.key for row in batch])
            for row in batch:
                if row.key not in current:
                    self._forget(row.token)

    def _forget(self, tag: RowToken) -> None:
        row = self._view.row(tag.service, tag.instance_id)
        if row is not None and row.token == tag:  # it may have been registered again
            self._view.forget(tag.service, tag.instance_id)
