"""What any Maintenance of a log must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.changes.errors import IntentNotFound
from app.changes.model import Entity, Written
from tests.contracts.changes.changing import (
    CHECKOUT,
    DAY,
    NOW,
    changes_of,
    entity,
    intent,
    intent_with_key,
    version_of,
    write,
)
from tests.contracts.changes.rig import Rig


async def test_a_task_is_claimed_once_in_its_time(rig: Rig) -> None:
    assert await rig.maintenance.acquire_turn("scan", every=10)
    assert not await rig.elsewhere.maintenance.acquire_turn("scan", every=10)
    assert await rig.elsewhere.maintenance.acquire_turn("reconcile", every=10)

    await rig.age(9)
    assert not await rig.maintenance.acquire_turn("scan", every=10)

    await rig.age(2)
    assert await rig.elsewhere.maintenance.acquire_turn("scan", every=10)
    assert not await rig.maintenance.acquire_turn("scan", every=10)


async def test_of_many_who_claim_at_once_one_is_told_yes(rig: Rig) -> None:
    claims = [
        ports.maintenance.acquire_turn("scan", every=10) for ports in (rig.here, rig.elsewhere) * 5
    ]

    assert sum(await asyncio.gather(*claims)) == 1


# Trimming


async def trim_log(rig: Rig, *, keep: int = 1, relayed: bool = True) -> int:
    deleted = 0
    while some := await rig.maintenance.trim(60, keep, relayed=relayed):
        deleted += some
    return deleted


async def versions_of(rig: Rig, about: Entity = CHECKOUT) -> list[int]:
    return [change.version for change in await changes_of(rig, about)]


async def test_a_log_never_trimmed_has_no_horizon(rig: Rig) -> None:
    await write(rig)

    assert await trim_log(rig) == 0
    assert await rig.log.horizon() == 0


async def test_what_was_sent_and_is_old_is_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig, base=base)).revision for base in range(4)]
    await rig.outbox.mark_sent(revisions)
    await rig.age(61)

    assert await trim_log(rig, keep=2) == 2

    assert await versions_of(rig) == [3, 4]
    assert await rig.elsewhere.log.horizon() == revisions[1]
    assert [change.revision for change in await rig.log.since(0, 10)] == revisions[2:]


async def test_what_is_young_is_not_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig, base=base)).revision for base in range(4)]
    await rig.outbox.mark_sent(revisions)
    await rig.age(59)

    assert await trim_log(rig) == 0


async def test_what_was_not_sent_is_not_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig, base=base)).revision for base in range(4)]
    await rig.outbox.mark_sent([revisions[1]])
    await rig.age(DAY)

    assert await trim_log(rig) == 1

    assert await versions_of(rig) == [1, 3, 4]
    assert await rig.log.horizon() == revisions[1]


async def test_where_nothing_is_sent_nothing_waits_to_be_sent(rig: Rig) -> None:
    for base in range(4):
        await write(rig, base=base)
    await rig.age(61)

    assert await trim_log(rig, relayed=False) == 3
    assert await versions_of(rig) == [4]


async def test_of_each_entity_the_last_versions_stay(rig: Rig) -> None:
    payments = entity("payments")
    for base in range(5):
        await write(rig, base=base)
    for base in range(2):
        await write(rig, payments, base=base)
    await rig.age(61)

    assert await trim_log(rig, keep=3, relayed=False) == 2
    assert await trim_log(rig, keep=3, relayed=False) == 0

    assert await versions_of(rig) == [3, 4, 5]
    assert await versions_of(rig, payments) == [1, 2]


async def test_thousands_are_trimmed_some_at_a_time(rig: Rig) -> None:
    for first in range(1, 2502, 100):  # as many as a busy machine logs in time
        found = [Written(version, None) for version in range(first, min(first + 100, 2502))]
        pointer = await rig.log.advance(CHECKOUT, found)
    await rig.age(61)

    deleted = [await rig.maintenance.trim(60, 1, relayed=False) for _ in range(4)]

    assert deleted == [1000, 1000, 500, 0]
    assert await rig.log.horizon() == pointer.revision - 1


async def test_a_trimmed_log_goes_on_as_before(rig: Rig) -> None:
    for base in range(3):
        last = await write(rig, base=base)
    await rig.age(61)
    await trim_log(rig, relayed=False)

    assert (await rig.log.snapshot()).revision == last.revision
    assert await rig.log.pointer(CHECKOUT.key) == (await rig.log.snapshot()).pointers[CHECKOUT.key]
    assert (await write(rig, base=3)).revision > last.revision
    assert await versions_of(rig) == [3, 4]


async def test_intents_that_are_decided_and_old_are_forgotten(rig: Rig) -> None:
    applied, lost = (replace(intent(), at=NOW - timedelta(days=2)) for _ in range(2))
    for one in (applied, lost):
        await rig.intents.begin(one)
    await rig.log.advance(CHECKOUT, [version_of(applied)])

    assert await rig.maintenance.forget(DAY) == 2
    assert await rig.maintenance.forget(DAY) == 0
    for one in (applied, lost):
        with pytest.raises(IntentNotFound):
            await rig.intents.intent(one.id)
    assert await versions_of(rig) == [1]


async def test_an_intent_that_is_young_or_undecided_is_not_forgotten(rig: Rig) -> None:
    young = await rig.intents.begin(intent_with_key("key"))
    await rig.log.advance(CHECKOUT, [version_of(young)])
    undecided = [replace(intent(base=1), at=NOW - timedelta(days=2)) for _ in range(2)]
    for one in undecided:
        await rig.intents.begin(one)
    await rig.intents.expire(undecided[0].id)

    assert await rig.maintenance.forget(DAY) == 0
    assert (await rig.intents.intent_by_idempotency_key("key") or young).state == "applied"
    pointer = await rig.log.advance(CHECKOUT, [version_of(undecided[0])])
    assert (await rig.intents.intent(undecided[0].id)).revision == pointer.revision
