"""Verifies the whole audit: its chain, its head and its signed heads.

Reads the stores directly, not through the service's adapters, to be independent of them.
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

from app.audit.chain import BEGINNING, WINDOW, BrokenRow, ChainHead, ChainRow, ChainVerifier
from app.audit.keys import is_signature_valid
from app.audit.port import SignedHead
from app.hash_chain import epoch_microseconds
from app.sqlite.state import FILE

_BATCH: Final = 2000
_COLUMNS: Final = "actor, action, kind, environment, name, version, revision, request_id, source"
_MICROSECONDS: Final = "round(extract(epoch FROM at) * 1000000)::bigint"


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The first broken row, if any, and how many rows and signed heads were checked."""

    rows: int
    heads: int
    last: ChainHead
    broken: BrokenRow | None


class AuditSnapshot(Protocol):
    """One consistent view of a stored audit."""

    async def head(self) -> ChainHead | None: ...

    async def signed_heads(self) -> Sequence[SignedHead]: ...

    async def count_unnumbered(self) -> int:
        """Count the rows without a number, which the service never writes."""
        ...

    def rows(self, after: int) -> AsyncGenerator[Sequence[ChainRow], None]:
        """Yield batches of all rows after a number, in order."""
        ...


async def verify(
    trail: AuditSnapshot,
    after: int,
    keys: Mapping[str, Ed25519PublicKey] | None,
    heard: Sequence[SignedHead] = (),
) -> VerificationResult:
    """Verify every row after number `after`, which is trusted.

    `heard` are signed heads that were stored elsewhere. Without keys only the signed content is
    compared, not the signatures.
    """
    kept = {*await trail.signed_heads(), *heard}
    signed = sorted((head for head in kept if head.seq > after), key=lambda head: head.seq)
    start = await _trusted_head(trail, after)
    if isinstance(start, BrokenRow):
        return VerificationResult(0, 0, BEGINNING, start)
    checker = ChainVerifier(start, [head.head for head in signed])
    broken = await _first_broken_row(trail, checker)
    forged = [head for head in signed if keys is not None and not is_signature_valid(head, keys)]
    if forged and (broken is None or forged[0].seq < broken.seq):
        detail = f"the head signed by {forged[0].key_id!r} was not signed by a known key"
        broken = BrokenRow(forged[0].seq, "signature", detail)
    return VerificationResult(checker.rows, len(signed), checker.last, broken)


async def _trusted_head(trail: AuditSnapshot, after: int) -> ChainHead | BrokenRow:
    if after == 0:
        return BEGINNING
    async with aclosing(trail.rows(after - 1)) as batches:
        first = await anext(batches, None)
    if first and first[0].seq == after:
        return ChainHead(after, first[0].hash)
    return BrokenRow(after, "deleted", "the row to begin after is missing")


async def _first_broken_row(trail: AuditSnapshot, checker: ChainVerifier) -> BrokenRow | None:
    if many := await trail.count_unnumbered():
        return BrokenRow(0, "inserted", f"{many} rows have no number")
    async with aclosing(trail.rows(checker.last.seq)) as batches:
        async for rows in batches:
            index = checker.verify_rows(rows)
            if index is not None:
                window = list(rows[index:])
                while len(window) < WINDOW and (more := await anext(batches, None)):
                    window += more
                return checker.diagnose(window[:WINDOW])
    return checker.finish(await trail.head() or BEGINNING)


class _PostgresSnapshot:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def head(self) -> ChainHead | None:
        row = await self._connection.fetchrow("SELECT seq, hash FROM audit_head")
        return None if row is None else ChainHead(*row)

    async def signed_heads(self) -> Sequence[SignedHead]:
        rows = await self._connection.fetch(
            "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq, at"
        )
        return [SignedHead(*row) for row in rows]

    async def count_unnumbered(self) -> int:
        query = "SELECT count(*) FROM audit WHERE seq IS NULL OR seq < 1"
        return int(await self._connection.fetchval(query))

    async def rows(self, after: int) -> AsyncGenerator[Sequence[ChainRow], None]:
        cursor = await self._connection.cursor(
            f"SELECT seq, previous, hash, {_MICROSECONDS}, {_COLUMNS}, facts::text FROM audit"  # noqa: S608 - ours
            " WHERE seq > $1 ORDER BY seq, id",
            after,
        )
        ahead = asyncio.ensure_future(cursor.fetch(_BATCH))
        try:
            while rows := await ahead:
                # Postgres prepares the next batch while this one is verified.
                ahead = asyncio.ensure_future(cursor.fetch(_BATCH))
                await asyncio.sleep(0)
                yield [ChainRow(row[0], row[1] or b"", row[2] or b"", row[3:]) for row in rows]
        finally:
            await asyncio.wait({ahead})  # the connection is busy until then


@asynccontextmanager
async def open_postgres_snapshot(url: str) -> AsyncIterator[AuditSnapshot]:
    """Read from Postgres in one read-only transaction."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield _PostgresSnapshot(connection)
    finally:
        await connection.close()


class _EmbeddedSnapshot:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def head(self) -> ChainHead | None:
        row = self._connection.execute("SELECT seq, hash FROM audit_head").fetchone()
        return None if row is None else ChainHead(*row)

    async def signed_heads(self) -> Sequence[SignedHead]:
        rows = self._connection.execute(
            "SELECT seq, hash, at, key_id, signature FROM audit_heads ORDER BY seq, at"
        )
        return [
            SignedHead(seq, digest, datetime.fromisoformat(at), key_id, signature)
            for seq, digest, at, key_id, signature in rows
        ]

    async def count_unnumbered(self) -> int:
        query = "SELECT count(*) FROM audit WHERE seq IS NULL OR seq < 1"
        return int(self._connection.execute(query).fetchone()[0])

    async def rows(self, after: int) -> AsyncGenerator[Sequence[ChainRow], None]:
        for batch in self._batches(after):
            yield batch

    def _batches(self, after: int) -> Iterator[Sequence[ChainRow]]:
        cursor = self._connection.execute(
            f"SELECT seq, previous, hash, at, {_COLUMNS}, facts FROM audit"  # noqa: S608 - ours
            " WHERE seq > ? ORDER BY seq, id",
            (after,),
        )
        while rows := cursor.fetchmany(_BATCH):
            yield [_chain_row(*row) for row in rows]


def _chain_row(
    seq: int, previous: bytes | None, digest: bytes | None, at: str, *content: Any
) -> ChainRow:
    try:
        time: int | str = epoch_microseconds(datetime.fromisoformat(at))
    except (ValueError, TypeError):
        time = str(at)  # not written by the service; the hash will not match
    return ChainRow(seq, previous or b"", digest or b"", (time, *content))


@asynccontextmanager
async def open_embedded_snapshot(folder: Path) -> AsyncIterator[AuditSnapshot]:
    """Read from the embedded state without writing; raises sqlite3.Error."""
    file = (folder / FILE).resolve()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        yield _EmbeddedSnapshot(connection)
