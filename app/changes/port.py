"""The port: the one totally ordered log of changes, with the intents that lead to them.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_change_log.py`. Every method
is one transaction, committed before it returns, and raises `LogUnavailable` within its deadline.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.changes.events import Event
from app.changes.model import Change, Disclosure, Entity, Intent, Pointer, Snapshot, Written


class Lead(Protocol):
    """What the one replica holds that relays the log; it may be lost at any moment."""

    @property
    def is_held(self) -> bool:
        """Tell, without asking anybody, whether it is still known to be ours."""
        ...


class ChangeLog(Protocol):
    async def begin(self, intent: Intent) -> Intent:
        """Record an intent; under an idempotency key already taken, return the earlier one."""
        ...

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

    async def intent(self, intent_id: str) -> Intent:
        """Return an intent as it stands, or raise IntentNotFound."""
        ...

    async def joined(self, idempotency_key: str) -> Intent | None:
        """Return the intent of the last 24 hours under this key."""
        ...

    async def overdue(self, limit: int) -> Sequence[Intent]:
        """Return undecided intents whose time to be looked at has come, oldest first."""
        ...

    async def expire(self, intent_id: str) -> None:
        """Mark an undecided intent `expired`, which is not final, and look again later."""
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

    async def recent(self, seconds: float) -> int:
        """Count the changes of the last `seconds`."""
        ...

    async def unsent(self, limit: int) -> Sequence[Change]:
        """Return changes not yet marked as sent, ascending."""
        ...

    async def mark_sent(self, revisions: Sequence[int]) -> None:
        """Remember that these changes were sent; once sent, always sent."""
        ...

    async def oldest_unsent(self) -> float | None:
        """Return for how many seconds a change has been waiting to be sent, by the log's clock."""
        ...

    def lead(self) -> AbstractAsyncContextManager[Lead]:
        """Wait until this replica leads, the only one of all, as long as the block lasts.

        Raises LogUnavailable if the log is away. Two may believe to lead for the moment it takes
        the first to notice that it does no longer.
        """
        ...

    async def trim(self, older_than: float, keep: int, *, relayed: bool) -> int:
        """Delete changes logged over `older_than` seconds ago, some at a time; return how many.

        The last `keep` (at least one) of each entity stay, and where the log is `relayed` all that
        were not sent. Moves the horizon. 0 means that there is no more to delete now.
        """
        ...

    async def forget(self, older_than: float) -> int:
        """Delete intents over `older_than` seconds old that are decided; return how many.

        Some at a time, 0 when no more are to be deleted now. One that is undecided stays whatever
        its age, because its write may still land.
        """
        ...

    async def horizon(self) -> int:
        """Return the highest revision ever trimmed, 0 if none: after it the log is complete."""
        ...

    async def disclose(self, disclosure: Disclosure) -> None:
        """Write the audit row of a reveal."""
        ...

    async def claim(self, task: str, every: float) -> bool:
        """Tell whether this replica may do `task` now: true once in `every` seconds over all."""
        ...

    async def changed(self, within: float) -> None:
        """Return when something may have been logged, at the latest after `within` seconds."""
        ...

    async def ping(self) -> None:
        """Return if the log answers."""
        ...


class EventPublisher(Protocol):
    """Where events go; adapter: `kafka`. Raises EventsUnavailable within its deadlines."""

    async def open(self) -> None:
        """Make ready to publish, if that is not done yet."""
        ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Return when all are kept for good, in this order for each key.

        Raises NotPublished with those that are known to be kept; any other may come later or
        never. What is then published again, from the first that is not known to be kept on,
        appears after its predecessors for the first time whatever becomes of the earlier attempt.
        """
        ...

    async def ping(self) -> None:
        """Return if events can be published."""
        ...
