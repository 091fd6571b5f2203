"""Verifies the audit against itself, its head and the heads that were signed: the whole of it.

Reads the stores past their adapters, so that what the service believes plays no part in it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from app.access.auditing import SignedHead
from app.access.chain import BEGINNING, WINDOW, Broken, Checker, Head, Row
from app.access.signing import is_signed
from app.links import microseconds
from app.state import FILE

_BATCH: Final = 2000
_SAID: Final = "actor, action, kind, environment, name, version, revision, request_id, source"
_MICROSECONDS: Final = "round(extract(epoch FROM at) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found: the first broken row, if one is, and how much was looked at."""

    rows: int
    heads: int
    last: Head
    broken: Broken | None


class Trail(Protocol):
    """One consistent view of a stored audit."""

    async def head(self) -> Head | None: ...

    async def signed(self) -> Sequence[SignedHead]: ...

    async def numberless(self) -> int:
        """Count the rows that have no number: none that was written so."""
        ...

    def rows(self, after: int) -> AsyncGenerator[Sequence[Row], None]:
        """Read all rows after a number, in order, some at a time."""
        ...


async def verify(
    trail: Trail,
    after: int,
    keys: Mapping[str, Ed25519PublicKey] | None,
    heard: Sequence[SignedHead] = (),
) -> Verified:
    """Look at every row after number `after`, which is trusted.

    `heard` are signed heads that were kept elsewhere. Without keys the signatures are not looked
    at, only what was signed.
    """
    kept = {*await trail.signed(), *heard}
    signed = sorted((head for head in kept if head.seq > after), key=lambda head: head.seq)
    start = await _trusted(trail, after)
    if isinstance(start, Broken):
        return Verified(0, 0, BEGINNING, start)
    checker = Checker(start, [head.head for head in signed])
    broken = await _first_broken(trail, checker)
    forged = [head for head in signed if keys is not None and not is_signed(head, keys)]
    if forged and (broken is None or forged[0].seq < broken.seq):
        detail = f"the head signed by {forged[0].key_id!r} was not signed by a known key"
        broken = Broken(forged[0].seq, "signature", detail)
    return Verified(checker.rows, len(signed), checker.last, broken)


async def _trusted(trail: Trail, after: int) -> Head | Broken:
    if after == 0:
        return BEGINNING
    async with aclosing(trail.rows(after - 1)) as batches:
        first = await anext(batches, None)
    if first and first[0].seq == after:
        return Head(after, first[0].hash)
    return Broken(after, "deleted", "the row to begin after is missing")


async def _first_broken(trail: Trail, checker: Checker) -> Broken | None:
    if many := await trail.numberless():
        return Broken(0, "inserted", f"{many} rows have no number")
    async with aclosing(trail.rows(checker.last.seq)) as batches:
        async for rows in batches:
            index = checker.take(rows)
            if index is not None:
                window = list(rows[index:])
                while len(window) < WINDOW and (more := await anext(batches, None)):
                    window += more
                return checker.fault(window[:WINDOW])
    return checker.end(await trail.head() or BEGINNING)


class _PostgresTrail:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def head(self) -> Head | None:
        row = await self._connection.fetchrow("SELECT seq, hash FROM audit_head")
        return None if row is None else Head(*row)

    async def signed(self) -> Sequence[SignedHead]:
        rows = await self._connection.fetch(
            "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq, at"
        )
        return [SignedHead(*row) for row in rows]

    async def numberless(self) -> int:
        asked = "SELECT count(*) FROM audit WHERE seq IS NULL OR seq < 1"
        return int(await self._connection.fetchval(asked))

    async def rows(self, after: int) -> AsyncGenerator[Sequence[Row], None]:
        cursor = await self._connection.cursor(
            f"SELECT seq, previous, hash, {_MICROSECONDS}, {_SAID}, facts::text FROM audit"  # noqa: S608 - ours
            " WHERE seq > $1 ORDER BY seq, id",
            after,
        )
        ahead = asyncio.ensure_future(cursor.fetch(_BATCH))
        try:
            while found := await ahead:
                # Postgres makes the next ready while these are looked at.
                ahead = asyncio.ensure_future(cursor.fetch(_BATCH))
                await asyncio.sleep(0)
                yield [Row(row[0], row[1] or b"", row[2] or b"", row[3:]) for row in found]
        finally:
            await asyncio.wait({ahead})  # nothing else can be asked before


@asynccontextmanager
async def postgres_trail(url: str) -> AsyncIterator[Trail]:
    """Read from Postgres; the view is that of one transaction, which changes nothing."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield _PostgresTrail(connection)
    finally:
        await connection.close()


class _EmbeddedTrail:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def head(self) -> Head | None:
        row = self._connection.execute("SELECT seq, hash FROM audit_head").fetchone()
        return None if row is None else Head(*row)

    async def signed(self) -> Sequence[SignedHead]:
        rows = self._connection.execute(
            "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq, at"
        )
        return [
            SignedHead(seq, digest, datetime.fromisoformat(at), key_id, signature)
            for seq, digest, at, key_id, signature in rows
        ]

    async def numberless(self) -> int:
        asked = "SELECT count(*) FROM audit WHERE seq IS NULL OR seq < 1"
        return int(self._connection.execute(asked).fetchone()[0])

    async def rows(self, after: int) -> AsyncGenerator[Sequence[Row], None]:
        for batch in self._batches(after):
            yield batch

    def _batches(self, after: int) -> Iterator[Sequence[Row]]:
        cursor = self._connection.execute(
            f"SELECT seq, previous, hash, at, {_SAID}, facts FROM audit"  # noqa: S608 - ours
            " WHERE seq > ? ORDER BY seq, id",
            (after,),
        )
        while found := cursor.fetchmany(_BATCH):
            yield [_row(*row) for row in found]


def _row(seq: int, previous: bytes | None, digest: bytes | None, at: str, *said: Any) -> Row:
    try:
        moment: int | str = microseconds(datetime.fromisoformat(at))
    except (ValueError, TypeError):
        moment = str(at)  # written by somebody else; it will not fit
    return Row(seq, previous or b"", digest or b"", (moment, *said))


@asynccontextmanager
async def embedded_trail(folder: Path) -> AsyncIterator[Trail]:
    """Read from the embedded state, of which nothing is written; raises sqlite3.Error."""
    file = (folder / FILE).resolve()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        yield _EmbeddedTrail(connection)
