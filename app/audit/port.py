"""The port: the append-only audit of who did what, when and from where.

The row of a change is written in the change's own transaction, by the store of what has changed.
This port writes the other events, such as a denied attempt.

Adapters: `postgres` and `embedded`. Both pass `tests/contracts/test_audit_log.py`.
Every method is one transaction, committed before it returns, and raises `AuditUnavailable` within
its deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from app.audit.chain import ChainHead

MAX_BATCH: Final = 500  # events in one call
SCAN_SPAN: Final = 20_000  # rows that one call scans at most


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An event that is not a change of a version. `facts` hold no configuration value."""

    at: datetime
    actor: str
    action: str
    kind: str
    environment: str
    name: str
    request_id: str | None = None
    source: str | None = None
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the chain; its `hash` covers all rows before it."""

    seq: int
    at: datetime
    actor: str
    action: str
    kind: str
    environment: str
    name: str
    version: int | None
    revision: int | None
    request_id: str | None
    source: str | None
    facts: Mapping[str, Any] | None
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """The conditions that returned rows meet, all of them."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    environment: str | None = None
    name: str | None = None
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The last row at some time, with a signature."""

    seq: int
    hash: bytes
    at: datetime
    key_id: str
    signature: bytes

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.seq, self.hash)


class AuditLog(Protocol):
    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Append a row for each event, in order; at most `AT_ONCE`.

        Events may be recorded twice if a call is repeated whose answer was lost.
        """
        ...

    async def rows(self, after: int, limit: int, wanted: AuditFilter) -> Sequence[AuditRow]:
        """Return matching rows with `after` < seq <= `after` + `SPAN`, ascending."""
        ...

    async def bypasses(self, before: int | None, limit: int) -> Sequence[AuditRow]:
        """Return the newest rows below this seq whose facts have a `bypass_reason`, descending."""
        ...

    async def head(self) -> ChainHead:
        """Return the last row, or `chain.BEGINNING`."""
        ...

    async def store_signed_head(self, signed: SignedHead) -> None:
        """Store a signed head permanently; one that is already stored stays."""
        ...

    async def last_signed_head(self) -> SignedHead | None:
        """Return the last head that was signed."""
        ...
