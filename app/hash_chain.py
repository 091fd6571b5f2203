"""The hash chain of the audit: the hash of each row covers the row before it. Pure."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

FIRST_HASH: Final = bytes(32)  # in place of the hash before the first row
# In the order in which they are hashed: `at` as microseconds since the epoch, `facts` as stored.
HASHED_FIELDS: Final = (
    "seq",
    "at",
    "actor",
    "action",
    "kind",
    "environment",
    "name",
    "version",
    "revision",
    "request_id",
    "source",
    "facts",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def hash_row(previous: bytes, fields: Iterable[str | int | None]) -> bytes:
    """Return the hash of a row with these FIELDS after one whose hash is `previous`.

    SHA-256 over `previous` and each field as `length:text`, its length in bytes of UTF-8, or `-`
    where it is null, so that different rows never give the same bytes. The function `audit_link` in
    Postgres does the same.
    """
    parts: list[str] = []
    for field in fields:
        if field is None:
            parts.append("-")
        else:
            text = str(field)
            parts.append(f"{len(text) if text.isascii() else len(text.encode())}:{text}")
    return hashlib.sha256(previous + "".join(parts).encode()).digest()


def epoch_microseconds(at: datetime) -> int:
    """Return the microseconds since the epoch, exactly."""
    return (at - _EPOCH) // _MICROSECOND
