"""What any AuditLog must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from app.audit.chain import BEGINNING, ChainHead
from app.audit.embedded import EmbeddedAuditLog
from app.audit.errors import AuditUnavailable
from app.audit.port import SCAN_SPAN, AuditEvent, AuditFilter, AuditLog, AuditRow, SignedHead
from app.audit.postgres import PostgresAuditLog
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import LogPorts
from app.changes.log.postgres.ports import postgres_ports
from app.changes.model import Disclosure, Entity, Intent, Written
from app.hash_chain import FIRST_HASH, HASHED_FIELDS, epoch_microseconds, hash_row
from tests.contracts.rigs import embedded_bench, postgres_bench

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, UTC)
EVENT = AuditEvent(NOW, "ana", "denied", "config", "staging", "billing")
ALL = AuditFilter()
REFUSED = ("UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "DELETE FROM audit_heads")


@dataclass
class Rig:
    """One adapter on the bench, beside a change log of the same store."""

    audit: AuditLog
    changes: LogPorts
    facts: Callable[[], Awaitable[list[str | None]]]  # of all rows, as they are stored
    execute: Callable[[str], Awaitable[Any]]
    refusals: tuple[type[Exception], ...]
    cut: Callable[[], Awaitable[None]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    state = embedded_bench(request, stack).state

    def facts(connection: sqlite3.Connection) -> list[str | None]:
        return [row["facts"] for row in connection.execute("SELECT facts FROM audit ORDER BY seq")]

    return Rig(
        audit=EmbeddedAuditLog(state),
        changes=embedded_ports(state),
        facts=lambda: state.read(facts),
        execute=lambda statement: state.run(lambda connection: connection.execute(statement)),
        refusals=(sqlite3.IntegrityError,),
        cut=state.close,
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)
    connection = bench.open_connection()

    async def facts() -> list[str | None]:
        rows = await bench.connection.fetch("SELECT facts::text FROM audit ORDER BY seq")
        return [row["facts"] for row in rows]

    return Rig(
        audit=PostgresAuditLog(connection.engine),
        changes=postgres_ports(connection),
        facts=facts,
        execute=bench.connection.execute,
        refusals=(asyncpg.InsufficientPrivilegeError,),
        cut=bench.cut,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


pytestmark = pytest.mark.anyio


async def every(rig: Rig, wanted: AuditFilter = ALL) -> Sequence[AuditRow]:
    return await rig.audit.rows(0, 1000, wanted)


async def links(rig: Rig) -> list[bytes]:
    """Make the hashes of all rows anew."""
    made: list[bytes] = []
    stored = zip(await every(rig), await rig.facts(), strict=True)
    for row, facts in stored:
        said = {name: getattr(row, name) for name in HASHED_FIELDS}
        said |= {"at": epoch_microseconds(row.at), "facts": facts}
        made.append(hash_row(made[-1] if made else FIRST_HASH, said.values()))
    return made


# Recording


async def test_what_is_recorded_is_read(rig: Rig) -> None:
    full = replace(
        EVENT, name="é/" + "x" * 400, request_id="r-1", source="::1", facts={"count": 2, "a": None}
    )
    await rig.audit.record([EVENT, full])

    first, second = await every(rig)

    assert (first.seq, first.at, first.actor, first.action) == (1, NOW, "ana", "denied")
    assert (first.kind, first.environment, first.name) == ("config", "staging", "billing")
    assert (first.request_id, first.source, first.facts) == (None, None, None)
    assert (first.version, first.revision) == (None, None)
    assert (second.seq, second.name, second.request_id) == (2, full.name, "r-1")
    assert (second.source, second.facts) == ("::1", full.facts)


async def test_to_record_nothing_is_nothing(rig: Rig) -> None:
    await rig.audit.record([])

    assert (await every(rig), await rig.audit.head()) == ([], BEGINNING)


@pytest.mark.parametrize(
    "wanted",
    [
        AuditFilter(actor="bob"),
        AuditFilter(action="b"),
        AuditFilter(kind="b"),
        AuditFilter(environment="b"),
        AuditFilter(name="b"),
        AuditFilter(since=NOW + timedelta(microseconds=1)),
        AuditFilter(actor="bob", action="b", kind="b", since=NOW, until=NOW + timedelta(days=1)),
    ],
)
async def test_only_wanted_rows_are_read(rig: Rig, wanted: AuditFilter) -> None:
    other = AuditEvent(NOW + timedelta(microseconds=1), "bob", "b", "b", "b", "b")
    await rig.audit.record([EVENT, other, EVENT])

    assert [row.seq for row in await every(rig, wanted)] == [2]
    assert await every(rig, replace(wanted, until=NOW)) == []


async def test_rows_are_read_in_parts(rig: Rig) -> None:
    await rig.audit.record([EVENT] * 5)

    found = [await rig.audit.rows(after, 2, AuditFilter()) for after in (0, 2, 4, 5, SCAN_SPAN)]

    assert [[row.seq for row in part] for part in found] == [[1, 2], [3, 4], [5], [], []]


# The chain


async def test_whatever_writes_a_row_it_follows_the_one_before(rig: Rig) -> None:
    about = Entity("config", "staging", "billing", "layers/staging/billing")
    facts = {"before": None, "after": "0f" * 16}
    intent = Intent("i-1", about, 0, "created", "ana", "", "r-1", NOW, source="::1", facts=facts)
    await rig.changes.intents.begin(intent)
    await rig.changes.log.advance(
        about, [Written(1, "i-1", NOW), Written(2, None), Written(3, None)]
    )
    await rig.changes.log.record_disclosure(Disclosure(about, ("é", "b"), "bob", "r-2", "10.0.0.7"))
    await rig.audit.record([EVENT, replace(EVENT, facts={"count": 3})])

    rows = await every(rig)

    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.hash for row in rows] == await links(rig)
    assert await rig.audit.head() == ChainHead(6, rows[-1].hash)
    assert [row.action for row in rows[:4]] == ["created", "external", "external", "revealed"]
    assert [row.source for row in rows] == ["::1", None, None, "10.0.0.7", None, None]
    assert [row.facts for row in rows[:4]] == [facts, None, None, {"keys": ["é", "b"]}]


async def test_many_who_write_at_once_leave_one_chain(rig: Rig) -> None:
    async def change(number: int) -> None:
        about = Entity("config", "staging", f"s{number}", f"layers/staging/s{number}")
        for version in range(1, 6):
            await rig.changes.log.advance(about, [Written(version, None)])
            await rig.changes.log.record_disclosure(Disclosure(about, ("a",), "bob", "r"))
            await rig.audit.record([EVENT, EVENT])

    await asyncio.gather(*(change(number) for number in range(4)))

    rows = await every(rig)
    assert [row.seq for row in rows] == list(range(1, 81))
    assert [row.hash for row in rows] == await links(rig)
    revisions = [row.revision for row in rows if row.revision is not None]
    assert revisions == sorted(revisions)
    assert await rig.audit.head() == ChainHead(80, rows[-1].hash)


@pytest.mark.parametrize("statement", REFUSED)
async def test_what_is_written_stays(rig: Rig, statement: str) -> None:
    await rig.audit.record([EVENT])
    signed = SignedHead(*await rig.audit.head(), NOW, "k", b"s")
    await rig.audit.store_signed_head(signed)

    with pytest.raises(rig.refusals, match="append-only"):
        await rig.execute(statement)

    assert len(await every(rig)) == 1
    assert await rig.audit.last_signed_head() == signed


# Signed heads


async def test_the_last_signed_head_is_told(rig: Rig) -> None:
    assert await rig.audit.last_signed_head() is None
    heads = [SignedHead(n, bytes([n]) * 32, NOW, "k", b"signature") for n in (3, 7, 5)]
    for signed in (*heads, heads[1]):
        await rig.audit.store_signed_head(signed)

    assert await rig.audit.last_signed_head() == heads[1]


# Outages


async def test_an_audit_that_is_unavailable_says_so(rig: Rig) -> None:
    await rig.cut()

    for attempt in (
        rig.audit.record([EVENT]),
        every(rig),
        rig.audit.head(),
        rig.audit.last_signed_head(),
    ):
        with pytest.raises(AuditUnavailable):
            await attempt
    with pytest.raises(AuditUnavailable):
        await rig.audit.store_signed_head(SignedHead(1, bytes(32), NOW, "k", b""))
