"""The port: what proposals set, one text for each round, written once.

Adapters: `vault` and `embedded`. Both pass `tests/contracts/test_proposal_bodies.py`. Secrets in a
text are encrypted already. Every method raises `StoreUnavailable` within its deadline.
"""

from collections.abc import Sequence
from typing import Protocol

MAX_BODY_BYTES = 1024 * 1024  # what Vault takes as one JSON string, counted with its escapes


class ProposalBodies(Protocol):
    async def write(self, name: str, text: str) -> None:
        """Write a text that does not exist; raises BodyTaken, and BodyTooLarge."""
        ...

    async def read(self, name: str) -> str:
        """Return a text; raises BodyMissing, also for one that was emptied."""
        ...

    async def empty(self, name: str) -> None:
        """Destroy a text, but not its name."""
        ...

    async def names(self) -> Sequence[str]:
        """Return the names of all texts, those that were emptied too."""
        ...
