"""What ties each row of the audit to the one before it: a hash over both. Pure."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

FIRST: Final = bytes(32)  # what stands for the hash before the first row
# In this order they are hashed; `at` as microseconds since the epoch, `facts` as stored text.
FIELDS: Final = (
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


def link(previous: bytes, fields: Iterable[str | int | None]) -> bytes:
    """Return the hash of a row with these FIELDS after one whose hash is `previous`.

    SHA-256 over `previous` and each field as `length:text`, its length in bytes of UTF-8, or `-`
    where it is null: no two rows make the same bytes. The function `audit_link` in Postgres is the
    same.
    """
    told: list[str] = []
    for field in fields:
        if field is None:
            told.append("-")
        else:
            text = str(field)
            told.append(f"{len(text) if text.isascii() else len(text.encode())}:{text}")
    return hashlib.sha256(previous + "".join(told).encode()).digest()


def microseconds(at: datetime) -> int:
    """Return the microseconds since the epoch, exactly."""
    return (at - _EPOCH) // _MICROSECOND
