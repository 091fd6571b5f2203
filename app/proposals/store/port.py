"""The port: storage of proposals.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_proposal_store.py`. Every
method is one transaction, committed before it returns, and raises `ProposalsUnavailable` within its
deadline. Times are those of the store's clock.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from app.proposals.model import Proposal, ProposalCommit, ProposalFilter


class ProposalStore(Protocol):
    async def create(self, commit: ProposalCommit) -> tuple[Proposal, bool]:
        """Write the first version of a row, with its change and its row in the audit.

        Under an idempotency key that was used within 24 hours, return the proposal made then, as
        it is now, and false. Raises IdempotencyKeyReused for another digest, and TooManyProposals.
        """
        ...

    async def proposal_under(self, key: str, digest: str) -> Proposal | None:
        """Return the proposal made under an idempotency key within 24 hours, if there is one.

        Raises IdempotencyKeyReused if it was made of another request.
        """
        ...

    async def replace(self, commit: ProposalCommit) -> Proposal:
        """Write the next version of a row; raises ProposalMoved if it has another one by now."""
        ...

    async def proposal(self, proposal_id: str) -> Proposal:
        """Return a proposal; raises ProposalNotFound."""
        ...

    async def proposals(
        self, filters: ProposalFilter, limit: int, before: int | None = None
    ) -> Sequence[Proposal]:
        """Return proposals below a number, newest first."""
        ...

    async def due_proposals(self, limit: int, idle_seconds: float) -> Sequence[Proposal]:
        """Return the proposals that a replica has to continue, by the store's clock.

        Scheduled proposals whose time has come, and those being applied whose rows have not changed
        for `idle_seconds`.
        """
        ...

    async def now(self) -> datetime:
        """Return the time of the store's clock."""
        ...
