"""Verifies the hash chain of the audit and diagnoses the first broken row. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from app.hash_chain import FIRST_HASH, hash_row

Fault = Literal[
    "changed",  # its content differs from what was written
    "deleted",  # was written, and is missing
    "inserted",  # was not written by the service
    "reordered",  # is in another row's place
    "truncated",  # the chain ended later once
    "rewritten",  # the chain is consistent, but not the signed one
    "signature",  # signed with an unknown key
]
WINDOW: Final = 1000  # rows from the broken one on that `ChainVerifier.diagnose` examines


class ChainRow(NamedTuple):
    """A row as it is stored; `fields` are `app.hash_chain.HASHED_FIELDS` without `seq`."""

    seq: int
    previous: bytes
    hash: bytes
    fields: tuple[str | int | None, ...]

    def hash_at(self, seq: int, previous: bytes) -> bytes:
        """Return the hash that this row has in another place."""
        return hash_row(previous, (seq, *self.fields))

    @property
    def has_valid_hash(self) -> bool:
        return self.hash_at(self.seq, self.previous) == self.hash


class ChainHead(NamedTuple):
    """The last row of the chain at some time."""

    seq: int
    hash: bytes


BEGINNING: Final = ChainHead(0, FIRST_HASH)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """The first row that is not as it was written."""

    seq: int
    fault: Fault
    detail: str

    def __str__(self) -> str:
        return f"row {self.seq}: {self.fault}: {self.detail}"


class ChainVerifier:
    """Verifies rows in order of `seq`, and signed heads that the chain must have had."""

    def __init__(self, after: ChainHead = BEGINNING, heads: Iterable[ChainHead] = ()) -> None:
        """Begin after a trusted row; the heads may be in any order."""
        self.last = after
        self.rows = 0
        self._before: bytes | None = None  # the hash before the last row's
        self._started = after
        self._vouched = after.seq  # the last row that a signed head covers
        self._heads = sorted((head for head in heads if head.seq > after.seq), reverse=True)

    def verify_rows(self, rows: Sequence[ChainRow]) -> int | None:
        """Verify the next rows; returns the index of the first that breaks the chain."""
        seq, previous = self.last
        next_head = self._heads[-1].seq if self._heads else 0
        for index, row in enumerate(rows):
            seq += 1
            if (
                row.seq != seq
                or row.previous != previous
                or row.hash != hash_row(previous, (seq, *row.fields))
            ):
                return index
            previous = row.hash
            if seq == next_head:
                if not self._matches_signed_head(row):
                    return index
                next_head = self._heads[-1].seq if self._heads else 0
            self._before = row.previous
            self.last = ChainHead(seq, previous)
            self.rows += 1
        return None

    def _matches_signed_head(self, row: ChainRow) -> bool:
        """Tell whether a row matches the heads signed at it."""
        while self._heads and self._heads[-1].seq == row.seq:
            if self._heads[-1].hash != row.hash:
                return False
            self._heads.pop()
        self._vouched = row.seq
        return True

    def diagnose(self, rows: Sequence[ChainRow]) -> BrokenRow:
        """Describe the fault of the first of these rows, at which `verify_rows` has stopped."""
        row, place = rows[0], self.last.seq + 1
        if row.seq == place and row.previous == self.last.hash and row.has_valid_hash:
            return self._rewritten_since(place)
        if row.seq < place:
            return BrokenRow(row.seq, "inserted", "there are several rows with this number")
        if row.previous == self._before and row.hash_at(self.last.seq, row.previous) == row.hash:
            return BrokenRow(
                self.last.seq, "inserted", f"what was written here is now row {row.seq}"
            )
        return self._diagnose_displaced(place, rows) or self._diagnose_altered(place, row)

    def _diagnose_displaced(self, place: int, rows: Sequence[ChainRow]) -> BrokenRow | None:
        """Describe why another row is in this place, None if only the content was changed."""
        row = rows[0]
        # Hashes cannot be invented: a row that names the last good row was written after it.
        follows = (one for one in rows if one.previous == self.last.hash)
        true = next((one for one in follows if one.hash_at(place, one.previous) == one.hash), None)
        if true is not None:
            where = f"the row written here is now row {true.seq}"
            is_new = row.seq == place and not _was_moved(row, place, rows)
            return BrokenRow(place, "inserted" if is_new else "reordered", where)
        if row.seq > place:
            missing = "it is" if row.seq == place + 1 else f"rows up to {row.seq - 1} are"
            return BrokenRow(place, "deleted", f"{missing} missing")
        if _was_moved(row, place, rows):
            return BrokenRow(place, "deleted", "a later row has taken its number")
        return None

    def _diagnose_altered(self, place: int, row: ChainRow) -> BrokenRow:
        if (
            row.previous != self.last.hash
            and row.has_valid_hash
            and self.last.seq > self._started.seq
        ):
            detail = f"row {place} was written after another one than this"
            return BrokenRow(self.last.seq, "changed", detail)
        return BrokenRow(place, "changed", "its hash does not match its content")

    def _rewritten_since(self, place: int) -> BrokenRow:
        since = self._vouched + 1
        detail = f"rows {since} to {place} are not those whose head was signed"
        return BrokenRow(since, "rewritten", detail)

    def finish(self, head: ChainHead | None) -> BrokenRow | None:
        """Describe what is wrong with the end; `head` is the last row according to the store."""
        if self._heads:  # signed heads without a row
            last = max(self._heads)
            return self._truncated_at(last.seq, "a head was signed at")
        if head is None or head == self.last:
            return None
        if head.seq > self.last.seq:
            return self._truncated_at(head.seq, "the last row was")
        if head.seq < self.last.seq:
            return BrokenRow(head.seq + 1, "inserted", f"the last row was {head.seq}")
        return BrokenRow(head.seq, "changed", "it is not the last row that was written")

    def _truncated_at(self, seq: int, because: str) -> BrokenRow:
        return BrokenRow(self.last.seq + 1, "truncated", f"nothing follows, but {because} {seq}")


def _was_moved(row: ChainRow, place: int, rows: Sequence[ChainRow]) -> bool:
    """Tell whether a row was written for another place nearby."""
    span = range(max(1, place - WINDOW), place + max(WINDOW, len(rows)) + 1)
    return any(row.hash_at(seq, row.previous) == row.hash for seq in span if seq != place)
