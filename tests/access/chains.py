"""Chains of an audit for tests, and what can be done to them."""

from collections.abc import Sequence

from app.access.chain import BEGINNING, WINDOW, Broken, Checker, Head, Row
from app.links import link

Fields = tuple[str | int | None, ...]


def fields(number: int, name: str = "billing") -> Fields:
    """Return what one row says; every one says something else."""
    facts = '{"after": "0f", "before": null}' if number % 2 else None
    about = ("ana", "updated", "config", "production", name)
    return (1_700_000_000_000_000 + number, *about, number, number, f"r-{number}", None, facts)


def chained(many: Sequence[Fields], after: Head = BEGINNING) -> list[Row]:
    """Write rows as the store does."""
    rows: list[Row] = []
    seq, previous = after
    for one in many:
        seq += 1
        rows.append(Row(seq, previous, link(previous, (seq, *one)), one))
        previous = rows[-1].hash
    return rows


def chain(rows: int) -> list[Row]:
    return chained([fields(number) for number in range(1, rows + 1)])


def head(rows: Sequence[Row]) -> Head:
    return Head(rows[-1].seq, rows[-1].hash)


def checked(
    rows: Sequence[Row], last: Head | None = None, signed: Sequence[Head] = (), batch: int = 7
) -> Broken | None:
    """Look through stored rows as `audit verify` does."""
    checker = Checker(heads=signed)
    stored = sorted(rows, key=lambda row: row.seq)
    for start in range(0, len(stored), batch):
        index = checker.take(stored[start : start + batch])
        if index is not None:
            return checker.fault(stored[start + index :][:WINDOW])
    return checker.end(last)
