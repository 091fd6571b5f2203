"""Chains of an audit for tests, and what can be done to them."""

from collections.abc import Sequence

from app.audit.chain import BEGINNING, WINDOW, BrokenRow, ChainHead, ChainRow, ChainVerifier
from app.hash_chain import hash_row

Fields = tuple[str | int | None, ...]


def fields(number: int, name: str = "billing") -> Fields:
    """Return what one row says; every one says something else."""
    facts = '{"after": "0f", "before": null}' if number % 2 else None
    about = ("ana", "updated", "config", "production", name)
    return (1_700_000_000_000_000 + number, *about, number, number, f"r-{number}", None, facts)


def chain_rows(many: Sequence[Fields], after: ChainHead = BEGINNING) -> list[ChainRow]:
    """Write rows as the store does."""
    rows: list[ChainRow] = []
    seq, previous = after
    for one in many:
        seq += 1
        rows.append(ChainRow(seq, previous, hash_row(previous, (seq, *one)), one))
        previous = rows[-1].hash
    return rows


def chain(rows: int) -> list[ChainRow]:
    return chain_rows([fields(number) for number in range(1, rows + 1)])


def head(rows: Sequence[ChainRow]) -> ChainHead:
    return ChainHead(rows[-1].seq, rows[-1].hash)


def broken_row(
    rows: Sequence[ChainRow],
    last: ChainHead | None = None,
    signed: Sequence[ChainHead] = (),
    batch: int = 7,
) -> BrokenRow | None:
    """Look through stored rows as `audit verify` does."""
    checker = ChainVerifier(heads=signed)
    stored = sorted(rows, key=lambda row: row.seq)
    for start in range(0, len(stored), batch):
        index = checker.verify_rows(stored[start : start + batch])
        if index is not None:
            return checker.diagnose(stored[start + index :][:WINDOW])
    return checker.finish(last)
