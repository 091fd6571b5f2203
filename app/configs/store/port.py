"""The ports for documents and for the encryption of secrets.

Adapters: `vault` and `embedded`. Both pass `tests/contracts/test_config_store.py` and
`test_cipher.py`. Every call ends within its deadline with an answer or `StoreUnavailable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.configs.model import DocumentId


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a document and whether it can still be read.

    `unreadable`: the versions that were deleted or destroyed in the store. `expires_after`: after
    which time the store deletes versions of this document by itself, "" if it does not.
    """

    version: int
    readable: bool
    unreadable: frozenset[int] = field(default=frozenset(), compare=False)
    expires_after: str = field(default="", compare=False)


class ConfigStore(Protocol):
    async def read(self, document: DocumentId, version: int) -> str | None:
        """Return the text of one immutable version, or None if it is not a text of ours.

        Raises VersionMissing (no such version, or pruned) and VersionUnreadable (deleted or
        destroyed in the store).
        """
        ...

    async def write(self, document: DocumentId, text: str, *, base: int) -> None:
        """Write version base + 1, or raise.

        VersionTaken: refused, because the newest version is not `base`. WriteUnanswered: sent,
        outcome unknown. StoreUnavailable: nothing was sent, or the store refused.
        DocumentTooLarge: the store cannot hold such a text; nothing was sent.
        """
        ...

    async def head(self, document: DocumentId) -> Head:
        """Return the newest version; 0 if there never was one."""
        ...

    async def documents(self) -> Sequence[DocumentId]:
        """Return every document the store has."""
        ...

    async def ping(self) -> None:
        """Return if the store answers and would serve."""
        ...


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret at rest. The fingerprint shows a change to those who may reveal, and no value."""

    ciphertext: str
    fingerprint: str


class Cipher(Protocol):
    """`context` binds a ciphertext to its document and key: moved elsewhere it does not open."""

    async def seal(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[Sealed]:
        """Encrypt (context, plaintext) pairs under the environment's newest key."""
        ...

    async def open(self, environment: str, items: Sequence[tuple[str, str]]) -> Sequence[str]:
        """Decrypt (context, ciphertext) pairs, or raise SecretUnreadable."""
        ...

    async def fingerprint(self, environment: str, text: str) -> str:
        """Return a keyed digest of `text`."""
        ...
