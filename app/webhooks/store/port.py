"""The port: how far the deliveries of each webhook are, and what waits or was given up.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_delivery_store.py`. Every
method is one transaction, committed before it returns, by the clock of the store, and raises
`DeliveriesUnavailable` within its deadline. A webhook is named by its id.
"""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from app.webhooks.model import (
    Attempt,
    DeadLetter,
    DeliveryState,
    Lease,
    NumberedAttempt,
    RoundResult,
    Waiting,
)

MOST_DEAD_LETTERS: Final = 10_000  # of a webhook; the oldest are deleted
MOST_ATTEMPTS: Final = 200  # of a webhook that are shown


class DeliveryStore(Protocol):
    async def open(self, webhook_id: str, cursor: int) -> None:
        """Begin after the revision `cursor`; does nothing if the webhook was opened before."""
        ...

    async def lease(self, webhook_id: str, owner: str, seconds: float) -> Lease | None:
        """Take or renew the lease for `seconds`; None if another owner has it."""
        ...

    async def release(self, webhook_id: str, owner: str) -> None:
        """End the lease if this owner has it."""
        ...

    async def waiting(self, webhook_id: str, limit: int) -> Waiting:
        """Return at most `limit` deliveries whose line is due, those of one entity in order."""
        ...

    async def record(
        self, webhook_id: str, owner: str, result: RoundResult, seconds: float
    ) -> Lease:
        """Record a round and renew the lease; raises LeaseLost if another owner has it.

        The cursor never goes back. An attempt gets the next number. Of dead letters and attempts
        the newest MOST_DEAD_LETTERS and MOST_ATTEMPTS are kept.
        """
        ...

    async def record_attempt(self, webhook_id: str, attempt: Attempt) -> None:
        """Record a request that was made by hand, which needs no lease."""
        ...

    async def attempts(
        self, webhook_id: str, limit: int, before: int | None = None
    ) -> Sequence[NumberedAttempt]:
        """Return the newest attempts, those before a number, newest first."""
        ...

    async def dead_letters(
        self, webhook_id: str, limit: int, after: tuple[int, str] | None = None
    ) -> Sequence[DeadLetter]:
        """Return dead letters by revision and id, those after the given ones."""
        ...

    async def resend(self, webhook_id: str, message_id: str | None = None) -> int:
        """Let one dead letter, or all, wait for one more attempt; return how many.

        Their age stays, so that a dead letter that fails again is one again.
        """
        ...

    async def states(self) -> Sequence[DeliveryState]:
        """Return the state of every webhook that was opened."""
        ...

    async def clean(self, known: Collection[str], opened_before: float, dead_before: float) -> int:
        """Delete what belongs to no known webhook, and old dead letters; return how many rows.

        A webhook that was opened less than `opened_before` seconds ago is left alone. Dead letters
        are old after `dead_before` seconds.
        """
        ...
