"""The desired state of the registry, a row an instance, and the port that keeps it.

Adapters: `rows_postgres` and `rows_embedded`. Both pass `tests/contracts/test_instance_rows.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol

from app.changes.model import Entity

State = Literal["registered", "deregistered", "evicted"]
Health = Literal["starting", "up", "suspect", "down"]
Lease = Literal["heartbeat", "probe"]
Key = tuple[str, str]  # service and instance

INSTANCES_AT_MOST: Final = 10_000  # registered ones, of one service
AT_ONCE: Final = 1000  # rows that one call looks through for what has to be done
ACTOR: Final = "registry"  # of the changes that nobody asked for


def entity(service: str, instance_id: str) -> Entity:
    name = f"{service}/{instance_id}"
    return Entity("instance", "default", name, f"instances/{name}")


class Tag(NamedTuple):
    """One moment in the life of a row: what is done to it holds only for this moment."""

    service: str
    instance_id: str
    epoch: int
    term: int


class Beat(NamedTuple):
    service: str
    instance_id: str
    epoch: int | None = None  # None: of whichever registration there is


@dataclass(frozen=True, slots=True)
class Row:
    """What an instance shall be. All times are of the store's own clock."""

    service: str
    instance_id: str
    epoch: int  # of the registration; the client sees it
    term: int  # moves with every claim, deregistration and eviction
    state: State
    health: Health
    owner: str  # the replica that keeps its node
    definition: str  # JSON text
    lease: Lease
    ttl_seconds: float
    registered_at: datetime
    heartbeat_at: datetime
    draining_until: datetime | None
    version: int  # rises by 1 with every logged transition
    revision: int  # of the newest change

    @property
    def key(self) -> Key:
        return self.service, self.instance_id

    @property
    def tag(self) -> Tag:
        return Tag(self.service, self.instance_id, self.epoch, self.term)


@dataclass(frozen=True, slots=True)
class Registered:
    row: Row
    created: bool  # False: it was registered just before, and that registration is over


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered, and by whom."""

    service: str
    instance_id: str
    definition: str
    lease: Lease
    ttl_seconds: float
    owner: str
    actor: str
    request_id: str
    source: str | None = None  # the address it came from
    fingerprint: str | None = None  # keyed, of the definition


@dataclass(frozen=True, slots=True)
class Counts:
    """How many instances of one service there are."""

    registered: int
    overdue: int  # of those with a heartbeat lease: silent for more than one ttl
    evicted: int  # within the last minute, and still so


@dataclass(frozen=True, slots=True)
class Overdue:
    """What an eviction is decided by."""

    due: Sequence[Row]  # silent for more than two ttl, the longest silent first
    counts: Mapping[str, Counts]  # by service


class InstanceRows(Protocol):
    """Every method is one transaction, committed before it returns, and in time.

    Those who register at the same time may share one.

    Each raises RegistryUnavailable within its deadline. A *logged* transition is one change
    (kind `instance`) and one version of the row. Nothing else gets a change: a claim moves `term`,
    a heartbeat `heartbeat_at`, and no revision.
    """

    async def register(self, registration: Registration) -> Registered:
        """Register, logged; what was registered under the same name before is replaced whole.

        The next epoch begins, at term 1: never one that the instance had before. A heartbeat
        lease is `up` at once, a probed one `starting`. Raises TooManyInstances.
        """
        ...

    async def deregister(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> Row:
        """Deregister, logged; the term moves. Epoch None: whichever is registered.

        Raises InstanceNotFound if none is, and OldEpoch if another epoch is.
        """
        ...

    async def drain(  # noqa: PLR0913, PLR0917 - three of them say who asks
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        actor: str,
        request_id: str,
        source: str | None = None,
    ) -> Row:
        """Set when the grace ends, logged; raises as `deregister` does."""
        ...

    async def drained(self) -> Sequence[Row]:
        """Deregister those whose grace has ended, logged; return them."""
        ...

    async def claim(self, tags: Sequence[Tag], owner: str, settle_seconds: float) -> Sequence[Row]:
        """Give each registered row that is still at its tag to `owner`; return those it got.

        Their terms have moved. Not a row that was claimed or registered by another owner less than
        `settle_seconds` ago. Of several who claim at one tag one wins.
        """
        ...

    async def beat(self, beats: Sequence[Beat]) -> Mapping[Key, Row]:
        """Note that these were heard now; what is suspected for its silence is up, logged.

        Returns the rows as they are now. Absent: what is not registered, or with another epoch.
        """
        ...

    async def judge(self, marks: Mapping[Tag, Health]) -> Sequence[Row]:
        """Set the health of each registered row that is still at its tag; return what changed.

        Logged, where it differs.
        """
        ...

    async def overdue(self) -> Overdue:
        """Suspect who was silent for one ttl, logged, and return what an eviction is decided by.

        Only heartbeat leases; `AT_ONCE` rows a call, those silent for the longest time first.
        """
        ...

    async def evict(self, tags: Sequence[Tag]) -> Sequence[Row]:
        """Evict those still at their tag and silent for two ttl, logged; return them.

        Only heartbeat leases; the term moves. Nothing whose heartbeat was acknowledged since.
        """
        ...

    async def row(self, service: str, instance_id: str) -> Row | None:
        """Return the row, whatever its state."""
        ...

    async def current(self, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Return the rows there are, whatever their state."""
        ...

    async def owned(self, owner: str) -> Sequence[Row]:
        """Return the registered rows of an owner."""
        ...

    async def newer(self, after: int, limit: int) -> Sequence[Row]:
        """Return the rows with a change after this revision, ascending, whatever their state.

        At most `limit`, to be asked again after the last.
        """
        ...

    async def reap(self, older_than_seconds: float) -> Sequence[Tag]:
        """Forget rows that have not been registered for so long; return where they ended.

        Their changes stay, and a later registration begins a later epoch. `AT_ONCE` rows a call.
        """
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...
