"""The port: storage of flags and segments with all their versions.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_flag_store.py`. Every method is
one transaction, committed before it returns, and raises `FlagsUnavailable` within its deadline.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from app.flags.model import Commit, FlagUsage, Item, Kind, RecordedCommit


class FlagStore(Protocol):
    async def commit(self, commit: Commit) -> Sequence[Item]:
        """Write every edit as the next version of its item, in order, each with its change row.

        A deleted item that is created again continues its versions. Raises SetMoved(revision) if
        anything of the environment was committed after `commit.base`, and KeyTaken if the
        idempotency key was used within 24 hours, and PoliciesMoved if a policy that covers the
        environment was changed after `commit.policies_at`; then nothing was written.
        """
        ...

    async def commit_by_idempotency_key(self, idempotency_key: str) -> RecordedCommit | None:
        """Return the commit recorded under this key within the last 24 hours."""
        ...

    async def delete_expired_keys(self) -> int:
        """Delete idempotency keys that were used longer ago than that; return how many.

        Some at a time, 0 when no more are to be deleted now.
        """
        ...

    async def items_after(self, after: int, limit: int) -> Sequence[Item]:
        """Return the newest version of every item that changed after this revision, ascending.

        Deleted ones too. All environments; at most `limit`, to be asked again after the last.
        """
        ...

    async def history(
        self, kind: Kind, environment: str, name: str, limit: int, before: int | None = None
    ) -> Sequence[Item]:
        """Return the versions of one item below version `before`, newest first."""
        ...

    async def count(self, used: Mapping[tuple[str, str], Mapping[str, int]], at: datetime) -> None:
        """Add evaluations by (environment, flag) and variant; `at` is when the last of them was.

        A later time that is stored already is kept.
        """
        ...

    async def usage(self, environment: str) -> Mapping[str, FlagUsage]:
        """Return the counts of an environment, by flag."""
        ...

    async def ping(self) -> None:
        """Return if the store answers."""
        ...
