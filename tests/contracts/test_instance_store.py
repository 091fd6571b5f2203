"""What any InstanceStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
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
from math import ceil
from time import monotonic
from typing import Any

import pytest

from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.outbox import EmbeddedOutbox
from app.changes.log.port import ChangeLog, LogPorts, Outbox
from app.changes.log.postgres.ports import postgres_ports
from app.changes.model import Change
from app.registry.errors import (
    InstanceNotFound,
    OldEpoch,
    RegistryUnavailable,
    TooManyInstances,
)
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.instances.port import InstanceStore
from app.registry.instances.postgres import PostgresInstanceStore
from app.registry.model import (
    MAX_LOGGED_PER_CALL,
    MAX_ROWS_PER_CALL,
    Heartbeat,
    InstanceRow,
    LeaseKind,
    Registration,
    RegistrationResult,
    RowToken,
    ServiceCounts,
    instance_entity,
)
from tests.contracts.rigs import embedded_bench, postgres_bench
from tests.servers.process import SLACK_SECONDS

AT_MOST = 12
DAY = 24 * 3600.0


@dataclass
class Rig:
    """One adapter on the bench, with the change log it shares."""

    rows: InstanceStore
    log: ChangeLog
    outbox: Outbox
    elsewhere: InstanceStore  # in another replica where there are any
    spacious: InstanceStore  # registers thousands of a service
    reopen: Callable[[], Awaitable[InstanceStore]]  # after a restart; `rows` may be closed by it
    cut: Callable[[], Awaitable[None]]
    age: Callable[[float], Awaitable[object]]  # as if all that was done were done so much earlier
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]


TIMES = ("registered_at", "heartbeat_at", "claimed_at", "draining_until", "moved_at", "released_at")


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    state = bench.state
    log = EmbeddedChangeLog(state)
    rows = EmbeddedInstanceStore(state, log.wake, AT_MOST)

    async def reopen() -> InstanceStore:
        reopened = await bench.reopen()
        return EmbeddedInstanceStore(reopened, EmbeddedChangeLog(reopened).wake, AT_MOST)

    def earlier(text: str | None, seconds: float) -> str | None:
        if text is None:
            return None
        moment = datetime.fromisoformat(text) - timedelta(seconds=seconds)
        return moment.isoformat(timespec="microseconds")

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        connection.create_function("earlier", 1, partial(earlier, seconds=seconds))
        moved = ", ".join(f"{name} = earlier({name})" for name in TIMES)
        connection.execute(f"UPDATE instances SET {moved}")

    return Rig(
        rows=rows,
        log=log,
        outbox=EmbeddedOutbox(state),
        elsewhere=rows,
        spacious=EmbeddedInstanceStore(state, log.wake),
        reopen=reopen,
        cut=state.close,
        age=lambda seconds: state.run(partial(shift, seconds=seconds)),
        audit=bench.audit,
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)

    async def replica() -> tuple[InstanceStore, InstanceStore, LogPorts]:
        connection = bench.open_connection()
        ports = postgres_ports(connection)
        return (
            PostgresInstanceStore(connection.engine, AT_MOST),
            PostgresInstanceStore(connection.engine),
            ports,
        )

    async def reopen() -> InstanceStore:
        return (await replica())[0]

    async def age(seconds: float) -> None:
        moved = ", ".join(f"{name} = {name} - $1::interval" for name in TIMES)
        await bench.connection.execute(f"UPDATE instances SET {moved}", timedelta(seconds=seconds))

    rows, spacious, ports = await replica()
    return Rig(
        rows=rows,
        log=ports.log,
        outbox=ports.outbox,
        elsewhere=await reopen(),
        spacious=spacious,
        reopen=reopen,
        cut=bench.cut,
        age=age,
        audit=bench.audit,
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


def registration(
    instance_id: str = "one",
    service: str = "billing",
    *,
    lease: LeaseKind = "heartbeat",
    ttl_seconds: float = 30.0,
    owner: str = "replica-1",
    replaces: int | None = None,
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
        replaces=replaces,
    )


async def register(rig: Rig, instance_id: str = "one", service: str = "billing") -> InstanceRow:
    return (await rig.rows.register(registration(instance_id, service))).row


async def register_probed(rig: Rig, instance_id: str = "one") -> InstanceRow:
    return (await rig.rows.register(registration(instance_id, lease="probe"))).row


async def deregister(
    rows: InstanceStore, instance_id: str = "one", epoch: int | None = None
) -> InstanceRow:
    return await rows.deregister("billing", instance_id, epoch, "bob", "request-2")


async def drain(rows: InstanceStore, epoch: int | None = None, grace: float = 30.0) -> InstanceRow:
    return await rows.drain("billing", "one", epoch, grace, "bob", "request-2")


async def current_row(rows: InstanceStore, instance_id: str = "one") -> InstanceRow:
    row = await rows.row("billing", instance_id)
    assert row is not None
    return row


async def logged_changes(rig: Rig) -> list[Change]:
    return list(await rig.log.since(0, 100_000))


def winning_rows(outcomes: Sequence[Sequence[InstanceRow]]) -> list[InstanceRow]:
    return [row for outcome in outcomes for row in outcome]


# Registering


async def test_a_registration_is_a_row(rig: Rig) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)  # for a server whose clock differs

    made = await rig.rows.register(registration())

    row = made.row
    assert made == RegistrationResult(row, created=True)
    assert row == InstanceRow(
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
    row = await register_probed(rig)

    assert (row.lease, row.health) == ("probe", "starting")


async def test_a_registration_replaces_the_one_before_whole(rig: Rig) -> None:
    before = await register_probed(rig)
    await rig.rows.claim([before.token], "replica-2", 0)
    await drain(rig.rows)
    anew = replace(registration(), definition='{"b":1, "a":2}', ttl_seconds=0.5, owner="replica-3")

    made = await rig.elsewhere.register(anew)

    row = made.row
    assert not made.created
    assert (row.epoch, row.term, row.version) == (2, 1, 3)
    assert (row.definition, row.ttl_seconds, row.owner) == ('{"b":1, "a":2}', 0.5, "replica-3")
    assert (row.lease, row.health, row.draining_until) == ("heartbeat", "up", None)
    assert row.registered_at > before.registered_at
    assert await current_row(rig.rows) == row


async def test_only_the_epoch_that_may_be_replaced_is_replaced(rig: Rig) -> None:
    first = await rig.rows.register(registration(replaces=0))
    for wrong in (0, first.row.epoch + 1):
        with pytest.raises(OldEpoch) as raised:
            await rig.elsewhere.register(registration(replaces=wrong))
        assert raised.value.epoch == first.row.epoch
    assert await current_row(rig.rows) == first.row

    second = await rig.elsewhere.register(registration(replaces=first.row.epoch))
    assert (second.created, second.row.epoch) == (False, first.row.epoch + 1)

    await deregister(rig.rows)
    with pytest.raises(OldEpoch):
        await rig.rows.register(registration(replaces=second.row.epoch))
    third = await rig.rows.register(registration(replaces=0))
    assert (third.created, third.row.epoch) == (True, second.row.epoch + 1)


async def test_of_many_who_may_replace_one_epoch_one_does(rig: Rig) -> None:
    row = await register(rig)
    stores = [rig.rows, rig.elsewhere] * 5

    outcomes = await asyncio.gather(
        *(store.register(registration(replaces=row.epoch)) for store in stores),
        rig.rows.register(registration("other", replaces=0)),
        return_exceptions=True,
    )

    won = [one for one in outcomes if isinstance(one, RegistrationResult)]
    assert sorted(one.row.instance_id for one in won) == ["one", "other"]
    assert sum(isinstance(one, OldEpoch) for one in outcomes) == len(stores) - 1
    assert (await current_row(rig.rows)).epoch == row.epoch + 1


async def test_who_was_deregistered_registers_with_the_next_epoch(rig: Rig) -> None:
    await register(rig)
    await deregister(rig.rows)

    made = await rig.rows.register(registration())

    assert made.created
    assert (made.row.epoch, made.row.term, made.row.state) == (2, 1, "registered")


async def test_texts_are_kept_to_the_character(rig: Rig) -> None:
    odd_registration = replace(
        registration("a:8080 'ü'"), definition='{"zebra": 1.0,  "ant": "\\u0000 🚀 :name %s $1"}'
    )

    made = await rig.rows.register(odd_registration)
    beaten = await rig.rows.record_heartbeats([Heartbeat("billing", odd_registration.instance_id)])
    await rig.age(31)
    await rig.rows.mark_suspects()
    await rig.rows.record_heartbeats([Heartbeat("billing", odd_registration.instance_id)])

    assert made.row.definition == odd_registration.definition
    assert beaten["billing", odd_registration.instance_id].definition == odd_registration.definition
    assert (
        await current_row(rig.rows, odd_registration.instance_id)
    ).definition == odd_registration.definition


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

    made = [outcome for outcome in outcomes if isinstance(outcome, RegistrationResult)]
    assert len(made) == 2 * AT_MOST
    assert sum(isinstance(outcome, TooManyInstances) for outcome in outcomes) == 2 * AT_MOST
    counts = (await rig.rows.mark_suspects()).counts
    assert counts["billing"].registered == counts["shipping"].registered == AT_MOST


async def test_many_who_register_one_instance_get_epochs_of_their_own(rig: Rig) -> None:
    racing = [store.register(registration()) for store in (rig.rows, rig.elsewhere) * 5]

    made = await asyncio.gather(*racing)

    assert sorted(outcome.row.epoch for outcome in made) == list(range(1, 11))
    assert sum(outcome.created for outcome in made) == 1
    assert [change.version for change in await logged_changes(rig)] == list(range(1, 11))


async def test_who_registers_with_others_holds_up_nobody_and_is_held_up_by_none(rig: Rig) -> None:
    names = [(f"s{number}", id_) for number in range(4) for id_ in ("a", "b", "c")]
    for service, id_ in names:
        await register(rig, id_, service)
    await rig.age(31)
    await rig.rows.mark_suspects()  # all are suspect: what is heard of them is logged as well

    def storm(store: InstanceStore, seed: int) -> Iterable[Coroutine[Any, Any, object]]:
        mixed = random.Random(seed).sample(names, len(names))
        yield from (store.register(registration(id_, service)) for service, id_ in mixed)
        yield from (
            store.record_heartbeats([Heartbeat(*name) for name in mixed[at : at + 4]])
            for at in (0, 4, 8)
        )

    storms = [one for seed in range(3) for one in storm((rig.rows, rig.elsewhere)[seed % 2], seed)]
    outcomes = await asyncio.gather(*storms)

    epochs = [one.row.epoch for one in outcomes if isinstance(one, RegistrationResult)]
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
    assert await current_row(rig.rows) == gone
    assert await rig.rows.rows_of_owner("replica-1") == []


async def test_the_epoch_need_not_be_named(rig: Rig) -> None:
    await register(rig)
    await register(rig)

    assert (await deregister(rig.rows)).epoch == 2


@pytest.mark.parametrize("leave", [deregister, drain])
async def test_what_is_not_registered_is_not_found(
    rig: Rig, leave: Callable[[InstanceStore], Awaitable[InstanceRow]]
) -> None:
    with pytest.raises(InstanceNotFound):
        await leave(rig.rows)
    await register(rig)
    gone = await deregister(rig.rows)

    with pytest.raises(InstanceNotFound):
        await leave(rig.rows)

    assert await current_row(rig.rows) == gone
    assert len(await logged_changes(rig)) == 2


@pytest.mark.parametrize("epoch", [1, 3])
async def test_another_epoch_changes_nothing(rig: Rig, epoch: int) -> None:
    await register(rig)
    row = await register(rig)

    for leaving in (deregister(rig.rows, epoch=epoch), drain(rig.rows, epoch)):
        with pytest.raises(OldEpoch) as caught:
            await leaving
        assert caught.value.facts == {"current_epoch": 2}

    assert await current_row(rig.rows) == row
    assert len(await logged_changes(rig)) == 2


# Draining


async def test_a_drain_sets_when_the_grace_ends(rig: Rig) -> None:
    row = await register(rig)

    draining = await drain(rig.rows, epoch=1, grace=30)

    until = draining.draining_until
    assert until is not None
    assert 29 < (until - row.registered_at).total_seconds() < 60
    assert draining == replace(row, draining_until=until, version=2, revision=draining.revision)
    assert await rig.rows.finish_drains() == []


async def test_who_has_drained_is_deregistered(rig: Rig) -> None:
    await register(rig)
    await register(rig, "two")
    draining = await drain(rig.rows, grace=30)
    await rig.age(31)

    (gone,) = await rig.elsewhere.finish_drains()

    assert (gone.instance_id, gone.state, gone.epoch, gone.term) == ("one", "deregistered", 1, 2)
    assert gone.version == draining.version + 1
    assert await rig.rows.finish_drains() == []
    assert (await current_row(rig.rows, "two")).state == "registered"


async def test_of_many_who_look_each_drained_instance_is_told_to_one(rig: Rig) -> None:
    for number in range(5):
        await register(rig, str(number))
        await rig.rows.drain("billing", str(number), None, 0, "bob", "request")

    outcomes = await asyncio.gather(
        *(store.finish_drains() for store in (rig.rows, rig.elsewhere) * 4)
    )

    assert sorted(row.instance_id for row in winning_rows(outcomes)) == ["0", "1", "2", "3", "4"]


# Claiming


async def test_a_claim_moves_owner_and_term_and_is_not_logged(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(11)

    (claimed,) = await rig.elsewhere.claim([row.token], "replica-2", settle_seconds=10)

    assert (claimed.owner, claimed.epoch, claimed.term) == ("replica-2", 1, 2)
    assert (claimed.version, claimed.revision) == (row.version, row.revision)
    assert await current_row(rig.rows) == claimed
    assert await rig.rows.rows_of_owner("replica-1") == []
    assert await rig.rows.rows_of_owner("replica-2") == [claimed]
    assert await rig.rows.rows_after(row.revision, 10) == []
    assert len(await logged_changes(rig)) == 1


async def test_nothing_is_claimed_at_another_tag(rig: Rig) -> None:
    row = await register(rig)
    tag = row.token
    others = (tag._replace(term=2), tag._replace(epoch=2), tag._replace(instance_id="ghost"))

    assert await rig.rows.claim(others, "replica-2", 0) == []

    assert await current_row(rig.rows) == row
    gone = await deregister(rig.rows)
    assert await rig.rows.claim([row.token, gone.token], "replica-2", 0) == []


async def test_a_recent_claim_of_another_is_left_alone(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(60)
    (claimed,) = await rig.rows.claim([row.token], "replica-2", 10)

    assert await rig.elsewhere.claim([claimed.token], "replica-3", 10) == []
    (again,) = await rig.rows.claim([claimed.token], "replica-2", 10)

    assert (again.owner, again.term) == ("replica-2", 3)
    await rig.age(11)
    (later,) = await rig.elsewhere.claim([again.token], "replica-3", 10)
    assert (later.owner, later.term) == ("replica-3", 4)


async def test_a_recent_registration_with_another_is_left_alone(rig: Rig) -> None:
    row = await register(rig)

    assert await rig.rows.claim([row.token], "replica-2", 10) == []


async def test_of_many_who_claim_one_wins(rig: Rig) -> None:
    tags = [(await register(rig, str(number))).token for number in range(8)]
    stores = (rig.rows, rig.elsewhere) * 4
    racing = [
        store.claim(random.sample(tags, len(tags)), f"racer-{number}", 0)
        for number, store in enumerate(stores)
    ]

    outcomes = await asyncio.gather(*racing)

    assert sorted(row.instance_id for row in winning_rows(outcomes)) == [
        tag.instance_id for tag in tags
    ]
    assert {row.term for row in winning_rows(outcomes)} == {2}
    for number, outcome in enumerate(outcomes):
        owned = await rig.rows.rows_of_owner(f"racer-{number}")
        assert sorted(owned, key=lambda row: row.key) == sorted(outcome, key=lambda row: row.key)


async def test_a_claim_and_a_deregistration_do_not_both_win_unseen(rig: Rig) -> None:
    for _ in range(5):
        row = await register(rig)

        claimed, gone = await asyncio.gather(
            rig.rows.claim([row.token], "replica-2", 0), deregister(rig.elsewhere)
        )

        assert (gone.state, gone.term) == ("deregistered", 3 if claimed else 2)
        assert await current_row(rig.rows) == gone


# Heartbeats


async def test_a_heartbeat_is_noted_and_not_logged(rig: Rig) -> None:
    row = await register(rig)
    await rig.age(20)

    beaten = await rig.elsewhere.record_heartbeats([Heartbeat("billing", "one", 1)])

    noted = beaten["billing", "one"]
    assert list(beaten) == [("billing", "one")]
    assert noted.heartbeat_at >= row.heartbeat_at
    assert noted.heartbeat_at - noted.registered_at > timedelta(seconds=19)
    assert noted == replace(row, heartbeat_at=noted.heartbeat_at, registered_at=noted.registered_at)
    assert await current_row(rig.rows) == noted
    assert len(await logged_changes(rig)) == 1


async def test_heartbeats_of_another_epoch_or_nobody_are_not_noted(rig: Rig) -> None:
    await register(rig)
    await register(rig)
    await register(rig, "gone")
    await deregister(rig.rows, "gone")
    await rig.age(20)
    before = [await current_row(rig.rows, name) for name in ("one", "gone")]

    beats = [
        Heartbeat("billing", "one", 1),
        Heartbeat("billing", "one", 3),
        Heartbeat("billing", "gone"),
        Heartbeat("billing", "ghost"),
    ]
    assert await rig.rows.record_heartbeats(beats) == {}

    assert [await current_row(rig.rows, name) for name in ("one", "gone")] == before


async def test_heartbeats_of_one_instance_may_come_together(rig: Rig) -> None:
    row = await register(rig)
    await register(rig, "two")
    await rig.age(31)
    await rig.rows.mark_suspects()
    one = [
        Heartbeat("billing", "one"),
        Heartbeat("billing", "one", 1),
        Heartbeat("billing", "one", 7),
    ]

    beaten = await rig.rows.record_heartbeats([*one, Heartbeat("billing", "two", 1), *one])

    assert set(beaten) == {("billing", "one"), ("billing", "two")}
    assert beaten["billing", "one"].version == row.version + 2
    assert await rig.rows.record_heartbeats([]) == {}


async def test_a_suspect_that_is_heard_is_up(rig: Rig) -> None:
    await register(rig)
    await rig.age(31)
    await rig.rows.mark_suspects()
    suspect = await current_row(rig.rows)

    row = (await rig.rows.record_heartbeats([Heartbeat("billing", "one", 1)]))["billing", "one"]

    assert (suspect.health, row.health) == ("suspect", "up")
    assert row.version == suspect.version + 1
    assert await rig.rows.rows_after(suspect.revision, 10) == [row]
    assert (await rig.rows.mark_suspects()).counts == {"billing": ServiceCounts(1, 0, 0)}


async def test_heartbeats_of_many_replicas_do_not_wait_for_each_other(rig: Rig) -> None:
    beats = [
        Heartbeat("billing", (await register(rig, str(number))).instance_id) for number in range(12)
    ]
    for _ in range(3):
        await rig.age(31)
        await rig.rows.mark_suspects()

        answers = await asyncio.gather(
            *(
                store.record_heartbeats(random.sample(beats, len(beats)))
                for store in (rig.rows, rig.elsewhere) * 4
            )
        )

        assert [len(answer) for answer in answers] == [12] * 8
        assert {row.health for answer in answers for row in answer.values()} == {"up"}
    assert len(await logged_changes(rig)) == 12 + 3 * 24


# Probes


async def test_a_probe_changes_the_health_and_is_logged_once(rig: Rig) -> None:
    row = await register_probed(rig)

    (up,) = await rig.rows.set_health({row.token: "up"})
    assert await rig.rows.set_health({row.token: "up"}) == []
    (down,) = await rig.elsewhere.set_health({row.token: "down"})

    assert up == replace(row, health="up", version=2, revision=up.revision)
    assert down == replace(row, health="down", version=3, revision=down.revision)
    assert await current_row(rig.rows) == down
    assert len(await logged_changes(rig)) == 3


async def test_a_probe_of_another_tag_changes_nothing(rig: Rig) -> None:
    row = await register_probed(rig)
    (claimed,) = await rig.rows.claim([row.token], "replica-2", 0)
    gone = await register_probed(rig, "gone")
    gone = await deregister(rig.rows, "gone")

    assert await rig.rows.set_health({row.token: "up", gone.token: "up"}) == []

    assert await current_row(rig.rows) == claimed
    assert await rig.rows.set_health({}) == []


# Silence


async def test_who_is_silent_for_one_ttl_is_suspect_and_not_due(rig: Rig) -> None:
    row = await register(rig)
    await register_probed(rig, "probed")
    await rig.age(29)
    assert (await rig.rows.mark_suspects()).counts == {"billing": ServiceCounts(2, 0, 0)}
    assert (await current_row(rig.rows)).health == "up"
    await rig.age(2)

    overdue = await rig.elsewhere.mark_suspects()

    suspect = await current_row(rig.rows)
    assert (suspect.health, suspect.version, suspect.term) == ("suspect", row.version + 1, 1)
    assert overdue.due == []
    assert overdue.counts == {"billing": ServiceCounts(registered=2, overdue=1, evicted=0)}
    assert (await current_row(rig.rows, "probed")).health == "starting"
    assert await rig.rows.mark_suspects() == overdue
    assert len(await logged_changes(rig)) == 3


async def test_who_is_silent_for_two_ttl_is_due_the_longest_first(rig: Rig) -> None:
    await register(rig, "older")
    await rig.age(10)
    await register(rig, "newer")
    await rig.age(61)
    await register(rig, "lively")
    await rig.rows.register(registration("patient", ttl_seconds=300))
    await register_probed(rig, "probed")

    overdue = await rig.rows.mark_suspects()

    assert [row.instance_id for row in overdue.due] == ["older", "newer"]
    assert {row.health for row in overdue.due} == {"suspect"}
    assert overdue.due == [
        await current_row(rig.rows, "older"),
        await current_row(rig.rows, "newer"),
    ]
    assert overdue.counts == {"billing": ServiceCounts(5, overdue=2, evicted=0, newcomers=2)}
    assert overdue.released == frozenset()
    older, newer = (
        overdue.silent_seconds["billing", "older"],
        overdue.silent_seconds["billing", "newer"],
    )
    assert 71 < older < 71 + SLACK_SECONDS
    assert 9 < older - newer < 11
    assert overdue.counts["billing"].first_seconds == pytest.approx(older)
    assert overdue.counts["billing"].last_seconds == pytest.approx(newer - 30)


async def test_counts_are_by_service_and_forget_evictions_after_a_minute(rig: Rig) -> None:
    assert (await rig.rows.mark_suspects()).counts == {}
    for name, service in (("one", "billing"), ("two", "billing"), ("one", "shipping")):
        await register(rig, name, service)
    await rig.age(61)
    await rig.rows.record_heartbeats([Heartbeat("billing", "two")])
    due = (await rig.rows.mark_suspects()).due

    assert len(await rig.rows.evict([row.token for row in due])) == 2

    expected_counts = {"billing": ServiceCounts(1, 0, 1), "shipping": ServiceCounts(0, 0, 1)}
    assert (await rig.rows.mark_suspects()).counts == expected_counts
    await rig.age(61)
    assert (await rig.rows.mark_suspects()).counts == {"billing": ServiceCounts(1, 1, 0)}


async def test_newcomers_are_alive_new_and_registered_after_somebody_fell_silent(rig: Rig) -> None:
    await register(rig, "silent")
    await register(rig, "returned")
    await rig.age(40)
    await rig.rows.record_heartbeats([Heartbeat("billing", "silent")])
    await rig.age(31)
    await register(rig, "new")
    await register(rig, "returned")  # was expected anyway
    await register_probed(rig, "starting")
    (healthy,) = await rig.rows.set_health({(await register_probed(rig, "healthy")).token: "up"})
    await register(rig, "elsewhere", "shipping")

    counts = (await rig.rows.mark_suspects()).counts

    assert counts["billing"] == ServiceCounts(5, overdue=1, evicted=0, newcomers=2)
    assert counts["shipping"] == ServiceCounts(1, 0, 0)
    assert healthy.health == "up"


async def test_those_that_start_together_do_not_replace_each_other(rig: Rig) -> None:
    await register(rig, "silent")
    await rig.age(2)
    await rig.rows.record_heartbeats([Heartbeat("billing", "silent")])
    await rig.age(27)
    await register(rig, "started-with-it")
    await rig.age(2)
    await register(rig, "started-later")
    await rig.age(20)
    await rig.rows.record_heartbeats(
        [Heartbeat("billing", "started-with-it"), Heartbeat("billing", "started-later")]
    )

    assert (await rig.rows.mark_suspects()).counts == {
        "billing": ServiceCounts(3, 1, 0, newcomers=1)
    }


async def test_what_was_kept_as_long_as_may_be_does_not_count_as_evicted(rig: Rig) -> None:
    await register(rig, "kept")
    await rig.age(200)
    await register(rig, "vanished")
    await rig.age(101)

    assert (
        len(await rig.rows.evict([row.token for row in (await rig.rows.mark_suspects()).due])) == 2
    )

    assert (await rig.rows.mark_suspects()).counts == {"billing": ServiceCounts(0, 0, evicted=1)}


@pytest.mark.slow
async def test_the_protected_of_one_service_are_not_in_the_way_of_another(rig: Rig) -> None:
    for start in range(0, MAX_ROWS_PER_CALL + 50, 50):
        names = [f"i{number}" for number in range(start, start + 50)]
        await asyncio.gather(*(rig.spacious.register(registration(name)) for name in names))
    await rig.age(10)
    await register(rig, "one", "shipping")
    await rig.age(100)

    due = (await rig.rows.mark_suspects()).due

    assert len(due) == MAX_ROWS_PER_CALL
    assert ("shipping", "one") in {row.key for row in due}


# Releasing


async def test_the_silent_of_a_service_are_released_until_they_are_heard_again(rig: Rig) -> None:
    for name, service in (("silent", "billing"), ("heard", "billing"), ("one", "shipping")):
        await register(rig, name, service)
    await register(rig, "lively", "shipping")
    await rig.age(61)
    await rig.rows.record_heartbeats([Heartbeat("shipping", "lively")])

    assert await rig.elsewhere.release("billing", "bob", "request-2", "192.0.2.7") == [
        ("billing", "heard"),
        ("billing", "silent"),
    ]

    overdue = await rig.rows.mark_suspects()
    assert overdue.released == {("billing", "silent"), ("billing", "heard")}
    assert overdue.counts == {"billing": ServiceCounts(0, 0, 0), "shipping": ServiceCounts(2, 1, 0)}
    assert {row.instance_id for row in overdue.due} == {"silent", "heard", "one"}
    await rig.rows.record_heartbeats([Heartbeat("billing", "heard")])
    await rig.rows.evict([row.token for row in overdue.due])
    assert (await rig.rows.mark_suspects()).counts["billing"] == ServiceCounts(1, 0, 0)
    await rig.age(61)
    again = await rig.rows.mark_suspects()
    assert again.released == frozenset()
    assert again.counts["billing"] == ServiceCounts(1, 1, 0)


async def test_all_services_are_released_at_once_and_whoever_is_heard_is_not(rig: Rig) -> None:
    await register(rig, "one", "billing")
    await register(rig, "one", "shipping")
    await rig.age(31)
    await register(rig, "lively")
    await register_probed(rig, "probed")

    released = await rig.rows.release(None, "bob", "request-2")

    assert released == [("billing", "one"), ("shipping", "one")]
    changes = len(await logged_changes(rig))
    assert await rig.rows.release("nobody", "bob", "request-3") == []
    assert len(await logged_changes(rig)) == changes == 4  # the registrations


async def test_a_release_is_one_row_of_the_audit_also_if_it_concerns_nobody(rig: Rig) -> None:
    await register(rig)
    await register(rig, "two")
    await rig.age(31)

    await rig.rows.release("billing", "bob", "request-2", "192.0.2.7")
    await rig.rows.release(None, "bob", "request-3")
    await rig.rows.release("nobody", "bob", "request-4")

    told = [
        (row["actor"], row["kind"], row["environment"], row["name"], row["request_id"])
        for row in await rig.audit()
        if row["action"] == "released"
    ]
    assert told == [
        ("bob", "instance", "default", name, f"request-{number}")
        for name, number in (("billing", 2), ("*", 3), ("nobody", 4))
    ]
    rows = [row for row in await rig.audit() if row["action"] == "released"]
    assert [json.loads(row["facts"])["instances"] for row in rows] == [2, 2, 0]
    assert [row["source"] for row in rows] == ["192.0.2.7", None, None]


async def test_the_suspicion_of_many_replicas_is_logged_once(rig: Rig) -> None:
    for number in range(5):
        await register(rig, str(number))
    await rig.age(31)

    await asyncio.gather(*(store.mark_suspects() for store in (rig.rows, rig.elsewhere) * 4))

    assert len(await logged_changes(rig)) == 10


# Evicting


async def test_who_is_evicted_is_so_with_the_next_term(rig: Rig) -> None:
    await register(rig)
    await rig.age(61)
    (due,) = (await rig.rows.mark_suspects()).due

    (gone,) = await rig.elsewhere.evict([due.token, due.token])

    assert gone == replace(due, state="evicted", term=2, version=3, revision=gone.revision)
    assert await current_row(rig.rows) == gone
    assert await rig.rows.evict([due.token, gone.token]) == []
    assert await rig.rows.record_heartbeats([Heartbeat("billing", "one")]) == {}
    assert (await rig.rows.register(registration())).row.epoch == 2


async def test_only_who_is_due_is_evicted(rig: Rig) -> None:
    early = await register(rig, "early")
    checked = await register_probed(rig, "probed")
    await rig.age(59)
    assert await rig.rows.evict([early.token]) == []
    await rig.age(2)
    claimed = await register(rig, "claimed")
    await rig.rows.claim([claimed.token], "replica-2", 0)
    await rig.age(61)
    anew = await register(rig, "anew")

    tags = [checked.token, claimed.token, anew.token, RowToken("billing", "ghost", 1, 1)]
    assert await rig.rows.evict(tags) == []

    assert {(await current_row(rig.rows, tag.instance_id)).state for tag in tags[:3]} == {
        "registered"
    }
    assert await rig.rows.evict([]) == []


async def test_a_heartbeat_that_was_acknowledged_prevents_the_eviction(rig: Rig) -> None:
    await register(rig)
    await rig.age(61)
    (due,) = (await rig.rows.mark_suspects()).due
    (beaten,) = (await rig.elsewhere.record_heartbeats([Heartbeat("billing", "one", 1)])).values()

    assert await rig.rows.evict([due.token]) == []

    assert await current_row(rig.rows) == beaten


async def test_of_a_heartbeat_and_an_eviction_at_once_one_wins(rig: Rig) -> None:
    outcomes = set()
    for turn in range(10):
        tag = (await register(rig)).token
        await rig.age(61)
        if turn % 2:
            await rig.rows.mark_suspects()

        def beat() -> Coroutine[Any, Any, Mapping[tuple[str, str], InstanceRow]]:
            return rig.elsewhere.record_heartbeats([Heartbeat("billing", "one")])

        if turn % 4 < 2:
            beaten, evicted = await asyncio.gather(beat(), rig.rows.evict([tag]))
        else:
            evicted, beaten = await asyncio.gather(rig.rows.evict([tag]), beat())

        assert bool(beaten) != bool(evicted)
        outcomes.add((await current_row(rig.rows)).state == ("registered" if beaten else "evicted"))
    assert outcomes == {True}


async def test_each_due_instance_is_evicted_by_one(rig: Rig) -> None:
    tags = [(await register(rig, str(number))).token for number in range(8)]
    await rig.age(61)

    outcomes = await asyncio.gather(
        *(store.evict(random.sample(tags, len(tags))) for store in (rig.rows, rig.elsewhere) * 4)
    )

    assert sorted(row.token for row in winning_rows(outcomes)) == [
        tag._replace(term=2) for tag in tags
    ]


# Reading


async def test_what_is_not_there_is_not_found(rig: Rig) -> None:
    row = await register(rig)

    assert await rig.rows.row("billing", "ghost") is None
    assert await rig.rows.row("shipping", "one") is None
    keys = [("billing", "one"), ("billing", "ghost"), ("billing", "one")]
    assert await rig.rows.rows_by_key(keys) == {("billing", "one"): row}
    assert await rig.rows.rows_by_key([]) == {}
    assert await rig.rows.rows_of_owner("nobody") == []


async def test_what_changed_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    first = await register(rig, "first")
    for number in range(4):
        await register(rig, str(number))
    await deregister(rig.rows, "1")
    await rig.rows.claim([first.token], "replica-2", 0)

    read: list[InstanceRow] = []
    while page := await rig.elsewhere.rows_after(read[-1].revision if read else 0, limit=2):
        assert len(page) <= 2
        read += page

    assert [row.instance_id for row in read] == ["first", "0", "2", "3", "1"]
    assert [row.state for row in read] == ["registered"] * 4 + ["deregistered"]
    assert read[0].owner == "replica-2"


async def test_rows_are_there_after_a_restart(rig: Rig) -> None:
    await register(rig)
    gone = await deregister(rig.rows)
    row = await register(rig, "two")
    (claimed,) = await rig.rows.claim([row.token], "replica-2", 0)

    rows = await rig.reopen()

    assert await rows.rows_after(0, 10) == [gone, claimed]
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

    assert await rig.elsewhere.reap(DAY) == [gone.token]

    assert {row.instance_id for row in await rig.rows.rows_after(0, 10)} == {"kept", "fresh"}
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
    changes = await logged_changes(rig)
    assert [change.version for change in changes] == list(range(1, 11))
    assert made.version == 10


async def test_a_registration_while_its_row_is_reaped_is_kept(rig: Rig) -> None:
    last = 0
    for _ in range(5):
        await register(rig)
        await deregister(rig.rows)

        made, _ = await asyncio.gather(rig.rows.register(registration()), rig.elsewhere.reap(-60))

        assert made.row.epoch > last
        assert await current_row(rig.rows) == made.row
        last = made.row.epoch


# The change log


async def test_each_transition_is_one_change_in_order(rig: Rig) -> None:
    row = await register(rig)
    await rig.rows.claim([row.token], "replica-1", 0)
    await rig.age(31)
    await rig.rows.mark_suspects()
    await rig.rows.record_heartbeats([Heartbeat("billing", "one")])
    await register(rig)
    await drain(rig.rows, grace=0)
    await rig.rows.finish_drains()
    await register(rig)
    await deregister(rig.rows)
    await register(rig)
    await rig.age(61)
    (gone,) = await rig.rows.evict([(await current_row(rig.rows)).token])

    changes = await logged_changes(rig)

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
        (instance_entity("billing", "one"), "")
    }
    assert instance_entity("billing", "one").key == "instances/billing/one"
    assert changes[-1].revision == gone.revision
    assert len({change.id for change in changes}) == 10
    assert await rig.outbox.unsent_changes(100) == changes
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
    await rig.rows.mark_suspects()

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
        waiting = asyncio.create_task(rig.log.wait_for_change(within=10))
        await rig.elsewhere.register(registration())
        committed = monotonic()
        await waiting
        assert monotonic() - committed < SLACK_SECONDS


async def test_all_kinds_of_calls_at_once_end_in_one_order(rig: Rig) -> None:
    names = [str(number) for number in range(6)]
    tags = [(await register(rig, name)).token for name in names]
    await rig.age(61)

    async def unless_gone(call: Awaitable[object]) -> None:
        try:
            await call
        except InstanceNotFound:
            return

    def calls(rows: InstanceStore) -> list[Awaitable[object]]:
        mixed = random.sample(tags, len(tags))
        return [
            rows.mark_suspects(),
            rows.release("billing", "bob", "request-3"),
            rows.evict(mixed),
            rows.record_heartbeats([Heartbeat(tag.service, tag.instance_id) for tag in mixed]),
            rows.claim(mixed, "replica-2", 0),
            rows.set_health(dict.fromkeys(mixed, "down")),
            rows.finish_drains(),
            rows.reap(-60),
            *(rows.register(registration(name)) for name in names),
            *(deregister(rows, name) for name in names),
        ]

    for _ in range(3):
        mixed = [*calls(rig.rows), *calls(rig.elsewhere)]
        await asyncio.gather(*(unless_gone(call) for call in random.sample(mixed, len(mixed))))

    changes = await logged_changes(rig)
    for name in names:
        versions = [change.version for change in changes if change.entity.name == f"billing/{name}"]
        assert versions == list(range(1, len(versions) + 1))
        row = await rig.rows.row("billing", name)
        assert row is None or row.version == len(versions)
    assert [row.revision for row in await rig.rows.rows_after(0, 100)] == sorted(
        row.revision for row in await rig.rows.rows_after(0, 100)
    )


@pytest.mark.slow
async def test_thousands_are_kept_in_one_call(rig: Rig) -> None:
    number = MAX_ROWS_PER_CALL + 200
    for start in range(0, number, 8):
        await asyncio.gather(
            *(rig.spacious.register(registration(f"i{n:05}")) for n in range(start, start + 8))
        )
    await rig.age(31)

    for _ in range(ceil(number / MAX_LOGGED_PER_CALL)):
        await rig.rows.mark_suspects()

    rows = await rig.rows.rows_of_owner("replica-1")
    assert (len(rows), {row.health for row in rows}) == (number, {"suspect"})
    for _ in range(2):
        beaten = await rig.rows.record_heartbeats([Heartbeat(*row.key, row.epoch) for row in rows])
        assert (len(beaten), {row.health for row in beaten.values()}) == (number, {"up"})
    assert len(await rig.rows.claim([row.token for row in rows], "replica-2", 0)) == number
    await rig.age(61)
    evicted = 0
    while due := (await rig.rows.mark_suspects()).due:
        assert len(due) <= MAX_ROWS_PER_CALL
        evicted += len(await rig.rows.evict([row.token for row in due]))
    assert evicted == number
    assert len(await rig.rows.reap(-60)) == MAX_ROWS_PER_CALL
    assert len(await rig.rows.reap(-60)) == 200


async def test_a_call_logs_no_more_than_others_can_wait_for(rig: Rig) -> None:
    for start in range(0, MAX_LOGGED_PER_CALL + 10, 50):
        numbers = range(start, min(start + 50, MAX_LOGGED_PER_CALL + 10))
        registrations = [registration(f"i{number:03}") for number in numbers]
        await asyncio.gather(*map(rig.spacious.register, registrations))
    await rig.age(31)
    before = len(await rig.rows.rows_after(0, 1000))

    def suspects(rows: Sequence[InstanceRow]) -> int:
        return sum(row.health == "suspect" for row in rows)

    await rig.rows.mark_suspects()
    assert suspects(await rig.rows.rows_of_owner("replica-1")) == MAX_LOGGED_PER_CALL
    await rig.rows.mark_suspects()
    assert suspects(await rig.rows.rows_of_owner("replica-1")) == before == MAX_LOGGED_PER_CALL + 10


# Outages


def every_call(rows: InstanceStore) -> Sequence[Coroutine[Any, Any, object]]:
    tag = RowToken("billing", "one", 1, 1)
    return (
        rows.register(registration()),
        rows.deregister("billing", "one", None, "ana", "request"),
        rows.drain("billing", "one", None, 1, "ana", "request"),
        rows.finish_drains(),
        rows.claim([tag], "replica-1", 0),
        rows.record_heartbeats([Heartbeat("billing", "one")]),
        rows.set_health({tag: "up"}),
        rows.mark_suspects(),
        rows.release(None, "ana", "request"),
        rows.evict([tag]),
        rows.row("billing", "one"),
        rows.rows_by_key([("billing", "one")]),
        rows.rows_of_owner("replica-1"),
        rows.rows_after(0, 10),
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
