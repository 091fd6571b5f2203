import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest

from app.changes import follower as module
from app.changes.errors import LogUnavailable, RevisionNotReached
from app.changes.follower import Follower
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import ChangeLog, LogPorts
from app.changes.model import Entity, Intent, Pointer, Written
from app.sqlite.state import SQLiteState
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS

CHECKOUT = Entity("config", "staging", "checkout", "staging/checkout")
PAYMENTS = Entity("config", "staging", "payments", "staging/payments")


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[LogPorts]:
    state = SQLiteState(tmp_path)
    yield embedded_ports(state)
    await state.close()


@pytest.fixture
def follower(ports: LogPorts) -> Follower:
    return Follower(ports.log)


async def write(ports: LogPorts, about: Entity = CHECKOUT, base: int = 0) -> Pointer:
    begun = await ports.intents.begin(
        Intent(str(uuid4()), about, base, "updated", "ana", "", "request", datetime.now(UTC))
    )
    return await ports.log.advance(about, [Written(base + 1, begun.id, begun.at)])


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(follower.follow())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, LogUnavailable):
            await task


class Wire:
    """What lies between a follower and its log: it can be cut, and it can hold an answer."""

    def __init__(self, log: ChangeLog) -> None:
        self._log = log
        self.is_cut = False
        self.holds_next = False
        self.held, self.release = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            if self.is_cut:
                raise LogUnavailable("the wire is cut")
            answer = await getattr(self._log, name)(*arguments, **options)
            if self.holds_next:
                self.holds_next = False
                self.held.set()
                await self.release.wait()
            return answer

        return call


async def test_before_the_log_was_read_absence_means_nothing(follower: Follower) -> None:
    assert not follower.has_pointers

    with pytest.raises(LogUnavailable):
        follower.pointer(CHECKOUT.key)


async def test_a_follower_starts_from_the_snapshot(ports: LogPorts, follower: Follower) -> None:
    checkout, payments = await write(ports), await write(ports, PAYMENTS)

    async with following(follower):
        await follower.wait_for_revision(payments.revision)

    assert follower.has_pointers
    assert follower.pointer(CHECKOUT.key) == checkout
    assert follower.pointers == {CHECKOUT.key: checkout, PAYMENTS.key: payments}
    assert follower.pointer("nobody/wrote/this") is None


async def test_a_logged_change_moves_the_pointer_at_once(
    ports: LogPorts, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 10)
    async with following(follower):
        await follower.wait_for_change(1)
        for base in range(3):
            pointer = await write(ports, base=base)
            await follower.wait_for_revision(pointer.revision, within=PATIENCE_SECONDS)
            assert follower.pointer(CHECKOUT.key) == pointer


async def test_more_changes_than_one_batch_are_all_followed(
    ports: LogPorts, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    pointers = [await write(ports, base=base) for base in range(5)]

    await follower.catch_up()

    assert follower.revision == pointers[-1].revision
    assert follower.pointers == {CHECKOUT.key: pointers[-1]}


async def test_a_reader_waits_for_the_revision_it_asked_for(
    ports: LogPorts, follower: Follower
) -> None:
    first = await write(ports)
    async with following(follower):
        await follower.wait_for_revision(first.revision)
        waiting = asyncio.create_task(follower.wait_for_revision(first.revision + 2))

        await follower.wait_for_revision((await write(ports, base=1)).revision)
        assert not waiting.done()

        second = await write(ports, PAYMENTS)
        await waiting
        assert follower.pointer(PAYMENTS.key) == second


async def test_a_revision_that_does_not_come_is_told_with_the_one_reached(
    ports: LogPorts, follower: Follower
) -> None:
    pointer = await write(ports)
    async with following(follower):
        await follower.wait_for_revision(pointer.revision)

        with pytest.raises(RevisionNotReached) as failure:
            await follower.wait_for_revision(pointer.revision + 1, within=0.05)

    assert failure.value.facts == {"wanted": pointer.revision + 1, "reached": pointer.revision}


async def test_a_revision_already_reached_costs_no_wait(follower: Follower) -> None:
    await follower.wait_for_revision(0, within=0)


async def test_the_revision_never_runs_ahead_of_the_pointers(
    ports: LogPorts, follower: Follower
) -> None:
    await write(ports)
    (change,) = await ports.log.since(0, 1)
    unfit = replace(change.entity, key=cast("str", []))  # no pointer can be kept under a list

    with pytest.raises(TypeError):
        follower._apply(replace(change, entity=unfit))  # noqa: SLF001 (between two statements)

    assert follower.revision == 0


async def test_a_replicas_own_write_is_visible_at_once(ports: LogPorts, follower: Follower) -> None:
    async with following(follower):
        await follower.wait_for_change(1)
    moved = asyncio.create_task(follower.wait_for_change(60))
    await asyncio.sleep(0)  # lets it begin to wait
    pointer = await write(ports)

    follower.advance_pointer(pointer)

    assert follower.pointer(CHECKOUT.key) == pointer
    assert follower.revision == 0  # changes of others before ours may still be on their way
    async with asyncio.timeout(PATIENCE_SECONDS):
        await moved
    await follower.catch_up()
    assert follower.revision == pointer.revision


async def test_a_pointer_never_goes_back(ports: LogPorts, follower: Follower) -> None:
    first, second = await write(ports), await write(ports, base=1)

    follower.advance_pointer(second)
    follower.advance_pointer(first)

    assert follower.pointers == {CHECKOUT.key: second}


async def test_the_revision_never_goes_back(ports: LogPorts) -> None:
    wire = Wire(ports.log)
    follower = Follower(cast("ChangeLog", wire))
    await write(ports)
    wire.holds_next = True
    slow = asyncio.create_task(follower.catch_up())
    await wire.held.wait()
    newer = await write(ports, base=1)
    await follower.catch_up()

    wire.release.set()
    await slow

    assert follower.revision == newer.revision


async def test_after_an_outage_it_goes_on_where_it_was(ports: LogPorts) -> None:
    wire = Wire(ports.log)
    follower = Follower(cast("ChangeLog", wire))
    first = await write(ports)
    async with following(follower) as outage:
        await follower.wait_for_revision(first.revision)
        wire.is_cut = True
        with pytest.raises(LogUnavailable):
            await outage
    second, third = await write(ports, base=1), await write(ports, PAYMENTS)
    assert follower.pointer(CHECKOUT.key) == first

    wire.is_cut = False
    async with following(follower):
        await follower.wait_for_revision(third.revision)

    assert follower.pointers == {CHECKOUT.key: second, PAYMENTS.key: third}


async def test_a_log_that_is_unavailable_at_the_start_is_asked_again(ports: LogPorts) -> None:
    wire = Wire(ports.log)
    wire.is_cut = True
    follower = Follower(cast("ChangeLog", wire))
    pointer = await write(ports)

    with pytest.raises(LogUnavailable):
        await follower.follow()
    assert not follower.has_pointers

    wire.is_cut = False
    async with following(follower):
        await follower.wait_for_revision(pointer.revision)
    assert follower.pointer(CHECKOUT.key) == pointer


async def test_silence_grows_while_the_log_is_not_read(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    await follower.catch_up()
    now = monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: now + 60)
    assert follower.silence > 59

    await follower.catch_up()

    assert follower.silence == 0


async def test_waiting_for_a_move_ends_without_one(follower: Follower) -> None:
    began = monotonic()

    await follower.wait_for_change(within=0.05)

    assert 0.03 < monotonic() - began < SLACK_SECONDS


async def test_what_was_committed_before_a_look_began_is_known_after_it(ports: LogPorts) -> None:
    wire = Wire(ports.log)
    follower = Follower(cast("ChangeLog", wire))
    await follower.start()
    wire.holds_next = True

    looking = asyncio.create_task(follower.catch_up())
    await wire.held.wait()
    moment = monotonic()
    wire.release.set()
    await looking
    knew = follower.followed_until >= moment
    await follower.catch_up()

    assert not knew
    assert follower.followed_until >= moment
