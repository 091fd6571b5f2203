"""The audit: what its chain costs a write, and how fast it is verified."""

import asyncio
from contextlib import closing
from time import perf_counter

import asyncpg

from app.audit.verification import open_postgres_snapshot, verify
from app.postgres.migration import migrate
from tests.servers.postgres import start_postgres

_ROWS = 200_000
_AT_ONCE = 1000
_SINGLE = 2000
# As much as a write of a configuration says.
_INSERT = """
    INSERT INTO {table} (
        actor, action, kind, environment, name, version, revision, request_id, source, facts
    )
    SELECT
        'token:deploy', 'updated', 'config', 'production', 'billing', n, n,
        'b3d1f9c04a7e4a0f9b1c8d2e6f5a7c3d', '10.11.12.13',
        jsonb_build_object(
            'before', '0123456789abcdef0123456789abcdef',
            'after', 'fedcba9876543210fedcba9876543210'
        )
    FROM generate_series(1, {rows}) n
"""
_BARE = "CREATE TABLE bare (LIKE audit INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES)"


async def _measure_audit(url: str) -> str:
    await migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute(_BARE)
    for column in ("seq", "previous", "hash"):
        await connection.execute(f"ALTER TABLE bare ALTER {column} DROP NOT NULL")

    async def many(table: str) -> float:
        began = perf_counter()
        await connection.execute(_INSERT.format(table=table, rows=_AT_ONCE))
        return (perf_counter() - began) / _AT_ONCE

    async def single(table: str) -> float:
        statement = await connection.prepare(_INSERT.format(table=table, rows=1))
        began = perf_counter()
        for _ in range(_SINGLE):
            await statement.fetch()
        return (perf_counter() - began) / _SINGLE

    # With the disk left out, which would hide all else.
    await connection.execute("SET synchronous_commit = off")
    await many("audit")
    costs = {
        f"{how.__name__} {table}": min([await how(table) for _ in range(3)]) * 1e6
        for how in (single, many)
        for table in ("bare", "audit")
    }
    for _ in range(_ROWS // _AT_ONCE):
        await many("audit")
    rates = [await _rows_verified_per_second(url) for _ in range(3)]
    await connection.close()
    return (
        f"a row of the audit: {costs['single audit']:.0f} us, without its chain"
        f" {costs['single bare']:.0f} us; of a thousand in one statement"
        f" {costs['many audit']:.0f} us and {costs['many bare']:.0f} us\n"
        f"verified: {max(rates):,.0f} rows/s ({_ROWS:,} rows and more in Postgres)"
    )


async def _rows_verified_per_second(url: str) -> float:
    async with open_postgres_snapshot(url) as trail:
        began = perf_counter()
        result = await verify(trail, 0, None)
        assert result.broken is None
        return result.rows / (perf_counter() - began)


def audit_costs(url: str) -> str:
    """Tell what the chain costs and how fast it is verified, in a fresh database."""
    return asyncio.run(_measure_audit(url))


def _main() -> None:
    with closing(start_postgres()) as postgres:
        print(audit_costs(postgres.fresh_database()))


if __name__ == "__main__":
    _main()
