"""What any Intents must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.changes.errors import IntentNotFound
from app.changes.model import CLOSED_BASE
from tests.contracts.changes.changing import (
    CHECKOUT,
    DAY,
    NOW,
    intent,
    intent_with_key,
    version_of,
    write,
)
from tests.contracts.changes.rig import Rig


async def test_an_intent_is_found_as_it_was_begun(rig: Rig) -> None:
    begun = intent(action="rolled_back")

    assert await rig.intents.begin(begun) == begun
    assert await rig.intents.intent(begun.id) == begun


async def test_an_unknown_intent_is_not_found(rig: Rig) -> None:
    with pytest.raises(IntentNotFound):
        await rig.intents.intent("ghost")


async def test_an_intent_begun_twice_is_begun_once(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    again = await rig.intents.begin(begun)

    assert again.state == "applied"
    assert again == await rig.intents.intent(begun.id)


async def test_a_retry_under_the_same_key_joins_the_first_intent(rig: Rig) -> None:
    first = await rig.intents.begin(intent_with_key("key"))

    assert await rig.intents.begin(intent_with_key("key")) == first
    assert await rig.intents.intent_by_idempotency_key("key") == first


async def test_an_intent_of_another_request_under_the_key_is_told_by_its_digest(rig: Rig) -> None:
    await rig.intents.begin(intent_with_key("key", digest="one"))

    assert (await rig.intents.begin(intent_with_key("key", digest="two"))).digest == "one"


async def test_nobody_joins_a_key_never_used(rig: Rig) -> None:
    await rig.intents.begin(intent())

    assert await rig.intents.intent_by_idempotency_key("key") is None


async def test_no_intent_is_begun_under_a_key_that_was_closed(rig: Rig) -> None:
    closing = replace(intent_with_key("key"), base=CLOSED_BASE)

    closed = await rig.intents.close_key(closing)
    joined = await rig.elsewhere.intents.begin(intent_with_key("key"))

    assert closed.closes_key
    assert joined == closed
    assert closed.state == "lost"
    assert await rig.intents.overdue_intents(10) == []


async def test_a_key_that_was_used_is_not_closed(rig: Rig) -> None:
    begun = await rig.intents.begin(intent_with_key("key"))

    found = await rig.elsewhere.intents.close_key(replace(intent_with_key("key"), base=CLOSED_BASE))

    assert found == begun
    assert not found.closes_key


async def test_intents_without_a_key_stay_apart(rig: Rig) -> None:
    first, second = intent(), intent()

    assert await rig.intents.begin(first) == first
    assert await rig.intents.begin(second) == second


async def test_a_key_is_remembered_for_a_day(rig: Rig) -> None:
    first = await rig.intents.begin(intent_with_key("key"))
    await rig.age(DAY - 3600)  # the intent is as old as this module

    assert (await rig.intents.begin(intent_with_key("key"))).id == first.id
    joined = await rig.intents.intent_by_idempotency_key("key")
    assert joined is not None
    assert joined.id == first.id


async def test_a_key_is_free_after_a_day(rig: Rig) -> None:
    first = await rig.intents.begin(intent_with_key("key"))
    await rig.age(DAY + 60)
    assert await rig.intents.intent_by_idempotency_key("key") is None

    second = intent_with_key("key")

    assert await rig.intents.begin(second) == second
    assert await rig.intents.intent_by_idempotency_key("key") == second
    assert (await rig.intents.intent(first.id)).idempotency_key is None


async def test_requests_that_race_under_one_key_share_one_intent(rig: Rig) -> None:
    racing = [
        (rig.here, rig.elsewhere)[number % 2].intents.begin(intent_with_key("key"))
        for number in range(10)
    ]

    assert len({begun.id for begun in await asyncio.gather(*racing)}) == 1


async def test_requests_that_race_for_a_key_just_freed_share_one_intent(rig: Rig) -> None:
    first = await rig.intents.begin(intent_with_key("key"))
    await rig.age(DAY + 60)

    racing = [
        (rig.here, rig.elsewhere)[number % 2].intents.begin(intent_with_key("key"))
        for number in range(10)
    ]

    ids = {begun.id for begun in await asyncio.gather(*racing)}
    assert len(ids) == 1
    assert first.id not in ids


# Reconciling


async def overdue(rig: Rig) -> list[str]:
    return [intent.id for intent in await rig.intents.overdue_intents(100)]


async def test_a_fresh_intent_is_left_alone_for_three_seconds(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    assert await overdue(rig) == []

    await rig.age(2)
    assert await overdue(rig) == []

    await rig.age(1.5)
    assert await overdue(rig) == [begun.id]


async def test_overdue_intents_come_oldest_first_and_not_all_at_once(rig: Rig) -> None:
    young = await rig.intents.begin(intent())
    old = await rig.intents.begin(replace(intent(), at=NOW - timedelta(minutes=2)))
    middle = await rig.intents.begin(replace(intent(), at=NOW - timedelta(minutes=1)))
    await rig.age(4)

    assert await overdue(rig) == [old.id, middle.id, young.id]
    assert [found.id for found in await rig.intents.overdue_intents(2)] == [old.id, middle.id]


async def test_decided_intents_are_not_overdue(rig: Rig) -> None:
    await rig.intents.begin(intent())
    await write(rig)
    await rig.age(DAY)

    assert await overdue(rig) == []


async def test_an_expired_intent_is_looked_at_later_and_later(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())

    for wait in (2, 4, 8):
        await rig.intents.expire(begun.id)
        await rig.age(wait - 1)
        assert await overdue(rig) == []
        await rig.age(1.5)
        assert await overdue(rig) == [begun.id]


async def test_an_expired_intent_is_looked_at_once_an_hour_for_ever(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    for _ in range(70):
        await rig.intents.expire(begun.id)

    await rig.age(3500)
    assert await overdue(rig) == []

    await rig.age(101)
    assert await overdue(rig) == [begun.id]


async def test_expiring_an_unknown_intent_does_nothing(rig: Rig) -> None:
    await rig.intents.expire("ghost")

    assert await overdue(rig) == []
