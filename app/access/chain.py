"""Looks through the chain of the audit for the first row that is not as it was written. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from app.links import FIRST, link

Fault = Literal[
    "changed",  # says something else than what was written
    "deleted",  # was there, and is missing
    "inserted",  # was not written by whoever writes the audit
    "reordered",  # stands in another's place
    "truncated",  # the chain ended later once
    "rewritten",  # the chain holds together, but it is not the one that was signed
    "signature",  # somebody else has signed
]
WINDOW: Final = 1000  # rows from the broken one on, of which `Checker.fault` makes its finding


class Row(NamedTuple):
    """A row as it is stored; `fields` are those of `app.links.FIELDS` without `seq`."""

    seq: int
    previous: bytes
    hash: bytes
    fields: tuple[str | int | None, ...]

    def at(self, seq: int, previous: bytes) -> bytes:
        """Return the hash that this row has in another place."""
        return link(previous, (seq, *self.fields))

    @property
    def is_whole(self) -> bool:
        return self.at(self.seq, self.previous) == self.hash


class Head(NamedTuple):
    """The last row of the chain at some time."""

    seq: int
    hash: bytes


BEGINNING: Final = Head(0, FIRST)


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not as it was written."""

    seq: int
    fault: Fault
    detail: str

    def __str__(self) -> str:
        return f"row {self.seq}: {self.fault}: {self.detail}"


class Checker:
    """Takes rows in order of `seq`, and heads that the chain must have had."""

    def __init__(self, after: Head = BEGINNING, heads: Iterable[Head] = ()) -> None:
        """Begin after a row that is trusted; the heads may come in any order."""
        self.last = after
        self.rows = 0
        self._before: bytes | None = None  # the hash before the last row's
        self._started = after
        self._vouched = after.seq  # up to where a head was met
        self._heads = sorted((head for head in heads if head.seq > after.seq), reverse=True)

    def take(self, rows: Sequence[Row]) -> int | None:
        """Go over the next rows; returns the index of the one that breaks the chain."""
        seq, previous = self.last
        next_head = self._heads[-1].seq if self._heads else 0
        for index, row in enumerate(rows):
            seq += 1
            if (
                row.seq != seq
                or row.previous != previous
                or row.hash != link(previous, (seq, *row.fields))
            ):
                return index
            previous = row.hash
            if seq == next_head:
                if not self._meets(row):
                    return index
                next_head = self._heads[-1].seq if self._heads else 0
            self._before = row.previous
            self.last = Head(seq, previous)
            self.rows += 1
        return None

    def _meets(self, row: Row) -> bool:
        """Compare a row with the heads that were signed there."""
        while self._heads and self._heads[-1].seq == row.seq:
            if self._heads[-1].hash != row.hash:
                return False
            self._heads.pop()
        self._vouched = row.seq
        return True

    def fault(self, rows: Sequence[Row]) -> Broken:
        """Say what is wrong with the first of these rows, at which `take` has stopped."""
        row, place = rows[0], self.last.seq + 1
        if row.seq == place and row.previous == self.last.hash and row.is_whole:
            return self._rewritten(place)
        if row.seq < place:
            return Broken(row.seq, "inserted", "there are several rows with this number")
        if row.previous == self._before and row.at(self.last.seq, row.previous) == row.hash:
            return Broken(self.last.seq, "inserted", f"what was written here is now row {row.seq}")
        return self._displaced(place, rows) or self._altered(place, row)

    def _displaced(self, place: int, rows: Sequence[Row]) -> Broken | None:
        """Tell why another row than the next stands here, if the next is not just another text."""
        row = rows[0]
        # Hashes cannot be made up: who follows the last good row by its own account was written so.
        follows = (one for one in rows if one.previous == self.last.hash)
        true = next((one for one in follows if one.at(place, one.previous) == one.hash), None)
        if true is not None:
            where = f"what was written here is now row {true.seq}"
            is_new = row.seq == place and not _is_moved(row, place, rows)
            return Broken(place, "inserted" if is_new else "reordered", where)
        if row.seq > place:
            missing = "it is" if row.seq == place + 1 else f"rows up to {row.seq - 1} are"
            return Broken(place, "deleted", f"{missing} missing")
        if _is_moved(row, place, rows):
            return Broken(place, "deleted", "a later row has taken its number")
        return None

    def _altered(self, place: int, row: Row) -> Broken:
        if row.previous != self.last.hash and row.is_whole and self.last.seq > self._started.seq:
            detail = f"row {place} was written after another one than this"
            return Broken(self.last.seq, "changed", detail)
        return Broken(place, "changed", "its hash is not the hash of what it says")

    def _rewritten(self, place: int) -> Broken:
        since = self._vouched + 1
        detail = f"rows {since} to {place} are not those whose head was signed"
        return Broken(since, "rewritten", detail)

    def end(self, head: Head | None) -> Broken | None:
        """Say what is wrong with the end, where the store says that its last row is `head`."""
        if self._heads:  # those that were not met
            last = max(self._heads)
            return self._cut(last.seq, "a head was signed at")
        if head is None or head == self.last:
            return None
        if head.seq > self.last.seq:
            return self._cut(head.seq, "the last row was")
        if head.seq < self.last.seq:
            return Broken(head.seq + 1, "inserted", f"the last row was {head.seq}")
        return Broken(head.seq, "changed", "it is not the last row that was written")

    def _cut(self, seq: int, because: str) -> Broken:
        return Broken(self.last.seq + 1, "truncated", f"nothing follows, but {because} {seq}")


def _is_moved(row: Row, place: int, rows: Sequence[Row]) -> bool:
    """Tell whether a row was written for another place not far from where it stands."""
    span = range(max(1, place - WINDOW), place + max(WINDOW, len(rows)) + 1)
    return any(row.at(seq, row.previous) == row.hash for seq in span if seq != place)
