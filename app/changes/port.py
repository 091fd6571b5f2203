"""The port: the one totally ordered log of changes, with the intents that lead to them.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_change_log.py`. Every method
is one transaction, committed before it returns, and raises `LogUnavailable` within its deadline.
"""

from collections.abc import Sequence
from typing import Protocol

from app.changes.model import Change, Disclosure, Entity, Intent, Pointer, Snapshot, Written


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
