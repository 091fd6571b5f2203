"""The port: the audit of who did what, when and from where; it only grows.

Most rows are written with what they tell of, by whoever writes that, in one transaction. Here are
written those that tell of nothing else, such as a denied attempt.

Adapters: `audit_postgres` and `audit_embedded`. Both pass `tests/contracts/test_audit_log.py`.
Every method is one transaction, committed before it returns, and raises `AuditUnavailable` within
its deadline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from app.access.chain import Head

AT_ONCE: Final = 500  # events that are recorded in one call
SPAN: Final = 20_000  # rows that one call looks through at most


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that happened to no version of anything. `facts` hold no value."""

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
    """One row of the chain; `hash` ties it to all before it."""

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
class Wanted:
    """Which rows are asked for: those that are as every one of these says."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    environment: str | None = None
    name: str | None = None
    since: datetime | None = None  # and later
    until: datetime | None = None  # but before


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The last row at some time, and who says so."""

    seq: int
    hash: bytes
    at: datetime
    key_id: str
    signature: bytes

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)


class AuditLog(Protocol):
    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Append a row for each event, in order; at most `AT_ONCE`.

        If the answer was lost, and the call is repeated, they may be there twice.
        """
        ...

    async def rows(self, after: int, limit: int, wanted: Wanted) -> Sequence[AuditRow]:
        """Return wanted rows with `after` < seq <= `after` + `SPAN`, ascending."""
        ...

    async def head(self) -> Head:
        """Return the last row, or `chain.BEGINNING`."""
        ...

    async def keep(self, signed: SignedHead) -> None:
        """Keep a head that was signed, for ever; one that is kept already stays."""
        ...

    async def signed(self) -> SignedHead | None:
        """Return the last head that was signed."""
        ...
