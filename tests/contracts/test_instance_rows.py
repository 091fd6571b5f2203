"""What any InstanceRows must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import random
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest

from app.changes.embedded import EmbeddedChangeLog
from app.changes.model import Change
from app.changes.port import ChangeLog
from app.changes.postgres import PostgresChangeLog
from app.database import open_engine
from app.registry.errors import (
    InstanceNotFound,
    OldEpoch,
    RegistryUnavailable,
    TooManyInstances,
)
from app.registry.rows import (
    AT_ONCE,
    Beat,
    Counts,
    InstanceRows,
    Lease,
    Registered,
    Registration,
    Row,
    Tag,
    entity,
)
from app.registry.rows_embedded import EmbeddedInstanceRows
from app.registry.rows_postgres import PostgresInstanceRows
from app.state import State
from tests.servers.process import SLACK_SECONDS

AT_MOST = 12
DAY = 24 * 3600.0


@dataclass
class Rig:
    """One adapter on the bench, with the change log it shares."""

    rows: InstanceRows
    log: ChangeLog
    elsewhere: InstanceRows  # in another replica where there are any
    spacious: InstanceRows  # registers thousands of a service
    reopen: Callable[[], Awaitable[InstanceRows]]  # after a restart; `rows` may be closed by it
    cut: Callable[[], Awaitable[None]]
    age: Callable[[float], Awaitable[object]]  # as if all that was done were done so much earlier
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]


TIMES = ("registered_at", "heartbeat_at", "claimed_at", "draining_until", "moved_at")


async def embedded(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    folder: Path = request.getfixturevalue("tmp_path")
    state = State(folder)
    stack.push_async_callback(state.close)
    log = EmbeddedChangeLog(state)
    rows = EmbeddedInstanceRows(state, log.wake, AT_MOST)

    async def reopen() -> InstanceRows:
        await state.close()
        reopened = State(folder)
        stack.push_async_callback(reopened.close)
        return EmbeddedInstanceRows(reopened, EmbeddedChangeLog(reopened).wake, AT_MOST)

    def earlier(text: str | None, seconds: float) -> str | None:
        if text is None:
            return None
        moment = datetime.fromisoformat(text) - timedelta(seconds=seconds)
        return moment.isoformat(timespec="microseconds")

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        connection.create_function("earlier", 1, partial(earlier, seconds=seconds))
        moved = ", ".join(f"{name} = earlier({name})" for name in TIMES)
        connection.execute(f"UPDATE instances SET {moved}")

    def audit(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute("SELECT * FROM audit ORDER BY id")]

    return Rig(
        rows=rows,
        log=log,
        elsewhere=rows,
        spacious=EmbeddedInstanceRows(state, log.wake),
        reopen=reopen,
        cut=state.close,
        age=lambda seconds: state.run(partial(shift, seconds=seconds)),
        audit=lambda: state.read(audit),
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    server = request.getfixturevalue("postgres_server")
    url = server.migrated_database()
    stack.callback(server.drop, url)
    bench = await asyncpg.connect(url)
    stack.push_async_callback(bench.close)

    async def replica() -> tuple[InstanceRows, InstanceRows, ChangeLog]:
        engine = open_engine(url)
        log = PostgresChangeLog(engine, url)
        stack.push_async_callback(log.close)
        return PostgresInstanceRows(engine, AT_MOST), PostgresInstanceRows(engine), log

    async def reopen() -> InstanceRows:
        return (await replica())[0]

    async def cut() -> None:
        database = url.rpartition("/")[2]
        outside = await asyncpg.connect(server.url)
        await outside.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )
        await outside.close()

    async def age(seconds: float) -> None:
        moved = ", ".join(f"{name} = {name} - $1::interval" for name in TIMES)
        await bench.execute(f"UPDATE instances SET {moved}", timedelta(seconds=seconds))

    async def audit() -> list[dict[str, Any]]:
        return [dict(row) for row in await bench.fetch("SELECT * FROM audit ORDER BY id")]

    rows, spacious, log = await replica()
    return Rig(
        rows=rows,
        log=log,
        elsewhere=await reopen(),
        spacious=spacious,
        reopen=reopen,
        cut=cut,
        age=age,
        audit=audit,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def registration(
    instance_id: str = "one",
    service: str = "billing",
    *,
    lease: Lease = "heartbeat",
    ttl_seconds: float = 30.0,
    owner: str = "replica-1",
) -> Registration:
    return Registration(
        service=service,
        instance_id=instance_id,
        definition='{"port": 80}',
        lease=lease,
        ttl_seconds=ttl_seconds,
        owner=owner,
        actor="ana",
        request_id="request-1",
    )


async def register(rig: Rig, instance_id: str = "one", service: str = "billing") -> Row:
    return (await rig.rows.register(registration(instance_id, service))).row


async def probed(rig: Rig, instance_id: str = "one") -> Row:
    return (await rig.rows.register(registration(instance_id, lease="probe"))).row


async def deregister(rows: InstanceRows, instance_id: str = "one", epoch: int | None = None) -> Row:
    return await rows.deregister("billing", instance_id, epoch, "bob", "request-2")


async def drain(rows: InstanceRows, epoch: int | None = None, grace: float = 30.0) -> Row:
    return await rows.drain("billing", "one", epoch, grace, "bob", "request-2")


async def kept(rows: InstanceRows, instance_id: str = "one") -> Row:
    row = await rows.row("billing", instance_id)
    assert row is not None
    return row


async def logged(rig: Rig) -> list[Change]:
    return list(await rig.log.since(0, 100_000))


def won(outcomes: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for outcome in outcomes for row in outcome]


# Registering


async def test_a_registration_is_a_row(rig: Rig) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)  # for a server whose clock differs

    made = await rig.rows.register(registration())

    row = made.row
    assert made == Registered(row, created=True)
    assert row == Row(
        service="billing",
        instance_id="one",
        epoch=1,
        term=1,
        state="registered",
        health="up",
        owner="replica-1",
        definition='{"port": 80}',
        lease="heartbeat",
        ttl_seconds=30.0,
        registered_at=row.registered_at,
        heartbeat_at=row.registered_at,
        draining_until=None,
        version=1,
        revision=row.revision,
    )
    assert began < row.registered_at < began + timedelta(minutes=2)
    assert row.registered_at.tzinfo is not None
    assert await rig.elsewhere.row("billing", "one") == row


async def test_a_probed_instance_starts(rig: Rig) -> None:
    row = await probed(rig)

    assert (row.lease, row.health) == ("probe", "starting")


async def test_a_registration_replaces_the_one_before_whole(rig: Rig) -> None:
    before = await probed(rig)
    await rig.rows.claim([before.tag], "replica-2", 0)
    await drain(rig.rows)
    anew = replace(registration(), definition='{"b":1, "a":2}', ttl_seconds=0.5, owner="replica-3")

    made = await rig.elsewhere.register(anew)

    row = made.row
    assert not made.created
    assert (row.epoch, row.term, row.version) == (2, 1, 3)
    assert (row.definition, row.ttl_seconds, row.owner) == ('{"b":1, "a":2}', 0.5, "replica-3")
    assert (row.lease, row.health, row.draining_until) == ("heartbeat", "up", None)
    assert row.registered_at > before.registered_at
    assert await kept(rig.rows) == row


async def test_who_was_deregistered_registers_with_the_next_epoch(rig: Rig) -> None:
    await register(rig)
    await deregister(rig.rows)

    made = await rig.rows.register(registration())

    assert made.created
    assert (made.row.epoch, made.row.term, made.row.state) == (2, 1, "registered")


async def test_texts_are_kept_to_the_character(rig: Rig) -> None:
    told = replace(
        registration("a:8080 'ü'"), definition='{"zebra": 1.0,  "ant": "\\u0000 🚀 :name %s $1"}'
    )

    made = await rig.rows.register(told)
    beaten = await rig.rows.beat([Beat("billing", told.instance_id)])
    await rig.age(31)
    await rig.rows.overdue()
    await rig.rows.beat([Beat("billing", told.instance_id)])

    assert made.row.definition == told.definition
    assert beaten["billing", told.instance_id].definition == told.definition
    assert (await kept(rig.rows, told.instance_id)).definition == told.definition


async def test_a_service_has_so_many_instances_at_most(rig: Rig) -> None:
    for number in range(AT_MOST):
        await register(rig, str(number))

    with pytest.raises(TooManyInstances):
        await register(rig, "more")

    assert await rig.rows.row("billing", "more") is None
    assert await register(rig, "more", "shipping")
    assert not (await rig.rows.register(registration("0"))).created
    await deregister(rig.rows, "0")
    assert (await register(rig, "more")).epoch == 1
    with pytest.raises(TooManyInstances):
        await register(rig, "0")


async def test_many_who_register_at_once_are_no_more_than_may_be(rig: Rig) -> None:
    stores = (rig.rows, rig.elsewhere) * AT_MOST
    racing = [
        store.register(registration(str(number), service))
        for number, store in enumerate(stores)
        for service in ("billing", "shipping")
    ]

    outcomes = await asyncio.gather(*racing, return_exceptions=True)

    made = [outcome for outcome in outcomes if isinstance(outcome, Registered)]
    assert len(made) == 2 * AT_MOST
    assert sum(isinstance(outcome, TooManyInstances) for outcome in outcomes) == 2 * AT_MOST
    counts = (await rig.rows.overdue()).counts
    assert counts["billing"].registered == counts["shipping"].registered == AT_MOST


async def test_many_who_register_one_instance_get_epochs_of_their_own(rig: Rig) -> None:
    racing = [store.register(registration()) for store in (rig.rows, rig.elsewhere) * 5]

    made = await asyncio.gather(*racing)

    assert sorted(outcome.row.epoch for outcome in made) == list(range(1, 11))
    assert sum(outcome.created for outcome in made) == 1
    assert [change.version for change in await logged(rig)] == list(range(1, 11))


async def test_who_registers_with_others_holds_up_nobody_and_is_held_up_by_none(rig: Rig) -> None:
    names = [(f"s{number}", id_) for number in range(4) for id_ in ("a", "b", "c")]
    for service, id_ in names:
        await register(rig, id_, service)
    await rig.age(31)
    await rig.rows.overdue()  # all are suspect: what is heard of them is logged as well

    def storm(store: InstanceRows, seed: int) -> Iterable[Coroutine[Any, Any, object]]:
        mixed = random.Random(seed).sample(names, len(names))
        yield from (store.register(registration(id_, service)) for service, id_ in mixed)
        yield from (store.beat([Beat(*name) for name in mixed[at : at + 4]]) for at in (0, 4, 8))

    storms = [one for seed in range(3) for one in storm((rig.rows, rig.elsewhere)[seed % 2], seed)]
    outcomes = await asyncio.gather(*storms)

    epochs = [one.row.epoch for one in outcomes if isinstance(one, Registered)]
    assert sorted(epochs) == [epoch for epoch in (2, 3, 4) for _ in names]


async def test_who_registers_new_ones_in_another_order_is_not_in_the_way(rig: Rig) -> None:
    services = [f"s{number:02}" for number in range(24)]
    orders = ((rig.rows, "a", services), (rig.elsewhere, "b", services[::-1]))

    made = await asyncio.gather(
        *(
            store.register(registration(id_, service))
            for store, id_, order in orders
            for service in order
        )
    )

    assert all(one.created for one in made)
    assert sorted(one.row.revision for one in made) == list(range(1, 49))


# Deregistering


async def test_a_deregistered_row_stays_and_its_term_moves(rig: Rig) -> None:
    row = await register(rig)

    gone = await deregister(rig.elsewhere, epoch=1)

    assert gone == replace(row, state="deregistered", term=2, version=2, revision=gone.revision)
    assert gone.revision > row.revision
    assert await kept(rig.rows) == gone
    assert await rig.rows.owned("replica-1") == []


async def test_the_epoch_need_not_be_named(rig: Rig) -> None:
    await register(rig)
    await register(rig)

    assert (await deregister(rig.rows)).epoch == 2


@pytest.mark.parametrize("leave", [deregister, drain])
async def test_what_is_not_registered_is_not_found(
    rig: Rig, leave: Callable[[InstanceRows], Awaitable[Row]]
) -> None:
    with pytest.raises(InstanceNotFound):
        await leave(rig.rows)
    await register(rig)
    gone = await deregister(rig.rows)

    with pytest.raises(InstanceNotFound):
        await leave(rig.rows)

    assert await kept(rig.rows) == gone
    assert len(await logged(rig)) == 2


@pytest.mark.parametrize("epoch", [1, 3])
async def test_another_epoch_changes_nothing(rig: Rig, epoch: int) -> None:
    await register(rig)
    row = await register(rig)

    for leaving in (deregister(rig.rows, epoch=epoch), drain(rig.rows, epoch)):
        with pytest.raises(OldEpoch) as told:
            await leaving
        assert told.value.facts == {"current_epoch": 2}

    assert await kept(rig.rows) == row
    assert len(await logged(rig)) == 2


# Draining


async def test_a_drain_sets_when_the_grace_ends(rig: Rig) -> None:
    row = await register(rig)

    draining = await drain(rig.rows, epoch=1, grace=30)

    until = draining.draining_until
    assert until is not None
    assert 29 < (until - row.registered_at).total_seconds() < 60
    assert draining == replace(row, draining_until=until, version=2, revision=draining.revision)
    assert await rig.rows.drained() == []


async def test_who_has_drained_is_deregistered(rig: Rig) -> None:
    await register(rig)
    await register(rig, "two")
    draining = await drain(rig.rows, grace=30)
    await rig.age(31)

    (gone,) = await rig.elsewhere.drained()

    assert (gone.instance_id, gone.state, gone.epoch, gone.term) == ("one", "deregistered", 1, 2)
    assert gone.version == draining.version + 1
    assert await rig.rows.drained() == []
    assert (await kept(rig.rows, "two")).state == "registered"


async def test_of_many_who_look_each_drained_instance_is_told_to_one(rig: Rig) -> None:
    for number in range(5):
        await register(rig, str(number))
        await rig.rows.drain("billing", str(number), None, 0, "bob", "request")

    told = await asyncio.gather(*(store.drained() for store in (rig.rows, rig.elsewhere) * 4))

    assert sorted(row.instance_id for row in won(told)) == ["0", "1", "2", "3", "4"]


# Claiming


async def test_a_claim_moves_owner_and_term_and_is_not_logged(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(11)

    (claimed,) = await rig.elsewhere.claim([row.tag], "replica-2", settle_seconds=10)

    assert (claimed.owner, claimed.epoch, claimed.term) == ("replica-2", 1, 2)
    assert (claimed.version, claimed.revision) == (row.version, row.revision)
    assert await kept(rig.rows) == claimed
    assert await rig.rows.owned("replica-1") == []
    assert await rig.rows.owned("replica-2") == [claimed]
    assert await rig.rows.newer(row.revision, 10) == []
    assert len(await logged(rig)) == 1


async def test_nothing_is_claimed_at_another_tag(rig: Rig) -> None:
    row = await register(rig)
    tag = row.tag
    others = (tag._replace(term=2), tag._replace(epoch=2), tag._replace(instance_id="ghost"))

    assert await rig.rows.claim(others, "replica-2", 0) == []

    assert await kept(rig.rows) == row
    gone = await deregister(rig.rows)
    assert await rig.rows.claim([row.tag, gone.tag], "replica-2", 0) == []


async def test_a_recent_claim_of_another_is_left_alone(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(60)
    (claimed,) = await rig.rows.claim([row.tag], "replica-2", 10)

    assert await rig.elsewhere.claim([claimed.tag], "replica-3", 10) == []
    (again,) = await rig.rows.claim([claimed.tag], "replica-2", 10)

    assert (again.owner, again.term) == ("replica-2", 3)
    await rig.age(11)
    (later,) = await rig.elsewhere.claim([again.tag], "replica-3", 10)
    assert (later.owner, later.term) == ("replica-3", 4)


async def test_a_recent_registration_with_another_is_left_alone(rig: Rig) -> None:
    row = await register(rig)

    assert await rig.rows.claim([row.tag], "replica-2", 10) == []


async def test_of_many_who_claim_one_wins(rig: Rig) -> None:
    tags = [(await register(rig, str(number))).tag for number in range(8)]
    stores = (rig.rows, rig.elsewhere) * 4
    racing = [
        store.claim(random.sample(tags, len(tags)), f"racer-{number}", 0)
        for number, store in enumerate(stores)
    ]

    outcomes = await asyncio.gather(*racing)

    assert sorted(row.instance_id for row in won(outcomes)) == [tag.instance_id for tag in tags]
    assert {row.term for row in won(outcomes)} == {2}
    for number, outcome in enumerate(outcomes):
        owned = await rig.rows.owned(f"racer-{number}")
        assert sorted(owned, key=lambda row: row.key) == sorted(outcome, key=lambda row: row.key)


async def test_a_claim_and_a_deregistration_do_not_both_win_unseen(rig: Rig) -> None:
    for _ in range(5):
        row = await register(rig)

        claimed, gone = await asyncio.gather(
            rig.rows.claim([row.tag], "replica-2", 0), deregister(rig.elsewhere)
        )

        assert (gone.state, gone.term) == ("deregistered", 3 if claimed else 2)
        assert await kept(rig.rows) == gone


# Heartbeats


async def test_a_heartbeat_is_noted_and_not_logged(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(20)

    beaten = await rig.elsewhere.beat([Beat("billing", "one", 1)])

    noted = beaten["billing", "one"]
    assert list(beaten) == [("billing", "one")]
    assert noted.heartbeat_at >= row.heartbeat_at
    assert noted.heartbeat_at - noted.registered_at > timedelta(seconds=19)
    assert noted == replace(row, heartbeat_at=noted.heartbeat_at, registered_at=noted.registered_at)
    assert await kept(rig.rows) == noted
    assert len(await logged(rig)) == 1


async def test_heartbeats_of_another_epoch_or_nobody_are_not_noted(rig: Rig) -> None:
    await register(rig)
    await register(rig)
    await register(rig, "gone")
    await deregister(rig.rows, "gone")
    await rig.age(20)
    before = [await kept(rig.rows, name) for name in ("one", "gone")]

    beats = [Beat("billing", "one", 1), Beat("billing", "one", 3), Beat("billing", "gone"),
             Beat("billing", "ghost")]  # fmt: skip
    assert await rig.rows.beat(beats) == {}

    assert [await kept(rig.rows, name) for name in ("one", "gone")] == before


async def test_heartbeats_of_one_instance_may_come_together(rig: Rig) -> None:
    row = await register(rig)
    await register(rig, "two")
    await rig.age(31)
    await rig.rows.overdue()
    one = [Beat("billing", "one"), Beat("billing", "one", 1), Beat("billing", "one", 7)]

    beaten = await rig.rows.beat([*one, Beat("billing", "two", 1), *one])

    assert set(beaten) == {("billing", "one"), ("billing", "two")}
    assert beaten["billing", "one"].version == row.version + 2
    assert await rig.rows.beat([]) == {}


async def test_a_suspect_that_is_heard_is_up(rig: Rig) -> None:
    await register(rig)
    await rig.age(31)
    await rig.rows.overdue()
    suspect = await kept(rig.rows)

    row = (await rig.rows.beat([Beat("billing", "one", 1)]))["billing", "one"]

    assert (suspect.health, row.health) == ("suspect", "up")
    assert row.version == suspect.version + 1
    assert await rig.rows.newer(suspect.revision, 10) == [row]
    assert (await rig.rows.overdue()).counts == {"billing": Counts(1, 0, 0)}


async def test_heartbeats_of_many_replicas_do_not_wait_for_each_other(rig: Rig) -> None:
    beats = [
        Beat("billing", (await register(rig, str(number))).instance_id) for number in range(12)
    ]
    for _ in range(3):
        await rig.age(31)
        await rig.rows.overdue()

        answers = await asyncio.gather(
            *(
                store.beat(random.sample(beats, len(beats)))
                for store in (rig.rows, rig.elsewhere) * 4
            )
        )

        assert [len(answer) for answer in answers] == [12] * 8
        assert {row.health for answer in answers for row in answer.values()} == {"up"}
    assert len(await logged(rig)) == 12 + 3 * 24


# Probes


async def test_a_probe_changes_the_health_and_is_logged_once(rig: Rig) -> None:
    row = await probed(rig)

    (up,) = await rig.rows.judge({row.tag: "up"})
    assert await rig.rows.judge({row.tag: "up"}) == []
    (down,) = await rig.elsewhere.judge({row.tag: "down"})

    assert up == replace(row, health="up", version=2, revision=up.revision)
    assert down == replace(row, health="down", version=3, revision=down.revision)
    assert await kept(rig.rows) == down
    assert len(await logged(rig)) == 3


async def test_a_probe_of_another_tag_changes_nothing(rig: Rig) -> None:
    row = await probed(rig)
    (claimed,) = await rig.rows.claim([row.tag], "replica-2", 0)
    gone = await probed(rig, "gone")
    gone = await deregister(rig.rows, "gone")

    assert await rig.rows.judge({row.tag: "up", gone.tag: "up"}) == []

    assert await kept(rig.rows) == claimed
    assert await rig.rows.judge({}) == []


# Silence


async def test_who_is_silent_for_one_ttl_is_suspect_and_not_due(rig: Rig) -> None:
    row = await register(rig)
    await probed(rig, "probed")
    await rig.age(29)
    assert (await rig.rows.overdue()).counts == {"billing": Counts(2, 0, 0)}
    assert (await kept(rig.rows)).health == "up"
    await rig.age(2)

    overdue = await rig.elsewhere.overdue()

    suspect = await kept(rig.rows)
    assert (suspect.health, suspect.version, suspect.term) == ("suspect", row.version + 1, 1)
    assert overdue.due == []
    assert overdue.counts == {"billing": Counts(registered=2, overdue=1, evicted=0)}
    assert (await kept(rig.rows, "probed")).health == "starting"
    assert await rig.rows.overdue() == overdue
    assert len(await logged(rig)) == 3


async def test_who_is_silent_for_two_ttl_is_due_the_longest_first(rig: Rig) -> None:
    await register(rig, "older")
    await rig.age(10)
    await register(rig, "newer")
    await rig.age(61)
    await register(rig, "lively")
    await rig.rows.register(registration("patient", ttl_seconds=300))
    await probed(rig, "probed")

    overdue = await rig.rows.overdue()

    assert [row.instance_id for row in overdue.due] == ["older", "newer"]
    assert {row.health for row in overdue.due} == {"suspect"}
    assert overdue.due == [await kept(rig.rows, "older"), await kept(rig.rows, "newer")]
    assert overdue.counts == {"billing": Counts(registered=5, overdue=2, evicted=0)}


async def test_counts_are_by_service_and_forget_evictions_after_a_minute(rig: Rig) -> None:
    assert (await rig.rows.overdue()).counts == {}
    for name, service in (("one", "billing"), ("two", "billing"), ("one", "shipping")):
        await register(rig, name, service)
    await rig.age(61)
    await rig.rows.beat([Beat("billing", "two")])
    due = (await rig.rows.overdue()).due

    assert len(await rig.rows.evict([row.tag for row in due])) == 2

    told = {"billing": Counts(1, 0, 1), "shipping": Counts(0, 0, 1)}
    assert (await rig.rows.overdue()).counts == told
    await rig.age(61)
    assert (await rig.rows.overdue()).counts == {"billing": Counts(1, 1, 0)}


async def test_the_suspicion_of_many_replicas_is_logged_once(rig: Rig) -> None:
    for number in range(5):
        await register(rig, str(number))
    await rig.age(31)

    await asyncio.gather(*(store.overdue() for store in (rig.rows, rig.elsewhere) * 4))

    assert len(await logged(rig)) == 10


# Evicting


async def test_who_is_evicted_is_so_with_the_next_term(rig: Rig) -> None:
    await register(rig)
    await rig.age(61)
    (due,) = (await rig.rows.overdue()).due

    (gone,) = await rig.elsewhere.evict([due.tag, due.tag])

    assert gone == replace(due, state="evicted", term=2, version=3, revision=gone.revision)
    assert await kept(rig.rows) == gone
    assert await rig.rows.evict([due.tag, gone.tag]) == []
    assert await rig.rows.beat([Beat("billing", "one")]) == {}
    assert (await rig.rows.register(registration())).row.epoch == 2


async def test_only_who_is_due_is_evicted(rig: Rig) -> None:
    early = await register(rig, "early")
    checked = await probed(rig, "probed")
    await rig.age(59)
    assert await rig.rows.evict([early.tag]) == []
    await rig.age(2)
    claimed = await register(rig, "claimed")
    await rig.rows.claim([claimed.tag], "replica-2", 0)
    await rig.age(61)
    anew = await register(rig, "anew")

    tags = [checked.tag, claimed.tag, anew.tag, Tag("billing", "ghost", 1, 1)]
    assert await rig.rows.evict(tags) == []

    assert {(await kept(rig.rows, tag.instance_id)).state for tag in tags[:3]} == {"registered"}
    assert await rig.rows.evict([]) == []


async def test_a_heartbeat_that_was_acknowledged_prevents_the_eviction(rig: Rig) -> None:
    await register(rig)
    await rig.age(61)
    (due,) = (await rig.rows.overdue()).due
    (beaten,) = (await rig.elsewhere.beat([Beat("billing", "one", 1)])).values()

    assert await rig.rows.evict([due.tag]) == []

    assert await kept(rig.rows) == beaten


async def test_of_a_heartbeat_and_an_eviction_at_once_one_wins(rig: Rig) -> None:
    outcomes = set()
    for turn in range(10):
        tag = (await register(rig)).tag
        await rig.age(61)
        if turn % 2:
            await rig.rows.overdue()

        def beat() -> Coroutine[Any, Any, Mapping[tuple[str, str], Row]]:
            return rig.elsewhere.beat([Beat("billing", "one")])

        if turn % 4 < 2:
            beaten, evicted = await asyncio.gather(beat(), rig.rows.evict([tag]))
        else:
            evicted, beaten = await asyncio.gather(rig.rows.evict([tag]), beat())

        assert bool(beaten) != bool(evicted)
        outcomes.add((await kept(rig.rows)).state == ("registered" if beaten else "evicted"))
    assert outcomes == {True}


async def test_each_due_instance_is_evicted_by_one(rig: Rig) -> None:
    tags = [(await register(rig, str(number))).tag for number in range(8)]
    await rig.age(61)

    outcomes = await asyncio.gather(
        *(store.evict(random.sample(tags, len(tags))) for store in (rig.rows, rig.elsewhere) * 4)
    )

    assert sorted(row.tag for row in won(outcomes)) == [tag._replace(term=2) for tag in tags]


# Reading


async def test_what_is_not_there_is_not_found(rig: Rig) -> None:
    row = await register(rig)

    assert await rig.rows.row("billing", "ghost") is None
    assert await rig.rows.row("shipping", "one") is None
    keys = [("billing", "one"), ("billing", "ghost"), ("billing", "one")]
    assert await rig.rows.current(keys) == {("billing", "one"): row}
    assert await rig.rows.current([]) == {}
    assert await rig.rows.owned("nobody") == []


async def test_what_changed_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    first = await register(rig, "first")
    for number in range(4):
        await register(rig, str(number))
    await deregister(rig.rows, "1")
    await rig.rows.claim([first.tag], "replica-2", 0)

    read: list[Row] = []
    while page := await rig.elsewhere.newer(read[-1].revision if read else 0, limit=2):
        assert len(page) <= 2
        read += page

    assert [row.instance_id for row in read] == ["first", "0", "2", "3", "1"]
    assert [row.state for row in read] == ["registered"] * 4 + ["deregistered"]
    assert read[0].owner == "replica-2"


async def test_rows_are_there_after_a_restart(rig: Rig) -> None:
    await register(rig)
    gone = await deregister(rig.rows)
    row = await register(rig, "two")
    (claimed,) = await rig.rows.claim([row.tag], "replica-2", 0)

    rows = await rig.reopen()

    assert await rows.newer(0, 10) == [gone, claimed]
    assert (await rows.register(registration())).row.epoch == 2


# Reaping


async def test_only_rows_long_gone_are_forgotten(rig: Rig) -> None:
    await register(rig, "kept")
    await register(rig, "gone")
    gone = await deregister(rig.rows, "gone")
    await rig.age(DAY - 60)
    assert await rig.rows.reap(DAY) == []
    await register(rig, "fresh")
    await deregister(rig.rows, "fresh")
    await rig.age(120)

    assert await rig.elsewhere.reap(DAY) == [gone.tag]

    assert {row.instance_id for row in await rig.rows.newer(0, 10)} == {"kept", "fresh"}
    assert await rig.rows.row("billing", "gone") is None


async def test_an_epoch_never_comes_again(rig: Rig) -> None:
    epochs = []
    for _ in range(3):
        epochs.append((await register(rig)).epoch)
        epochs.append((await register(rig)).epoch)
        await deregister(rig.rows)
        await rig.rows.reap(-60)

    made = await register(rig)

    assert made.term == 1
    assert [*epochs, made.epoch] == sorted({*epochs, made.epoch})
    changes = await logged(rig)
    assert [change.version for change in changes] == list(range(1, 11))
    assert made.version == 10


async def test_a_registration_while_its_row_is_reaped_is_kept(rig: Rig) -> None:
    last = 0
    for _ in range(5):
        await register(rig)
        await deregister(rig.rows)

        made, _ = await asyncio.gather(rig.rows.register(registration()), rig.elsewhere.reap(-60))

        assert made.row.epoch > last
        assert await kept(rig.rows) == made.row
        last = made.row.epoch


# The change log


async def test_each_transition_is_one_change_in_order(rig: Rig) -> None:
    row = await register(rig)
    await rig.rows.claim([row.tag], "replica-1", 0)
    await rig.age(31)
    await rig.rows.overdue()
    await rig.rows.beat([Beat("billing", "one")])
    await register(rig)
    await drain(rig.rows, grace=0)
    await rig.rows.drained()
    await register(rig)
    await deregister(rig.rows)
    await register(rig)
    await rig.age(61)
    (gone,) = await rig.rows.evict([(await kept(rig.rows)).tag])

    changes = await logged(rig)

    assert [(change.action, change.actor) for change in changes] == [
        ("created", "ana"),
        ("updated", "registry"),
        ("updated", "registry"),
        ("updated", "ana"),
        ("updated", "bob"),
        ("deleted", "registry"),
        ("created", "ana"),
        ("deleted", "bob"),
        ("created", "ana"),
        ("deleted", "registry"),
    ]
    assert [change.version for change in changes] == list(range(1, 11))
    assert [change.deleted for change in changes] == [
        change.action == "deleted" for change in changes
    ]
    assert {(change.entity, change.comment) for change in changes} == {
        (entity("billing", "one"), "")
    }
    assert entity("billing", "one").key == "instances/billing/one"
    assert changes[-1].revision == gone.revision
    assert len({change.id for change in changes}) == 10
    assert await rig.log.unsent(100) == changes
    assert await rig.log.since(0, 100, kind="instance") == changes


async def test_a_snapshot_holds_the_pointers_of_instances(rig: Rig) -> None:
    await register(rig, "gone")
    row = await register(rig)
    gone = await deregister(rig.rows, "gone")

    snapshot = await rig.log.snapshot()

    assert snapshot.revision == gone.revision
    assert {
        key: (pointer.version, pointer.revision, pointer.deleted, pointer.actor)
        for key, pointer in snapshot.pointers.items()
    } == {
        "instances/billing/gone": (2, gone.revision, True, "bob"),
        "instances/billing/one": (1, row.revision, False, "ana"),
    }


async def test_a_transition_is_audited(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(31)
    await rig.rows.overdue()

    first, second = await rig.audit()

    assert (first["kind"], first["environment"], first["name"]) == (
        "instance",
        "default",
        "billing/one",
    )
    assert (first["version"], first["revision"]) == (1, row.revision)
    assert (first["actor"], first["action"], first["request_id"]) == (
        "ana",
        "created",
        "request-1",
    )
    assert (second["actor"], second["action"], second["request_id"]) == (
        "registry",
        "updated",
        None,
    )


async def test_a_transition_wakes_who_waits_for_changes(rig: Rig) -> None:
    for _ in range(5):  # more than once: the first may end for having just begun to listen
        waiting = asyncio.create_task(rig.log.changed(within=10))
        await rig.elsewhere.register(registration())
        committed = monotonic()
        await waiting
        assert monotonic() - committed < SLACK_SECONDS


async def test_all_kinds_of_calls_at_once_end_in_one_order(rig: Rig) -> None:
    names = [str(number) for number in range(6)]
    tags = [(await register(rig, name)).tag for name in names]
    await rig.age(61)

    async def unless_gone(call: Awaitable[object]) -> None:
        try:
            await call
        except InstanceNotFound:
            return

    def calls(rows: InstanceRows) -> list[Awaitable[object]]:
        mixed = random.sample(tags, len(tags))
        return [
            rows.overdue(),
            rows.evict(mixed),
            rows.beat([Beat(tag.service, tag.instance_id) for tag in mixed]),
            rows.claim(mixed, "replica-2", 0),
            rows.judge(dict.fromkeys(mixed, "down")),
            rows.drained(),
            rows.reap(-60),
            *(rows.register(registration(name)) for name in names),
            *(deregister(rows, name) for name in names),
        ]

    for _ in range(3):
        mixed = [*calls(rig.rows), *calls(rig.elsewhere)]
        await asyncio.gather(*(unless_gone(call) for call in random.sample(mixed, len(mixed))))

    changes = await logged(rig)
    for name in names:
        versions = [change.version for change in changes if change.entity.name == f"billing/{name}"]
        assert versions == list(range(1, len(versions) + 1))
        row = await rig.rows.row("billing", name)
        assert row is None or row.version == len(versions)
    assert [row.revision for row in await rig.rows.newer(0, 100)] == sorted(
        row.revision for row in await rig.rows.newer(0, 100)
    )


@pytest.mark.slow
async def test_thousands_are_kept_in_one_call(rig: Rig) -> None:
    number = AT_ONCE + 200
    for start in range(0, number, 8):
        await asyncio.gather(
            *(rig.spacious.register(registration(f"i{n:05}")) for n in range(start, start + 8))
        )
    await rig.age(31)

    await rig.rows.overdue()
    await rig.rows.overdue()

    rows = await rig.rows.owned("replica-1")
    assert (len(rows), {row.health for row in rows}) == (number, {"suspect"})
    for _ in range(2):
        beaten = await rig.rows.beat([Beat(*row.key, row.epoch) for row in rows])
        assert (len(beaten), {row.health for row in beaten.values()}) == (number, {"up"})
    assert len(await rig.rows.claim([row.tag for row in rows], "replica-2", 0)) == number
    await rig.age(61)
    evicted = 0
    while due := (await rig.rows.overdue()).due:
        assert len(due) <= AT_ONCE
        evicted += len(await rig.rows.evict([row.tag for row in due]))
    assert evicted == number
    assert len(await rig.rows.reap(-60)) == AT_ONCE
    assert len(await rig.rows.reap(-60)) == 200


# Outages


def every_call(rows: InstanceRows) -> Sequence[Coroutine[Any, Any, object]]:
    tag = Tag("billing", "one", 1, 1)
    return (
        rows.register(registration()),
        rows.deregister("billing", "one", None, "ana", "request"),
        rows.drain("billing", "one", None, 1, "ana", "request"),
        rows.drained(),
        rows.claim([tag], "replica-1", 0),
        rows.beat([Beat("billing", "one")]),
        rows.judge({tag: "up"}),
        rows.overdue(),
        rows.evict([tag]),
        rows.row("billing", "one"),
        rows.current([("billing", "one")]),
        rows.owned("replica-1"),
        rows.newer(0, 10),
        rows.reap(DAY),
        rows.ping(),
    )


async def test_the_store_answers_a_ping(rig: Rig) -> None:
    await rig.rows.ping()


async def test_every_call_names_an_outage_in_time(rig: Rig) -> None:
    await rig.rows.ping()

    await rig.cut()

    for call in every_call(rig.rows):
        began = monotonic()
        with pytest.raises(RegistryUnavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS
