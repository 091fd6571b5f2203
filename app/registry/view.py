"""What this replica knows of all instances: rows of desired state beside ZooKeeper's nodes."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import structlog

from app.registry.protection import Protection
from app.registry.rows import Row
from pilothouse_core.balancing import Pool
from pilothouse_core.curator import Found
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import Instance, Tag, read_registration

Status = Literal["starting", "up", "suspect", "down", "draining"]
DISCOVERED = frozenset({"up", "suspect"})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance as clients see it: registered here (`row`), or by others (`found`)."""

    service: str
    id: str
    status: Status
    url: str
    instance: Instance | None = None  # None: foreign, and not written by this project
    row: Row | None = None
    found: Found | None = None

    @property
    def metadata(self) -> Mapping[str, str]:
        if self.instance is not None:
            return self.instance.metadata
        return {} if self.found is None else self.found.metadata


@dataclass(frozen=True)
class ServiceView:
    """All instances of one service, by id."""

    name: str
    seen: tuple[Seen, ...]
    # What was answered of it, by what was asked: it stays true as long as this view does.
    answers: dict[Hashable, tuple[bytes, str]] = field(default_factory=dict, compare=False)
    pools: dict[str | None, tuple[float, Pool]] = field(default_factory=dict, compare=False)

    @cached_property
    def by_id(self) -> Mapping[str, Seen]:
        return {one.id: one for one in self.seen}

    @cached_property
    def discovered(self) -> tuple[Seen, ...]:
        return tuple(one for one in self.seen if one.status in DISCOVERED)

    def instance(self, id_: str) -> Seen | None:
        return self.by_id.get(id_)


class View:
    def __init__(self) -> None:
        self._rows: defaultdict[str, dict[str, tuple[Row, Instance | None]]] = defaultdict(dict)
        self._nodes: dict[str, Mapping[str, Found]] = {}
        self._services: dict[str, ServiceView] = {}
        self._moved = asyncio.Event()
        self.protection = Protection()
        self.revision = 0  # of the newest change that is in it

    @property
    def services(self) -> list[str]:
        """Return the names of all services that have an instance, in order."""
        names = {*self._rows, *self._nodes}
        return sorted(name for name in names if self.service(name).seen)

    def service(self, name: str) -> ServiceView:
        found = self._services.get(name)
        if found is None:
            seen = seen_of(name, self._rows.get(name, {}), self._nodes.get(name, {}))
            found = ServiceView(name, seen)
            if seen:
                self._services[name] = found
        return found

    def row(self, service: str, id_: str) -> Row | None:
        found = self._rows.get(service, {}).get(id_)
        return None if found is None else found[0]

    def instance(self, row: Row) -> Instance | None:
        """Return what a row describes; None if this release cannot read it."""
        found = self._rows.get(row.service, {}).get(row.instance_id)
        known = found is not None and found[0].definition == row.definition
        return found[1] if known and found is not None else _instance(row)

    def rows(self) -> Iterable[Row]:
        return [row for rows in self._rows.values() for row, _ in rows.values()]

    def node(self, service: str, id_: str) -> Found | None:
        return self._nodes.get(service, {}).get(id_)

    def learn(self, rows: Iterable[Row]) -> None:
        """Take over rows, newer ones of a tag and a version win; a heartbeat moves nothing."""
        moved = False
        for row in rows:
            known, instance = self._rows.get(row.service, {}).get(row.instance_id, (None, None))
            if known is not None and _order(known) >= _order(row):
                if _order(known) == _order(row) and row.heartbeat_at > known.heartbeat_at:
                    self._rows[row.service][row.instance_id] = row, instance
                continue
            moved = True
            self.revision = max(self.revision, row.revision)
            self._rows[row.service][row.instance_id] = row, _instance(row)
            self._services.pop(row.service, None)
        if moved:
            self._wake()

    def forget(self, service: str, id_: str) -> None:
        """Let go of a row that is not kept any more."""
        self._rows.get(service, {}).pop(id_, None)
        if not self._rows.get(service):
            self._rows.pop(service, None)
        self._services.pop(service, None)

    def found(self, service: str, nodes: Mapping[str, Found]) -> None:
        """Take over what stands in ZooKeeper for a service now, by node name."""
        if self._nodes.get(service, {}) == nodes:
            return
        if nodes:
            self._nodes[service] = nodes
        else:
            self._nodes.pop(service, None)
        self._services.pop(service, None)
        self._wake()

    def protect(self, protection: Protection) -> None:
        """Take over where nobody is evicted now."""
        if protection != self.protection:
            _log.warning(
                "self_preservation",
                everywhere=protection.everywhere,
                services=sorted(protection.services),
            )
            self.protection = protection
            self._wake()

    async def moved(self, seconds: float) -> None:
        """Return when anything has moved, at the latest after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()

    def release(self) -> None:
        """Let everybody go who waits."""
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _order(row: Row) -> tuple[int, int, int]:
    return row.epoch, row.term, row.version


def _instance(row: Row) -> Instance | None:
    try:
        return read_registration(json.loads(row.definition))
    except (DefinitionError, ValueError):
        # Written by a newer release, perhaps: this replica must go on with all the others.
        _log.error("instance_unreadable", service=row.service, instance=row.instance_id)
        return None


def seen_of(
    service: str, rows: Mapping[str, tuple[Row, Instance | None]], nodes: Mapping[str, Found]
) -> tuple[Seen, ...]:
    """Put rows and nodes together.

    A registered row without its node is suspect; a node that is left over of a registration is
    hidden; a node without a row is foreign, and so is one of somebody who took an id later.
    """
    seen: dict[str, Seen] = {}
    for id_, (row, instance) in rows.items():
        if row.state == "registered" and instance is not None:
            status = status_of(row, nodes.get(id_))
            seen[id_] = Seen(service, id_, status, instance.service_url, instance, row)
    for name, found in nodes.items():
        known = rows.get(name) or rows.get(found.id)
        if found.id in seen or (known is not None and _is_of(known[0], found)):
            continue
        seen[found.id] = Seen(
            service,
            found.id,
            found.status,  # type: ignore[arg-type]
            str(found.url) if found.instance is None else found.instance.service_url,
            found.instance,
            found=found,
        )
    return tuple(seen[id_] for id_ in sorted(seen))


def _is_of(row: Row, node: Found) -> bool:
    """Tell whether a node belongs to a row, or to one of its registrations that are over.

    An instance that was deregistered may come again on its own, without the service.
    """
    if row.state == "registered":
        return True
    if node.tag is None:
        return False
    if node.tag.epoch > row.epoch or node.registered_at is None:
        return True  # registered again: its row is on its way
    # Whoever writes nodes with the client library counts no epochs.
    return node.registered_at <= int(row.registered_at.timestamp() * 1000)


def status_of(row: Row, node: Found | None) -> Status:
    if row.draining_until is not None:
        return "draining"
    if row.health != "up":
        return row.health
    # Whose owner died, for as long as nobody has adopted it; it may well be alive.
    return "up" if node is not None and is_its(row, node) else "suspect"


def is_its(row: Row, node: Found) -> bool:
    """Tell whether a node is of this registration; a term ago is as good for those who look."""
    return node.tag is not None and node.tag.epoch == row.epoch


def tag_of(row: Row) -> Tag:
    return Tag(row.epoch, row.term)
