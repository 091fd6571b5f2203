"""What any DeliveryStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from app.webhooks.errors import DeliveriesUnavailable, LeaseLost
from app.webhooks.model import (
    NOTHING_WAITS,
    Attempt,
    Delivery,
    Kept,
    Lease,
    RoundResult,
)
from app.webhooks.store.embedded import EmbeddedDeliveryStore
from app.webhooks.store.port import MOST_ATTEMPTS, MOST_DEAD_LETTERS, DeliveryStore
from app.webhooks.store.postgres import PostgresDeliveryStore
from tests.contracts.rigs import embedded_bench, postgres_bench

TIMES = (
    ("webhook_cursors", "lease_until"),
    ("webhook_cursors", "opened_at"),
    ("webhook_deliveries", "queued_at"),
    ("webhook_deliveries", "due_at"),
    ("webhook_deliveries", "dead_at"),
)


@dataclass
class Rig:
    """The adapter of one replica and of another; what they stored can grow old."""

    store: DeliveryStore
    elsewhere: DeliveryStore
    age: Callable[[float], Awaitable[None]]
    cut: Callable[[], Awaitable[None]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        def earlier(at: str) -> str:
            moved = datetime.fromisoformat(at) - timedelta(seconds=seconds)
            return moved.isoformat(timespec="microseconds")

        connection.create_function("earlier", 1, earlier)
        for table, column in TIMES:
            connection.execute(
                f"UPDATE {table} SET {column} = earlier({column}) WHERE {column} IS NOT NULL"
            )

    store = EmbeddedDeliveryStore(bench.state)
    return Rig(
        store,
        store,
        lambda seconds: bench.state.run(partial(shift, seconds=seconds)),
        bench.state.close,
    )


async def postgres_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)

    async def age(seconds: float) -> None:
        for table, column in TIMES:
            await bench.connection.execute(
                f"UPDATE {table} SET {column} = {column} - $1::interval",
                timedelta(seconds=seconds),
            )

    return Rig(
        PostgresDeliveryStore(bench.open_connection().engine),
        PostgresDeliveryStore(bench.open_connection().engine),
        age,
        bench.cut,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres_rig, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        rig: Rig = await request.param(request, stack)
        await rig.store.open("w", 5)
        yield rig


def delivery(revision: int, entity: str = "a", message_id: str | None = None) -> Delivery:
    return Delivery(message_id or f"m{revision}", revision, entity, f'{{"revision":{revision}}}')


def attempt(revision: int = 6) -> Attempt:
    at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    return Attempt(f"m{revision}", revision, "failed", 503, "answered 503", 0.25, 1, at)


async def record(rig: Rig, *kept: Kept, cursor: int = 5, **members: object) -> Lease:
    result = RoundResult(cursor, kept=kept, **members)  # type: ignore[arg-type]
    return await rig.store.record("w", "one", result, 20)


async def test_a_lease_excludes_others_until_it_ends(rig: Rig) -> None:
    assert await rig.store.lease("w", "one", 20) == Lease(5, 0)
    assert await rig.elsewhere.lease("w", "two", 20) is None
    assert await rig.store.lease("w", "one", 20) == Lease(5, 0)

    await rig.age(21)

    assert await rig.elsewhere.lease("w", "two", 20) == Lease(5, 0)
    assert await rig.store.lease("w", "one", 20) is None


async def test_of_many_one_gets_the_lease(rig: Rig) -> None:
    stores = [rig.store, rig.elsewhere] * 4

    leases = await asyncio.gather(
        *(store.lease("w", str(number), 20) for number, store in enumerate(stores))
    )

    assert sorted(lease is not None for lease in leases) == [False] * 7 + [True]


async def test_a_lease_that_is_released_is_free(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await rig.elsewhere.release("w", "two")
    assert await rig.elsewhere.lease("w", "two", 20) is None

    await rig.store.release("w", "one")

    assert await rig.elsewhere.lease("w", "two", 20) == Lease(5, 0)


async def test_a_webhook_that_was_not_opened_has_no_lease(rig: Rig) -> None:
    assert await rig.store.lease("other", "one", 20) is None
    with pytest.raises(LeaseLost):
        await rig.store.record("other", "one", RoundResult(6), 20)


async def test_opened_again_it_stays_where_it_is(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(rig, cursor=9)

    await rig.elsewhere.open("w", 0)

    assert await rig.store.lease("w", "one", 20) == Lease(9, 0)


async def test_only_the_holder_records_and_nothing_of_another_is_kept(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await rig.age(21)
    await rig.elsewhere.lease("w", "two", 20)

    with pytest.raises(LeaseLost):
        await record(rig, Kept(delivery(6), 1), cursor=6, attempts=[attempt()], gaps=1)

    (state,) = await rig.store.states()
    assert (state.cursor, state.waiting, state.attempted, state.gaps) == (5, 0, 0, 0)


async def test_a_holder_whose_lease_has_ended_records_while_nobody_else_has_it(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await rig.age(21)

    assert await record(rig, cursor=7) == Lease(7, 0)
    assert await rig.elsewhere.lease("w", "two", 20) is None  # it was renewed


async def test_the_cursor_never_goes_back(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(rig, cursor=9)

    assert await record(rig, cursor=7) == Lease(9, 0)


async def test_what_is_kept_waits_until_it_is_due(rig: Rig) -> None:
    await rig.store.lease("w", "one", 100)

    lease = await record(
        rig, Kept(delivery(6, "a"), 1, 30.0, status=503, reason="answered 503"), cursor=6
    )

    assert lease == Lease(6, 1)
    early = await rig.elsewhere.waiting("w", 10)
    assert (early.due, early.entities) == ([], frozenset("a"))
    assert early.next_due == pytest.approx(30, abs=10)
    await rig.age(31)
    late = await rig.elsewhere.waiting("w", 10)
    (due,) = late.due
    assert replace(due, age=0.0) == replace(delivery(6, "a"), attempts=1)
    assert due.age == pytest.approx(31, abs=10)
    assert late.next_due is None


async def test_a_line_is_due_when_its_first_delivery_is(rig: Rig) -> None:
    await rig.store.lease("w", "one", 100)
    await record(
        rig,
        Kept(delivery(8, "a"), 0),
        Kept(delivery(6, "a"), 1, 60.0),
        Kept(delivery(7, "b"), 0),
        Kept(delivery(9, "b"), 0, 60.0),
    )

    waiting = await rig.store.waiting("w", 10)

    assert [each.revision for each in waiting.due] == [7, 9]
    assert waiting.entities == frozenset("ab")
    await rig.age(61)
    again = await rig.store.waiting("w", 10)
    by_entity = {
        entity: [each.revision for each in again.due if each.entity == entity] for entity in "ab"
    }
    assert by_entity == {"a": [6, 8], "b": [7, 9]}


async def test_what_a_limit_cuts_off_lies_behind_what_is_returned(rig: Rig) -> None:
    await rig.store.lease("w", "one", 100)
    await record(rig, *(Kept(delivery(n, "ab"[n % 2]), 0) for n in range(6, 16)))

    for limit in range(1, 11):
        waiting = await rig.store.waiting("w", limit)
        assert len(waiting.due) == limit
        assert waiting.entities == frozenset("ab")
        for entity in "ab":
            line = [each.revision for each in waiting.due if each.entity == entity]
            assert line == [n for n in range(6, 16) if "ab"[n % 2] == entity][: len(line)]


async def test_what_was_delivered_waits_no_more(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(rig, Kept(delivery(6), 1), Kept(delivery(7), 0))

    assert await record(rig, delivered=["m6"]) == Lease(5, 1)

    assert [each.id for each in (await rig.store.waiting("w", 10)).due] == ["m7"]


async def test_a_delivery_that_fails_again_keeps_its_age(rig: Rig) -> None:
    await rig.store.lease("w", "one", 1000)
    await record(rig, Kept(delivery(6), 1))
    await rig.age(100)

    (due,) = (await rig.store.waiting("w", 10)).due
    await record(rig, Kept(due, 2, reason="answered 500", status=500))

    (again,) = (await rig.store.waiting("w", 10)).due
    assert again.attempts == 2
    assert again.age == pytest.approx(100, abs=10)


async def test_dead_letters_wait_for_nothing_and_are_resent_by_hand(rig: Rig) -> None:
    await rig.store.lease("w", "one", 1000)
    await record(
        rig,
        *(Kept(delivery(n), 9, is_dead=True, status=500, reason="answered 500") for n in (6, 7, 8)),
    )
    assert await rig.store.waiting("w", 10) == NOTHING_WAITS

    first, *others = await rig.elsewhere.dead_letters("w", 10)
    assert first.delivery == replace(delivery(6), attempts=9)
    assert (first.status, first.reason) == (500, "answered 500")
    assert [each.delivery.id for each in others] == ["m7", "m8"]
    rest = await rig.store.dead_letters("w", 1, (6, "m6"))
    assert [each.delivery.id for each in rest] == ["m7"]

    assert await rig.elsewhere.resend("w", "m7") == 1
    assert [each.id for each in (await rig.store.waiting("w", 10)).due] == ["m7"]
    assert await rig.elsewhere.resend("w", "none") == 0
    assert await rig.elsewhere.resend("w", "m7") == 0
    assert await rig.elsewhere.resend("w") == 2
    assert [each.id for each in (await rig.store.waiting("w", 10)).due] == ["m6", "m7", "m8"]
    assert await rig.store.dead_letters("w", 10) == []


async def test_the_newest_dead_letters_are_kept(rig: Rig) -> None:
    await rig.store.lease("w", "one", 1000)
    count = MOST_DEAD_LETTERS + 2
    await record(rig, *(Kept(delivery(n), 9, is_dead=True) for n in range(count)))

    (oldest,) = await rig.store.dead_letters("w", 1)

    (state,) = await rig.store.states()
    assert state.dead_letters == MOST_DEAD_LETTERS
    assert oldest.delivery.revision == 2


async def test_attempts_are_numbered_and_the_newest_are_kept(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(rig, attempts=[attempt(6), attempt(7)])
    await rig.elsewhere.record_attempt("w", replace(attempt(8), status=None, outcome="delivered"))

    newest, *others = await rig.store.attempts("w", 10)

    assert newest.number == 3
    assert newest.attempt == replace(attempt(8), status=None, outcome="delivered")
    assert [(each.number, each.attempt.id) for each in others] == [(2, "m7"), (1, "m6")]
    assert [each.number for each in await rig.store.attempts("w", 1, 3)] == [2]
    await record(rig, attempts=[attempt(n) for n in range(MOST_ATTEMPTS + 10)])
    numbers = [each.number for each in await rig.store.attempts("w", 1000)]
    assert numbers == list(range(MOST_ATTEMPTS + 13, 13, -1))


async def test_a_state_tells_how_far_a_webhook_is(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(
        rig,
        Kept(delivery(6), 1),
        Kept(delivery(7, "b"), 9, is_dead=True),
        cursor=7,
        attempts=[attempt()],
        gaps=2,
    )
    await rig.age(12)

    (state,) = await rig.elsewhere.states()

    assert (state.webhook_id, state.cursor, state.is_leased) == ("w", 7, True)
    assert (state.waiting, state.dead_letters, state.attempted, state.gaps) == (1, 1, 1, 2)
    assert state.oldest_seconds == pytest.approx(12, abs=6)
    await rig.age(40)
    assert not (await rig.store.states())[0].is_leased


async def test_webhooks_do_not_see_each_other(rig: Rig) -> None:
    await rig.store.open("other", 0)
    await rig.store.lease("w", "one", 20)
    await record(rig, Kept(delivery(6), 1), Kept(delivery(7), 9, is_dead=True))

    assert await rig.store.lease("other", "two", 20) == Lease(0, 0)
    assert await rig.store.waiting("other", 10) == NOTHING_WAITS
    assert await rig.store.dead_letters("other", 10) == []
    assert await rig.store.resend("other") == 0


async def test_what_belongs_to_no_webhook_is_deleted(rig: Rig) -> None:
    await rig.store.open("other", 0)
    await rig.store.lease("w", "one", 20)
    await record(
        rig, Kept(delivery(6), 1), Kept(delivery(7), 9, is_dead=True), attempts=[attempt()]
    )

    assert await rig.store.clean([], 60, 600) == 0  # they may just be being created
    await rig.age(100)
    assert await rig.store.clean(["other"], 60, 600) == 4
    assert [each.webhook_id for each in await rig.store.states()] == ["other"]
    assert await rig.store.attempts("w", 10) == []


async def test_old_dead_letters_are_deleted_and_nothing_that_waits(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    await record(rig, Kept(delivery(6), 1), Kept(delivery(7), 9, is_dead=True))
    await rig.age(601)

    assert await rig.store.clean(["w"], 60, 600) == 1

    (state,) = await rig.store.states()
    assert (state.waiting, state.dead_letters) == (1, 0)


async def test_texts_of_any_kind_come_back(rig: Rig) -> None:
    await rig.store.lease("w", "one", 20)
    message = '{"comment":"quote \' \\\\ \\u0000 \U0010ffff"}'
    odd = Delivery(str(uuid4()), 2**53, "configs/ä b/%", message)

    await record(rig, Kept(odd, 1, reason="answered 500", status=500))

    (due,) = (await rig.store.waiting("w", 10)).due
    assert replace(due, age=0.0, attempts=0) == odd


async def test_a_store_that_does_not_answer_is_unavailable(rig: Rig) -> None:
    await rig.cut()

    for call in (
        rig.store.open("w", 1),
        rig.store.lease("w", "one", 20),
        rig.store.waiting("w", 1),
        rig.store.record("w", "one", RoundResult(6), 20),
        rig.store.states(),
        rig.store.resend("w"),
    ):
        with pytest.raises(DeliveriesUnavailable):
            await call
