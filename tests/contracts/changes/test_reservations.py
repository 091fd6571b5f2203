"""What Intents promise of reservations (docs/protocols.md E). Runs once per adapter."""

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from app.changes.errors import GuardMoved, IntentNotFound, RelatedIntentOpen, ReservationLost
from app.changes.log.port import RESERVED_SECONDS
from app.changes.model import EarlierIntents, Guard, Intent
from tests.contracts.changes.changing import (
    CHECKOUT,
    DAY,
    entity,
    intent,
    intent_with_key,
    version_of,
    write,
)
from tests.contracts.changes.rig import Rig
from tests.contracts.defining import EVERYWHERE, commit, edit

ALL: Final = Guard(0, covers_related=True)
BASE: Final = entity("_shared", "default")
LAPSED: Final = RESERVED_SECONDS + 0.5


async def earlier(rig: Rig, reserved: Intent) -> int:
    return (await rig.intents.earlier_related(reserved.id)).count


async def test_a_reserved_intent_is_stored_without_its_key(rig: Rig) -> None:
    draft = intent_with_key("key")

    reserved = await rig.intents.reserve(draft)

    assert reserved == replace(draft, state="reserved", idempotency_key=None)
    assert await rig.intents.intent(draft.id) == reserved
    assert await rig.intents.intent_by_idempotency_key("key") is None
    assert await rig.intents.reserve(draft) == reserved


async def test_related_intents_are_refused_as_long_as_the_reservation_lasts(rig: Rig) -> None:
    await rig.intents.reserve(intent(BASE))

    with pytest.raises(RelatedIntentOpen):
        await rig.intents.begin(intent(), ALL)

    await rig.age(RESERVED_SECONDS - 1)
    with pytest.raises(RelatedIntentOpen):
        await rig.intents.begin(intent(), ALL)

    await rig.age(1.5)
    await rig.intents.begin(intent(), ALL)


async def test_a_reservation_is_made_whatever_is_under_way(rig: Rig) -> None:
    await write(rig.here)
    await rig.intents.begin(intent(base=1))
    first = await rig.intents.reserve(intent(BASE))
    second = await rig.intents.reserve(intent(BASE))

    assert (first.state, second.state) == ("reserved", "reserved")


async def test_a_reserved_intent_is_no_matter_of_the_reconciler(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())
    await rig.age(DAY)

    assert await rig.intents.overdue_intents(10) == []
    await rig.intents.expire(reserved.id)
    await write(rig.here)
    assert (await rig.intents.intent(reserved.id)).state == "reserved"


# What it waits for


async def test_a_reservation_waits_for_earlier_related_intents_only(rig: Rig) -> None:
    related = [await rig.intents.begin(intent(entity(name))) for name in ("a", "b", "_shared")]
    await rig.intents.begin(intent(entity(kind="flag")))
    await rig.intents.begin(intent(entity("a/ana")))
    decided = await rig.intents.begin(intent(entity("c")))
    pointer = await rig.log.advance(decided.entity, [version_of(decided)])
    reserved = await rig.intents.reserve(intent(BASE))
    await rig.intents.reserve(intent(BASE))

    assert await rig.intents.earlier_related(reserved.id) == EarlierIntents(3, pointer.revision)

    await rig.intents.expire(related[0].id)
    assert await earlier(rig, reserved) == 2
    pointer = await rig.log.advance(related[1].entity, [version_of(related[1])])
    assert await rig.intents.earlier_related(reserved.id) == EarlierIntents(1, pointer.revision)
    pointer = await rig.log.advance(related[2].entity, [version_of(related[2])])
    assert await rig.intents.earlier_related(reserved.id) == EarlierIntents(0, pointer.revision)


async def test_two_reservations_do_not_wait_for_each_other(rig: Rig) -> None:
    first = await rig.intents.reserve(intent(BASE))
    second = await rig.elsewhere.intents.reserve(intent())

    assert (await earlier(rig, first), await earlier(rig, second)) == (0, 1)

    await rig.intents.confirm(first)
    assert (await earlier(rig, first), await earlier(rig, second)) == (0, 1)

    await rig.intents.expire(first.id)
    assert await earlier(rig, second) == 0


async def test_an_earlier_reservation_that_has_lapsed_is_not_waited_for(rig: Rig) -> None:
    await rig.intents.reserve(intent(BASE))
    await rig.age(LAPSED)

    assert await earlier(rig, await rig.intents.reserve(intent())) == 0


async def test_what_a_user_reserves_waits_for_layers_and_its_own(rig: Rig) -> None:
    await rig.intents.begin(intent(entity("checkout/bob")))
    await rig.intents.begin(intent(entity("checkout/ana")))
    await rig.intents.begin(intent(BASE))
    await rig.intents.begin(intent(entity("payments")))

    assert await earlier(rig, await rig.intents.reserve(intent(entity("checkout/ana")))) == 2


async def test_nothing_is_earlier_than_a_reservation_that_is_gone(rig: Rig) -> None:
    pointer = await write(rig.here)
    await rig.intents.begin(intent(base=1))

    found = await rig.intents.earlier_related("ghost")

    assert found == EarlierIntents(0, pointer.revision)


async def test_every_reservation_that_races_has_another_place(rig: Rig) -> None:
    racing = [
        (rig.here, rig.elsewhere)[number % 2].intents.reserve(intent()) for number in range(20)
    ]

    reserved = await asyncio.gather(*racing)

    assert sorted([await earlier(rig, each) for each in reserved]) == list(range(20))


# Confirming


async def test_a_confirmed_intent_is_open_with_all_it_says_now(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent_with_key("key"))
    judged = replace(
        reserved,
        base=7,
        action="rolled_back",
        comment="judged",
        request_id="request-2",
        idempotency_key="key",
        digest="other",
        source="192.0.2.1",
        facts={"key": "fingerprint"},
        state="open",
    )

    assert await rig.intents.confirm(judged) == judged
    assert await rig.intents.intent(judged.id) == judged
    assert await rig.intents.intent_by_idempotency_key("key") == judged
    assert await rig.intents.confirm(judged) == judged

    with pytest.raises(RelatedIntentOpen):
        await rig.intents.begin(intent(), ALL)


async def test_a_confirmed_intent_is_looked_at_and_decided_as_any(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())
    await rig.age(2)
    confirmed = await rig.intents.confirm(reserved)
    await rig.age(2)
    assert await rig.intents.overdue_intents(10) == []
    await rig.age(1.5)
    assert [each.id for each in await rig.intents.overdue_intents(10)] == [confirmed.id]

    pointer = await rig.log.advance(CHECKOUT, [version_of(confirmed)])

    decided = await rig.intents.intent(confirmed.id)
    assert (decided.state, decided.revision) == ("applied", pointer.revision)
    assert (await rig.intents.confirm(confirmed)).state == "applied"


async def test_a_reservation_gives_way_to_an_earlier_intent_of_its_key(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent_with_key("key", digest="two"))
    first = await rig.intents.begin(intent_with_key("key", digest="one"))

    joined = await rig.intents.confirm(replace(reserved, idempotency_key="key"))

    assert joined == first
    with pytest.raises(IntentNotFound):
        await rig.intents.intent(reserved.id)


async def test_a_key_is_free_for_a_reservation_after_a_day(rig: Rig) -> None:
    first = await rig.intents.begin(intent_with_key("key"))
    await rig.age(DAY + 60)
    draft = intent_with_key("key")
    await rig.intents.reserve(draft)

    assert await rig.intents.confirm(draft) == draft
    assert (await rig.intents.intent(first.id)).idempotency_key is None


async def test_reservations_that_race_under_one_key_share_one_intent(rig: Rig) -> None:
    drafts = [intent_with_key("key") for _ in range(10)]
    for each in drafts:
        await rig.intents.reserve(each)
    racing = [
        *(rig.intents.confirm(each) for each in drafts),
        *(rig.elsewhere.intents.begin(intent_with_key("key")) for _ in range(5)),
    ]

    assert len({each.id for each in await asyncio.gather(*racing)}) == 1


async def test_a_reservation_that_has_lapsed_is_lost(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())
    await rig.age(LAPSED)

    with pytest.raises(ReservationLost):
        await rig.intents.confirm(reserved)

    await rig.intents.begin(intent(), ALL)


async def test_what_was_never_reserved_is_lost(rig: Rig) -> None:
    with pytest.raises(ReservationLost):
        await rig.intents.confirm(intent_with_key("key"))

    assert await rig.intents.intent_by_idempotency_key("key") is None


# Cancelling and forgetting


async def test_a_cancelled_reservation_is_gone(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())

    await rig.intents.cancel(reserved.id)
    await rig.intents.cancel(reserved.id)

    with pytest.raises(IntentNotFound):
        await rig.intents.intent(reserved.id)
    with pytest.raises(ReservationLost):
        await rig.intents.confirm(reserved)
    await rig.intents.begin(intent(), ALL)


async def test_only_a_reservation_is_cancelled(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())
    await rig.intents.confirm(reserved)

    await rig.intents.cancel(reserved.id)

    assert (await rig.intents.intent(reserved.id)).state == "open"


async def test_reservations_long_past_their_time_are_forgotten(rig: Rig) -> None:
    old = await rig.intents.reserve(intent())
    await rig.age(DAY + 60)
    young = await rig.intents.reserve(intent())

    assert await rig.maintenance.forget(DAY) == 1
    assert await rig.maintenance.forget(DAY) == 0
    assert (await rig.intents.intent(young.id)).state == "reserved"
    with pytest.raises(IntentNotFound):
        await rig.intents.intent(old.id)


# Definitions


async def test_a_definition_and_a_reservation_never_overtake_each_other(rig: Rig) -> None:
    for base in range(10):
        revision = (await rig.log.snapshot()).revision
        judged = commit(edit(base=base), judged_at=revision, judged=[EVERYWHERE])

        defined, reserved = await asyncio.gather(
            rig.definitions.commit(judged),
            rig.elsewhere.intents.reserve(intent()),
            return_exceptions=True,
        )

        assert isinstance(reserved, Intent)
        if isinstance(defined, BaseException):
            assert isinstance(defined, RelatedIntentOpen)
            await rig.definitions.commit(replace(judged, judged_at=None))
        else:  # then the writer hears of it before it judges
            found = await rig.intents.earlier_related(reserved.id)
            assert found.revision >= defined[0].revision
        await rig.intents.cancel(reserved.id)


async def test_a_reservation_that_is_being_confirmed_never_lets_a_related_intent_by(
    rig: Rig,
) -> None:
    for _ in range(10):
        reserved = await rig.intents.reserve(intent(BASE))

        outcomes = await asyncio.gather(
            rig.intents.confirm(reserved),
            *(rig.elsewhere.intents.begin(intent(), ALL) for _ in range(4)),
            return_exceptions=True,
        )

        assert isinstance(outcomes[0], Intent)
        assert all(isinstance(each, RelatedIntentOpen) for each in outcomes[1:])
        await rig.intents.expire(reserved.id)


async def test_a_writer_that_was_refused_twice_gets_its_turn(rig: Rig) -> None:
    other = await rig.intents.begin(intent(), ALL)
    with pytest.raises(RelatedIntentOpen):
        await rig.intents.begin(intent(BASE), ALL)
    draft = intent(BASE)
    await rig.intents.reserve(draft)
    assert await earlier(rig, draft) == 1

    pointer = await rig.log.advance(CHECKOUT, [version_of(other)])
    with pytest.raises(RelatedIntentOpen):
        await rig.intents.begin(intent(base=1), replace(ALL, revision=pointer.revision))

    assert await rig.intents.earlier_related(draft.id) == EarlierIntents(0, pointer.revision)
    confirmed = await rig.intents.confirm(draft)
    await rig.log.advance(BASE, [version_of(confirmed)])
    with pytest.raises(GuardMoved):
        await rig.intents.begin(intent(base=1), replace(ALL, revision=pointer.revision))
