"""What any Outbox must do. Runs once per adapter, with no exceptions for any."""

from dataclasses import replace
from datetime import timedelta

from tests.changes.ports import AnyPorts
from tests.contracts.changes.changing import CHECKOUT, NOW, entity, intent, version_of, write
from tests.contracts.changes.rig import Rig


async def unsent(ports: AnyPorts) -> list[int]:
    return [change.revision for change in await ports.outbox.unsent_changes(100)]


async def test_changes_wait_to_be_sent_in_the_order_of_the_log(rig: Rig) -> None:
    for base in range(3):
        await write(rig, base=base)
        await write(rig, entity("payments"), base=base)
    every = await rig.log.since(0, limit=100)

    assert await rig.outbox.unsent_changes(limit=100) == every
    assert await rig.outbox.unsent_changes(limit=2) == every[:2]


async def test_what_is_marked_as_sent_is_sent_for_ever(rig: Rig) -> None:
    revisions = [(await write(rig, base=base)).revision for base in range(4)]

    await rig.outbox.mark_sent([revisions[0], revisions[2]])
    await rig.elsewhere.outbox.mark_sent([revisions[2]])
    await rig.outbox.mark_sent([])

    assert await unsent(rig.elsewhere) == [revisions[1], revisions[3]]
    assert await unsent(await rig.reopen()) == [revisions[1], revisions[3]]


async def test_sent_changes_stay_in_the_log(rig: Rig) -> None:
    pointer = await write(rig)
    every = await rig.log.since(0, limit=10)

    await rig.outbox.mark_sent([pointer.revision])

    assert await rig.log.since(0, limit=10) == every
    assert await rig.log.history(CHECKOUT.key, limit=10) == every


async def test_the_oldest_unsent_change_tells_its_age(rig: Rig) -> None:
    assert await rig.outbox.oldest_unsent() is None

    first = await write(rig)
    await rig.age(100)
    second = await write(rig, base=1)
    both = await rig.outbox.oldest_unsent()
    await rig.outbox.mark_sent([first.revision])
    one = await rig.outbox.oldest_unsent()
    await rig.outbox.mark_sent([second.revision])

    assert both is not None
    assert 100 <= both < 160
    assert one is not None
    assert 0 <= one < 60
    assert await rig.outbox.oldest_unsent() is None


async def test_an_age_counts_from_the_log_and_not_from_the_writers_clock(rig: Rig) -> None:
    early = replace(intent(), at=NOW - timedelta(days=3))
    begun = await rig.intents.begin(early)
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    waiting = await rig.outbox.oldest_unsent()

    assert waiting is not None
    assert waiting < 60


async def test_one_leads_after_the_other(rig: Rig) -> None:
    for ports in (rig.here, rig.elsewhere, rig.here):
        async with ports.outbox.lead() as lead:
            assert lead.is_held
