"""Desired state of the registry: one row for each instance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, NamedTuple

from app.changes.model import Entity

InstanceState = Literal["registered", "deregistered", "evicted"]
HealthStatus = Literal["starting", "up", "suspect", "down"]
LeaseKind = Literal["heartbeat", "probe"]
InstanceKey = tuple[str, str]  # service and instance

MAX_INSTANCES: Final = 10_000  # registered instances of one service
MAX_ROWS_PER_CALL: Final = 1000  # rows that one call processes
# Rows that one transaction logs: each extends the hash chain of the audit, and no other transaction
# can log in that time. On a busy machine a thousand take longer than the deadline of a call.
MAX_LOGGED_PER_CALL: Final = 250
ACTOR: Final = "registry"  # of changes that no caller requested
PROTECTED_LEASES: Final = 10  # the longest time self-preservation keeps a silent instance
RELEASE_ACTION: Final = "released"  # the action in the audit
ALL_SERVICES: Final = "*"  # the name in the audit when all services were released


def instance_entity(service: str, instance_id: str) -> Entity:
    name = f"{service}/{instance_id}"
    return Entity("instance", "default", name, f"instances/{name}")


class RowToken(NamedTuple):
    """Identifies a row at one epoch and term; with an outdated token nothing is changed."""

    service: str
    instance_id: str
    epoch: int
    term: int


class Heartbeat(NamedTuple):
    service: str
    instance_id: str
    epoch: int | None = None  # None: of any registration


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """Desired state of an instance. All times are of the store's clock."""

    service: str
    instance_id: str
    epoch: int  # of the registration; the client sees it
    term: int  # increases with every claim, deregistration and eviction
    state: InstanceState
    health: HealthStatus
    owner: str  # the replica that maintains its node
    definition: str  # JSON text
    lease: LeaseKind
    ttl_seconds: float
    registered_at: datetime
    heartbeat_at: datetime
    draining_until: datetime | None
    version: int  # increases by 1 with every logged transition
    revision: int  # of the newest change

    @property
    def key(self) -> InstanceKey:
        return self.service, self.instance_id

    @property
    def token(self) -> RowToken:
        return RowToken(self.service, self.instance_id, self.epoch, self.term)


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    row: InstanceRow
    created: bool  # False: it replaced an existing registration


@dataclass(frozen=True, slots=True)
class Registration:
    """A request to register an instance."""

    service: str
    instance_id: str
    definition: str
    lease: LeaseKind
    ttl_seconds: float
    owner: str
    actor: str
    request_id: str
    source: str | None = None  # address of the caller
    fingerprint: str | None = None  # keyed, of the definition
    replaces: int | None = None  # the epoch it may replace, 0 for none; None: any


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """Numbers of instances of one service, without released ones."""

    registered: int
    overdue: int  # silent for more than one ttl, among those with a heartbeat lease
    evicted: int  # in the last minute, not registered since, not kept for `PROTECTED_LEASES`
    newcomers: int = 0  # alive, with ids first registered after the first of these fell silent
    first_seconds: float = field(
        default=0.0, compare=False
    )  # since the last heartbeat of the first that fell silent
    last_seconds: float = field(default=0.0, compare=False)  # since the last one was due


@dataclass(frozen=True, slots=True)
class EvictionCandidates:
    """Input of the decision which instances to evict."""

    due: Sequence[InstanceRow]  # silent for more than two ttl; longest relative to the ttl first
    counts: Mapping[str, ServiceCounts]  # by service
    silent_seconds: Mapping[InstanceKey, float] = field(
        default_factory=dict, compare=False
    )  # of due
    released: frozenset[InstanceKey] = frozenset()  # of due
