"""Local view of all instances: rows of the desired state joined with ZooKeeper's nodes."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import structlog

from app.registry.model import InstanceRow
from app.registry.self_preservation import Protection
from pilothouse_core.balancing import Pool
from pilothouse_core.curator import DiscoveredInstance
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import FencingToken, Instance, environment_in, read_registration

Status = Literal["starting", "up", "suspect", "down", "draining"]
DISCOVERABLE = frozenset({"up", "suspect"})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as clients see it: registered here (`row`), or in ZooKeeper only (`node`)."""

    service: str
    id: str
    status: Status
    url: str
    instance: Instance | None = None  # None: foreign, not written by Pilothouse
    row: InstanceRow | None = None
    node: DiscoveredInstance | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        if self.instance is not None:
            return self.instance.metadata
        return {} if self.node is None else self.node.metadata

    @property
    def environment(self) -> str | None:
        """The environment in its metadata, None if there is none."""
        return environment_in(self.metadata)


@dataclass(frozen=True)
class ServiceView:
    """All instances of one service, by id."""

    name: str
    instances: tuple[InstanceView, ...]
    # Cached responses by query; valid as long as this view.
    answers: dict[Hashable, tuple[bytes, str]] = field(default_factory=dict, compare=False)
    pools: dict[tuple[str | None, str | None], tuple[float, Pool]] = field(
        default_factory=dict, compare=False
    )

    @cached_property
    def by_id(self) -> Mapping[str, InstanceView]:
        return {one.id: one for one in self.instances}

    @cached_property
    def discoverable(self) -> tuple[InstanceView, ...]:
        return tuple(one for one in self.instances if one.status in DISCOVERABLE)

    def instance(self, id_: str) -> InstanceView | None:
        return self.by_id.get(id_)


class RegistryView:
    def __init__(self) -> None:
        self._rows: defaultdict[str, dict[str, tuple[InstanceRow, Instance | None]]] = defaultdict(
            dict
        )
        self._nodes: dict[str, Mapping[str, DiscoveredInstance]] = {}
        self._services: dict[str, ServiceView] = {}
        self._moved = asyncio.Event()
        self.protection = Protection()
        self.revision = 0  # of the newest change in it

    @property
    def services(self) -> list[str]:
        """Return the names of all services that have an instance, in order."""
        names = {*self._rows, *self._nodes}
        return sorted(name for name in names if self.service(name).instances)

    def service(self, name: str) -> ServiceView:
        view = self._services.get(name)
        if view is None:
            seen = instance_views(name, self._rows.get(name, {}), self._nodes.get(name, {}))
            view = ServiceView(name, seen)
            if seen:
                self._services[name] = view
        return view

    def row(self, service: str, id_: str) -> InstanceRow | None:
        entry = self._rows.get(service, {}).get(id_)
        return None if entry is None else entry[0]

    def instance(self, row: InstanceRow) -> Instance | None:
        """Return the instance of a row; None if this release cannot read it."""
        entry = self._rows.get(row.service, {}).get(row.instance_id)
        known = entry is not None and entry[0].definition == row.definition
        return entry[1] if known and entry is not None else _read_instance(row)

    def rows(self) -> Iterable[InstanceRow]:
        return [row for rows in self._rows.values() for row, _ in rows.values()]

    def node(self, service: str, id_: str) -> DiscoveredInstance | None:
        return self._nodes.get(service, {}).get(id_)

    def learn(self, rows: Iterable[InstanceRow]) -> None:
        """Store rows that are newer by token and version; a heartbeat alone wakes no waiter."""
        moved = False
        for row in rows:
            known, instance = self._rows.get(row.service, {}).get(row.instance_id, (None, None))
            if known is not None and _row_order(known) >= _row_order(row):
                if _row_order(known) == _row_order(row) and row.heartbeat_at > known.heartbeat_at:
                    self._rows[row.service][row.instance_id] = row, instance
                continue
            moved = True
            self.revision = max(self.revision, row.revision)
            self._rows[row.service][row.instance_id] = row, _read_instance(row)
            self._services.pop(row.service, None)
        if moved:
            self._wake()

    def forget(self, service: str, id_: str) -> None:
        """Forget a deleted row."""
        self._rows.get(service, {}).pop(id_, None)
        if not self._rows.get(service):
            self._rows.pop(service, None)
        self._services.pop(service, None)

    def set_nodes(self, service: str, nodes: Mapping[str, DiscoveredInstance]) -> None:
        """Replace the nodes of a service, by node name."""
        if self._nodes.get(service, {}) == nodes:
            return
        if nodes:
            self._nodes[service] = nodes
        else:
            self._nodes.pop(service, None)
        self._services.pop(service, None)
        self._wake()

    def set_protection(self, protection: Protection) -> None:
        """Replace the current protection."""
        if protection != self.protection:
            _log.warning("self_preservation", services=sorted(protection.services))
            self.protection = protection
            self._wake()
        self.protection = protection  # equal, but with the current number of instances

    async def wait_for_change(self, seconds: float) -> None:
        """Wait for a change, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def wake_waiters(self) -> None:
        """Wake all waiters."""
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _row_order(row: InstanceRow) -> tuple[int, int, int]:
    return row.epoch, row.term, row.version


def _read_instance(row: InstanceRow) -> Instance | None:
    try:
        return read_registration(json.loads(row.definition))
    except (DefinitionError, ValueError):
        # Perhaps written by a newer release: this replica continues with all other instances.
        _log.error("instance_unreadable", service=row.service, instance=row.instance_id)
        return None


def instance_views(
    service: str,
    rows: Mapping[str, tuple[InstanceRow, Instance | None]],
    nodes: Mapping[str, DiscoveredInstance],
) -> tuple[InstanceView, ...]:
    """Join rows and nodes.

    A registered row without its node is suspect; a node left over from a registration is hidden; a
    node without a row is foreign, and so is one that took over an id later.
    """
    seen: dict[str, InstanceView] = {}
    for id_, (row, instance) in rows.items():
        if row.state == "registered" and instance is not None:
            status = effective_status(row, nodes.get(id_))
            seen[id_] = InstanceView(service, id_, status, instance.service_url, instance, row)
    foreign = [node for name, node in nodes.items() if not _is_hidden(rows.get(name), rows, node)]
    ids = Counter([*seen, *(node.id for node in foreign)])
    for node in foreign:
        # Two live nodes may state the same id: then each is identified by the name of its node.
        is_unique = ids[node.id] == 1 and (node.id == node.node or node.id not in nodes)
        id_ = node.id if is_unique else node.node
        seen[id_] = InstanceView(
            service,
            id_,
            node.status,  # type: ignore[arg-type]
            str(node.url) if node.instance is None else node.instance.service_url,
            node.instance,
            node=node,
        )
    return tuple(seen[id_] for id_ in sorted(seen))


def _is_hidden(
    named: tuple[InstanceRow, Instance | None] | None,
    rows: Mapping[str, tuple[InstanceRow, Instance | None]],
    node: DiscoveredInstance,
) -> bool:
    """Whether a row already represents this node; `named` is the row with the node's name."""
    known = named
    if known is None and node.tag is not None:
        known = rows.get(node.id)
    return known is not None and _belongs_to(known[0], node)


def _belongs_to(row: InstanceRow, node: DiscoveredInstance) -> bool:
    """Whether a node belongs to a row, or to an earlier registration of it.

    A deregistered instance may register directly in ZooKeeper, without the service.
    """
    if row.state == "registered":
        return True
    if node.tag is None:
        return False
    if node.tag.epoch > row.epoch or node.registered_at is None:
        return True  # registered again: its row has not arrived yet
    # Nodes written by the client library have no epochs.
    return node.registered_at <= int(row.registered_at.timestamp() * 1000)


def effective_status(row: InstanceRow, node: DiscoveredInstance | None) -> Status:
    if row.draining_until is not None:
        return "draining"
    if row.health != "up":
        return row.health
    # Suspect: its owner died and no replica has adopted it yet; it may be alive.
    return "up" if node is not None and is_node_of(row, node) else "suspect"


def is_node_of(row: InstanceRow, node: DiscoveredInstance) -> bool:
    """Whether a node is of this registration; an earlier term is as good for clients."""
    return node.tag is not None and node.tag.epoch == row.epoch


def fencing_token(row: InstanceRow) -> FencingToken:
    return FencingToken(row.epoch, row.term)
