"""What any ProposalStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from app.changes.errors import IdempotencyKeyReused
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.port import ChangeLog
from app.changes.log.postgres.log import PostgresChangeLog
from app.changes.model import Entity
from app.proposals.errors import (
    ProposalMoved,
    ProposalNotFound,
    ProposalsUnavailable,
    TooManyProposals,
)
from app.proposals.model import (
    MOST_OPEN,
    Author,
    ItemOutcome,
    Proposal,
    ProposalCommit,
    ProposalFilter,
    ProposalItem,
    Review,
    State,
    Target,
)
from app.proposals.store.embedded import EmbeddedProposalStore
from app.proposals.store.port import ProposalStore
from app.proposals.store.postgres import PostgresProposalStore
from tests.contracts.rigs import embedded_bench, postgres_bench
from tests.servers.process import SLACK_SECONDS

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
POOL = ProposalItem(
    Target("config", "production", "billing"),
    "patch",
    3,
    (("production", "billing"),),
    ("db.pool.max",),
)
FLAG = ProposalItem(Target("flag", "staging", "", "new-pool"), "replace", 0, (("staging", ""),))
ANA = Author("ana", "token:1")
REVIEW = Review(1, "approve", "fine", "bob", "person:i#b", LONG_AGO, ("change:approve",))


@dataclass
class Rig:
    """One adapter, with the log that it writes to; `age` makes rows older."""

    store: ProposalStore
    elsewhere: ProposalStore  # of another replica, if there can be any
    log: ChangeLog
    cut: Callable[[], Awaitable[None]]
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]
    age: Callable[[timedelta], Awaitable[None]]
    fill: Callable[[int], Awaitable[None]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    log = EmbeddedChangeLog(bench.state)
    store = EmbeddedProposalStore(bench.state, log.wake)

    async def age(by: timedelta) -> None:
        def shift(connection: sqlite3.Connection) -> None:
            for column in ("created_at", "updated_at"):
                for number, text in connection.execute(
                    f"SELECT number, {column} FROM proposals"
                ).fetchall():
                    older = (datetime.fromisoformat(text) - by).isoformat(timespec="microseconds")
                    connection.execute(
                        f"UPDATE proposals SET {column} = ? WHERE number = ?", (older, number)
                    )

        await bench.state.run(shift)

    async def fill(count: int) -> None:
        def copy(connection: sqlite3.Connection) -> None:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
                " INSERT INTO proposals (id, version, number, state, is_open, author, environments,"
                " document, created_at, updated_at, revision) SELECT 'p-copy' || i, version,"
                " number + i, state, is_open, author, environments, document, created_at,"
                " updated_at, revision FROM proposals, n WHERE number = 1",
                (count,),
            )

        await bench.state.run(copy)

    return Rig(store, store, log, bench.state.close, bench.audit, age, fill)


async def postgres_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)
    here, there = bench.open_connection(), bench.open_connection()

    async def age(by: timedelta) -> None:
        await bench.connection.execute(
            "UPDATE proposals SET created_at = created_at - $1::interval,"
            " updated_at = updated_at - $1::interval",
            by,
        )

    async def fill(count: int) -> None:
        await bench.connection.execute(
            "INSERT INTO proposals (id, version, state, is_open, author, environments, document,"
            " created_at, updated_at, revision) SELECT 'p-copy' || i, version, state, is_open,"
            " author, environments, document, created_at, updated_at, revision"
            " FROM proposals, generate_series(1, $1) i WHERE number = 1",
            count,
        )

    return Rig(
        PostgresProposalStore(here.engine),
        PostgresProposalStore(there.engine),
        PostgresChangeLog(here),
        bench.cut,
        bench.audit,
        age,
        fill,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres_rig, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def proposal(id_: str = "p-1", state: State = "open", **members: Any) -> Proposal:
    stated = {"items": (POOL, FLAG), "authors": (ANA,), **members}
    return Proposal(
        id_, "Bigger pool", state, 1, created_at=LONG_AGO, updated_at=LONG_AGO, **stated
    )


def commit(made: Proposal, **members: Any) -> ProposalCommit:
    facts = {"step": "proposed"}
    return ProposalCommit(made, "ana", "because", "request-1", "192.0.2.1", facts, **members)


async def create(rig: Rig, id_: str = "p-1", state: State = "open", **members: Any) -> Proposal:
    made, is_new = await rig.store.create(commit(proposal(id_, state, **members)))
    assert is_new
    return made


# Versions


async def test_a_proposal_is_read_as_it_was_written(rig: Rig) -> None:
    outcome = ItemOutcome("failed", 4, 7, "schema_violated", "too large")
    written = await create(
        rig,
        items=(replace(POOL, pin=5, outcome=outcome), FLAG),
        reviews=(REVIEW,),
        authors=(ANA, Author("eve", None)),
        apply_at=datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        release={"steps": [{"share": 5, "hold": "10m"}]},
    )

    assert (written.version, written.number) == (1, 1)
    assert await rig.elsewhere.proposal("p-1") == written
    assert written == replace(
        proposal(),
        items=written.items,
        reviews=(REVIEW,),
        authors=written.authors,
        apply_at=written.apply_at,
        release=written.release,
        created_at=written.created_at,
        updated_at=written.updated_at,
        version=1,
        number=1,
        revision=written.revision,
    )


async def test_the_times_are_those_of_the_store(rig: Rig) -> None:
    before = await rig.store.now()
    written = await create(rig)

    assert before <= written.created_at == written.updated_at <= await rig.store.now()


async def test_the_next_version_keeps_number_and_creation(rig: Rig) -> None:
    first = await create(rig)
    second = await rig.store.replace(commit(replace(first, state="approved", reviews=(REVIEW,))))

    assert (second.version, second.number, second.created_at) == (2, 1, first.created_at)
    assert second.updated_at > first.updated_at
    assert second.revision > first.revision
    assert await rig.elsewhere.proposal("p-1") == second


async def test_a_row_that_has_moved_is_not_replaced(rig: Rig) -> None:
    first = await create(rig)
    second = await rig.store.replace(commit(replace(first, state="approved")))

    with pytest.raises(ProposalMoved):
        await rig.elsewhere.replace(commit(replace(first, state="withdrawn")))

    assert await rig.store.proposal("p-1") == second
    assert len(await rig.log.since(0, 10)) == len(await rig.audit()) == 2


async def test_of_many_replacements_at_once_one_wins(rig: Rig) -> None:
    first = await create(rig)
    results = await asyncio.gather(
        *(
            (rig.store, rig.elsewhere)[number % 2].replace(
                commit(replace(first, title=str(number)))
            )
            for number in range(10)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(result, Proposal) for result in results) == 1
    assert sum(isinstance(result, ProposalMoved) for result in results) == 9


async def test_what_never_was_is_not_found(rig: Rig) -> None:
    with pytest.raises(ProposalNotFound):
        await rig.store.proposal("p-none")
    with pytest.raises(ProposalMoved):
        await rig.store.replace(commit(proposal(version=1)))


# The log and the audit


async def test_each_version_is_logged_and_audited(rig: Rig) -> None:
    first = await create(rig, items=(POOL,))
    second = await rig.store.replace(commit(replace(first, state="approved")))

    changes = await rig.log.since(0, 10)
    entity = Entity("proposal", "production", "billing/p-1", "proposals/p-1")
    assert [(change.entity, change.version, change.action) for change in changes] == [
        (entity, 1, "created"),
        (entity, 2, "updated"),
    ]
    assert [change.revision for change in changes] == [first.revision, second.revision]
    assert (await rig.log.snapshot()).pointers["proposals/p-1"].version == 2
    rows = await rig.audit()
    assert [(row["kind"], row["name"], row["version"]) for row in rows] == [
        ("proposal", "billing/p-1", 1),
        ("proposal", "billing/p-1", 2),
    ]
    for row in rows:
        assert (row["actor"], row["request_id"], row["source"]) == ("ana", "request-1", "192.0.2.1")
        assert json.loads(row["facts"]) == {"step": "proposed"}


async def test_items_of_several_places_are_logged_under_none(rig: Rig) -> None:
    await create(rig)

    (change,) = await rig.log.since(0, 10)
    assert (change.entity.environment, change.entity.name) == ("*", "*/p-1")


# Idempotency keys


async def test_a_repeated_request_finds_what_it_has_made(rig: Rig) -> None:
    made, _ = await rig.store.create(commit(proposal(), idempotency_key="k", digest="d"))
    now = await rig.store.replace(commit(replace(made, state="withdrawn")))

    again = commit(proposal("p-2"), idempotency_key="k", digest="d")
    assert await rig.elsewhere.create(again) == (now, False)
    assert await rig.elsewhere.proposal_under("k", "d") == now
    assert await rig.elsewhere.proposal_under("other", "d") is None
    assert len(await rig.log.since(0, 10)) == 2


async def test_a_key_is_for_one_request(rig: Rig) -> None:
    await rig.store.create(commit(proposal(), idempotency_key="k", digest="d"))

    with pytest.raises(IdempotencyKeyReused):
        await rig.store.create(commit(proposal("p-2"), idempotency_key="k", digest="other"))
    with pytest.raises(IdempotencyKeyReused):
        await rig.store.proposal_under("k", "other")


@pytest.mark.parametrize("digest", ["d", "other"])
async def test_a_key_lives_for_24_hours(rig: Rig, digest: str) -> None:
    await rig.store.create(commit(proposal(), idempotency_key="k", digest="d"))
    again = commit(proposal("p-2"), idempotency_key="k", digest=digest)
    await rig.age(timedelta(hours=23, minutes=59))
    assert await rig.store.proposal_under("k", "d") is not None
    await rig.age(timedelta(minutes=2))

    assert await rig.store.proposal_under("k", digest) is None
    made, is_new = await rig.store.create(again)

    assert (made.id, is_new) == ("p-2", True)
    assert await rig.store.proposal_under("k", digest) == made


async def test_of_many_creations_under_one_key_one_is_made(rig: Rig) -> None:
    results = await asyncio.gather(
        *(
            (rig.store, rig.elsewhere)[number % 2].create(
                commit(proposal(f"p-{number}"), idempotency_key="k", digest="d")
            )
            for number in range(10)
        )
    )

    assert sum(is_new for _, is_new in results) == 1
    assert len({made.id for made, _ in results}) == 1


# The limit


async def test_so_many_may_be_open(rig: Rig) -> None:
    first = await create(rig)
    await rig.fill(MOST_OPEN - 1)

    with pytest.raises(TooManyProposals):
        await create(rig, "p-more")
    await rig.store.replace(commit(replace(first, state="withdrawn")))
    await create(rig, "p-more")


# Lists


async def test_a_list_has_the_newest_first_and_is_read_page_by_page(rig: Rig) -> None:
    made = [await create(rig, f"p-{number}") for number in range(5)]

    first = await rig.elsewhere.proposals(ProposalFilter(), 3)
    rest = await rig.elsewhere.proposals(ProposalFilter(), 3, first[-1].number)

    assert [*first, *rest] == made[::-1]
    assert all(later.number > earlier.number for earlier, later in pairwise(made))


async def test_a_list_is_filtered(rig: Rig) -> None:
    await create(rig, "p-1")
    await create(rig, "p-2", "approved", items=(POOL,))
    await create(rig, "p-3", "withdrawn", items=(FLAG,), authors=(Author("eve", None),))

    async def ids(**filters: Any) -> list[str]:
        return [each.id for each in await rig.store.proposals(ProposalFilter(**filters), 10)]

    assert await ids() == ["p-3", "p-2", "p-1"]
    assert await ids(states=frozenset({"open", "approved"})) == ["p-2", "p-1"]
    assert await ids(environment="staging") == ["p-3", "p-1"]
    assert await ids(environment="stag") == []
    assert await ids(author="eve") == ["p-3"]
    assert await ids(states=frozenset({"open"}), environment="production", author="ana") == ["p-1"]


# What is due


async def test_what_is_scheduled_is_due_at_its_time(rig: Rig) -> None:
    now = await rig.store.now()
    await create(rig, "p-later", "scheduled", apply_at=now + timedelta(hours=1))
    await create(rig, "p-2", "scheduled", apply_at=now)
    await create(rig, "p-1", "scheduled", apply_at=now - timedelta(hours=1))
    await create(rig, "p-no", "withdrawn", apply_at=now - timedelta(hours=1))

    assert [each.id for each in await rig.elsewhere.due_proposals(10, 5)] == ["p-1", "p-2"]
    assert [each.id for each in await rig.elsewhere.due_proposals(1, 5)] == ["p-1"]


async def test_what_is_being_applied_is_due_once_it_is_idle(rig: Rig) -> None:
    first = await create(rig, "p-1", "applying")
    await create(rig, "p-2", "approved")

    assert list(await rig.store.due_proposals(10, 5)) == []
    await rig.age(timedelta(seconds=6))
    assert [each.id for each in await rig.elsewhere.due_proposals(10, 5)] == ["p-1"]
    await rig.store.replace(commit(first))
    assert list(await rig.store.due_proposals(10, 5)) == []


# Outages


async def test_a_store_that_is_cut_off_fails_in_time(rig: Rig) -> None:
    await create(rig)
    await rig.cut()

    for call in (
        rig.store.proposal("p-1"),
        rig.store.create(commit(proposal("p-2"))),
        rig.store.due_proposals(10, 5),
    ):
        began = monotonic()
        with pytest.raises(ProposalsUnavailable):
            await call
        assert monotonic() - began < SLACK_SECONDS
