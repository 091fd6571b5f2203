"""The ports for the totally ordered log of changes: the log itself, and what leads to and from it.

`Intents` hold the writes that are under way, `ChangeLog` what was written, `Outbox` what Kafka is
still to receive, and `Maintenance` what keeps them small. A component takes those it needs.

Adapters: `postgres` and `embedded`. Both pass the tests in `tests/contracts/changes`. Every method
is one transaction, committed before it returns, and raises `LogUnavailable` within its deadline.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.changes.model import (
    Change,
    Disclosure,
    EarlierIntents,
    Entity,
    Guard,
    Intent,
    Pointer,
    Snapshot,
    Written,
)

RESERVED_SECONDS = 3.0  # for which related writes wait for an intent


class Intents(Protocol):
    async def begin(self, intent: Intent, guard: Guard | None = None) -> Intent:
        """Record an intent; under an idempotency key already taken, return the earlier one.

        With a guard, and under a lock that excludes other such calls, raises GuardMoved(revision)
        if a schema or policy in whose scope the document lies was changed after the guard's
        revision or, if the guard covers related documents, one of those was; and RelatedIntentOpen
        if it covers them and an intent of one is open or reserved. A document of a user relates to
        no other user's, and no other document relates to it.
        """
        ...

    async def close_key(self, intent: Intent) -> Intent:
        """Record an intent that is lost from the start: none is begun under its key any more.

        Its base is CLOSED_BASE. Under an idempotency key already taken, return the earlier intent.
        """
        ...

    async def reserve(self, intent: Intent) -> Intent:
        """Record an intent whose version is still to be judged, without its idempotency key.

        From now on related intents are refused, for RESERVED_SECONDS at most: see `begin`.
        """
        ...

    async def earlier_related(self, intent_id: str) -> EarlierIntents:
        """Return what a reserved intent has to wait for before its version is judged.

        Related intents that were open or reserved when it was reserved, and still are.
        """
        ...

    async def confirm(self, intent: Intent, policies_at: int | None = None) -> Intent:
        """Open a reserved intent with all it says now; returns what `begin` would return.

        If its idempotency key is taken already, the reservation is removed. Confirmed again, it
        is returned as it is. Raises ReservationLost if it is no longer reserved, and never was
        confirmed, or if a policy in whose scope the document lies was changed after `policies_at`.
        """
        ...

    async def cancel(self, intent_id: str) -> None:
        """Remove a reserved intent; does nothing to any other."""
        ...

    async def intent(self, intent_id: str) -> Intent:
        """Return an intent in its current state, or raise IntentNotFound."""
        ...

    async def intent_by_idempotency_key(self, idempotency_key: str) -> Intent | None:
        """Return the intent of the last 24 hours under this key."""
        ...

    async def overdue_intents(self, limit: int) -> Sequence[Intent]:
        """Return undecided intents that are due for a look, oldest first."""
        ...

    async def expire(self, intent_id: str) -> None:
        """Mark an undecided intent `expired`, which is not final, and look again later."""
        ...


class ChangeLog(Protocol):
    async def advance(self, entity: Entity, written: Sequence[Written]) -> Pointer:
        """Log the versions after the logged one and decide every intent they decide.

        `written` ascends without gaps; versions already logged are passed over. A version is
        ours only if an intent has its id, this entity and base = version - 1, else `external`.
        Raises Gap(logged) when `written` starts later than the version after the logged one.
        """
        ...

    async def pointer(self, key: str) -> Pointer | None:
        """Return the last logged version of one entity."""
        ...

    async def snapshot(self) -> Snapshot:
        """Return all pointers and the revision they reflect."""
        ...

    async def since(
        self,
        revision: int,
        limit: int,
        *,
        environment: str | None = None,
        kind: str | None = None,
        name: str | None = None,
    ) -> Sequence[Change]:
        """Return changes after `revision`, ascending."""
        ...

    async def history(self, key: str, limit: int, before: int | None = None) -> Sequence[Change]:
        """Return the changes of one entity below version `before`, newest first."""
        ...

    async def count_recent(self, seconds: float) -> int:
        """Count the changes of the last `seconds`."""
        ...

    async def horizon(self) -> int:
        """Return the highest revision ever trimmed, 0 if none: after it the log is complete."""
        ...

    async def record_disclosure(self, disclosure: Disclosure) -> None:
        """Write the audit row of a reveal."""
        ...

    async def wait_for_change(self, within: float) -> None:
        """Return when something may have been logged, at the latest after `within` seconds."""
        ...

    async def ping(self) -> None:
        """Return if the log answers."""
        ...


class Leadership(Protocol):
    """Leadership of the one replica that relays the log; it may be lost at any time."""

    @property
    def is_held(self) -> bool:
        """Whether leadership is still known to be ours, without any I/O."""
        ...


class Outbox(Protocol):
    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        """Wait until this replica leads, the only one of all, as long as the block lasts.

        Raises LogUnavailable if the log is unavailable. Two replicas may believe to lead until the
        first one notices that it does not any more.
        """
        ...

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        """Return changes not yet marked as sent, ascending."""
        ...

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        """Remember that these changes were sent; once sent, always sent."""
        ...

    async def oldest_unsent(self) -> float | None:
        """Return for how many seconds a change has been waiting to be sent, by the log's clock."""
        ...


class Maintenance(Protocol):
    async def acquire_turn(self, task: str, every: float) -> bool:
        """Acquire the turn for `task`: true once in `every` seconds over all replicas."""
        ...

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        """Delete changes logged over `older_than` seconds ago, some at a time; return how many.

        The last `keep` (at least one) of each entity stay, and where the log is `relayed` all that
        were not sent. Moves the horizon. 0 means that there is no more to delete now.
        """
        ...

    async def forget(self, older_than: float) -> int:
        """Delete intents over `older_than` seconds old that are decided; return how many.

        So are reservations that ended as long ago. Some at a time, 0 when no more are to be deleted
        now. One that is undecided stays whatever its age, because its write may still land.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogPorts:
    """The ports of one log."""

    intents: Intents
    log: ChangeLog
    outbox: Outbox
    maintenance: Maintenance
