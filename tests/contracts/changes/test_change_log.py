"""What any ChangeLog must do. Runs once per adapter, with no exceptions for any."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from time import monotonic

import pytest

from app.changes.errors import Gap
from app.changes.model import Change, Disclosure, Entity, Pointer, Written
from tests.contracts.changes.changing import (
    CHECKOUT,
    NOW,
    changes_of,
    entity,
    intent,
    version_of,
    write,
)
from tests.contracts.changes.rig import Rig
from tests.servers.process import SLACK_SECONDS

# Advancing


async def test_a_written_version_is_logged_as_the_writers_change(rig: Rig) -> None:
    begun = await rig.intents.begin(intent(action="created"))

    pointer = await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert pointer == Pointer(CHECKOUT, 1, pointer.revision, deleted=False, at=NOW, actor="ana")
    assert await rig.log.pointer(CHECKOUT.key) == pointer
    assert await changes_of(rig) == [
        Change(
            revision=pointer.revision,
            id=begun.id,
            entity=CHECKOUT,
            version=1,
            action="created",
            actor="ana",
            comment="because",
            at=NOW,
        )
    ]
    assert await rig.intents.intent(begun.id) == replace(
        begun, state="applied", version=1, revision=pointer.revision
    )


async def test_a_logged_change_is_audited(rig: Rig) -> None:
    pointer = await write(rig)

    (row,) = await rig.audit()

    assert row["actor"] == "ana"
    assert row["action"] == "updated"
    assert (row["kind"], row["environment"], row["name"]) == ("config", "staging", "checkout")
    assert (row["version"], row["revision"]) == (1, pointer.revision)
    assert row["request_id"] == "request-1"


async def test_a_tombstone_moves_the_pointer_like_any_version(rig: Rig) -> None:
    await write(rig)
    begun = await rig.intents.begin(intent(base=1, action="deleted"))

    pointer = await rig.log.advance(CHECKOUT, [version_of(begun, deleted=True)])

    assert (pointer.version, pointer.deleted) == (2, True)
    assert (await changes_of(rig))[-1].deleted
    assert not (await write(rig, base=2)).deleted


async def test_nothing_logged_is_no_pointer(rig: Rig) -> None:
    await rig.intents.begin(intent())

    assert await rig.log.pointer(CHECKOUT.key) is None


async def test_a_version_nobody_announced_is_external(rig: Rig) -> None:
    elsewhere = Written(1, "somebody's own id", at=NOW - timedelta(days=9), comment="by hand")
    unreadable = Written(2, None)

    pointer = await rig.log.advance(CHECKOUT, [elsewhere, unreadable])

    first, second = await changes_of(rig)
    assert [change.action for change in (first, second)] == ["external", "external"]
    assert [change.actor for change in (first, second)] == ["external", "external"]
    assert [change.comment for change in (first, second)] == ["by hand", ""]
    assert len({first.id, second.id, "somebody's own id"}) == 3
    assert first.at > NOW - timedelta(days=1)  # the log's own clock: the text is anybody's
    assert (pointer.version, pointer.actor) == (2, "external")
    assert [row["action"] for row in await rig.audit()] == ["external", "external"]


async def test_a_copied_document_that_carries_an_old_id_is_external(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    first = await rig.log.advance(CHECKOUT, [version_of(begun)])

    await rig.log.advance(CHECKOUT, [Written(2, begun.id)])

    assert [change.action for change in await changes_of(rig)] == ["updated", "external"]
    applied = await rig.intents.intent(begun.id)
    assert (applied.state, applied.version) == ("applied", 1)
    assert applied.revision == first.revision


async def test_an_id_of_another_document_is_external(rig: Rig) -> None:
    begun = await rig.intents.begin(intent(entity("payments")))

    await rig.log.advance(CHECKOUT, [Written(1, begun.id)])

    assert (await changes_of(rig))[0].action == "external"
    assert (await rig.intents.intent(begun.id)).state == "open"


async def test_an_id_at_another_version_than_its_base_allows_is_external(rig: Rig) -> None:
    begun = await rig.intents.begin(intent(base=0))

    await rig.log.advance(CHECKOUT, [Written(1, None), Written(2, begun.id)])

    assert [change.action for change in await changes_of(rig)] == ["external", "external"]
    assert (await rig.intents.intent(begun.id)).state == "lost"


async def test_of_two_intents_on_one_base_the_other_is_lost(rig: Rig) -> None:
    winner, loser = await rig.intents.begin(intent()), await rig.intents.begin(intent())

    await rig.log.advance(CHECKOUT, [version_of(winner)])

    assert (await rig.intents.intent(winner.id)).state == "applied"
    assert await rig.intents.intent(loser.id) == replace(loser, state="lost")


async def test_an_intent_on_the_newest_version_stays_open(rig: Rig) -> None:
    ahead = await rig.intents.begin(intent(base=1))

    await write(rig)

    assert (await rig.intents.intent(ahead.id)).state == "open"


async def test_an_intent_begun_on_a_base_already_passed_is_lost_with_nothing_new(rig: Rig) -> None:
    pointer = await write(rig)
    late = await rig.intents.begin(intent(base=0))

    assert await rig.log.advance(CHECKOUT, [Written(1, "whoever came first")]) == pointer

    assert (await rig.intents.intent(late.id)).state == "lost"


async def test_an_expired_intent_is_applied_when_its_version_appears(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    await rig.intents.expire(begun.id)
    assert (await rig.intents.intent(begun.id)).state == "expired"

    await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert (await rig.intents.intent(begun.id)).state == "applied"


async def test_an_expired_intent_is_lost_when_another_version_appears(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    await rig.intents.expire(begun.id)

    await write(rig)

    assert (await rig.intents.intent(begun.id)).state == "lost"


async def test_a_decided_intent_does_not_expire(rig: Rig) -> None:
    loser = await rig.intents.begin(intent())
    begun = await rig.intents.begin(intent())
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    await rig.intents.expire(begun.id)
    await rig.intents.expire(loser.id)

    assert (await rig.intents.intent(begun.id)).state == "applied"
    assert (await rig.intents.intent(loser.id)).state == "lost"


async def test_versions_logged_twice_are_logged_once(rig: Rig) -> None:
    begun = await rig.intents.begin(intent())
    first = await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert await rig.log.advance(CHECKOUT, [version_of(begun)]) == first
    assert await rig.log.advance(CHECKOUT, []) == first

    assert len(await changes_of(rig)) == 1
    assert len(await rig.audit()) == 1
    assert (await rig.intents.intent(begun.id)).state == "applied"


async def test_versions_already_logged_are_passed_over(rig: Rig) -> None:
    await write(rig)

    pointer = await rig.log.advance(CHECKOUT, [Written(1, None), Written(2, None)])

    assert pointer.version == 2
    assert [change.version for change in await changes_of(rig)] == [1, 2]
    assert [change.action for change in await changes_of(rig)] == ["updated", "external"]


async def test_an_older_version_leaves_the_pointer_where_it_is(rig: Rig) -> None:
    await write(rig)
    pointer = await write(rig, base=1)

    assert await rig.log.advance(CHECKOUT, [Written(1, None)]) == pointer


async def test_the_second_version_cannot_be_logged_before_the_first(rig: Rig) -> None:
    first, second = await rig.intents.begin(intent()), await rig.intents.begin(intent(base=1))

    with pytest.raises(Gap) as gap:
        await rig.log.advance(CHECKOUT, [version_of(second)])

    assert gap.value.logged == 0
    assert await rig.log.pointer(CHECKOUT.key) is None
    assert (await rig.log.snapshot()).pointers == {}
    assert await changes_of(rig) == []
    assert {(await rig.intents.intent(i.id)).state for i in (first, second)} == {"open"}
    both = await rig.log.advance(CHECKOUT, [version_of(first), version_of(second)])
    assert [change.id for change in await changes_of(rig)] == [first.id, second.id]
    assert both.version == 2


async def test_a_gap_tells_where_the_log_ends_and_changes_nothing(rig: Rig) -> None:
    pointer = await write(rig)
    waiting = await rig.intents.begin(intent(base=0))

    for versions in ([3], [2, 4], [1, 2, 4]):
        with pytest.raises(Gap) as gap:
            await rig.log.advance(CHECKOUT, [Written(version, None) for version in versions])
        assert gap.value.logged == 1

    assert await rig.log.pointer(CHECKOUT.key) == pointer
    assert len(await changes_of(rig)) == 1
    assert (await rig.intents.intent(waiting.id)).state == "open"


async def test_a_version_found_by_many_at_once_is_logged_once(rig: Rig) -> None:
    for base in range(3):
        begun = await rig.intents.begin(intent(base=base))

        found = await asyncio.gather(
            *(
                ports.log.advance(CHECKOUT, [version_of(begun)])
                for ports in (rig.here, rig.elsewhere) * 5
            )
        )

        assert len(set(found)) == 1
        assert len(await changes_of(rig)) == base + 1
        assert len(await rig.audit()) == base + 1


async def test_an_acknowledged_change_is_there_after_a_restart(rig: Rig) -> None:
    pointer = await write(rig)
    waiting = await rig.intents.begin(intent(base=1))

    ports = await rig.reopen()

    assert await ports.log.pointer(CHECKOUT.key) == pointer
    assert await ports.intents.intent(waiting.id) == waiting
    assert (await write(ports, base=1)).revision > pointer.revision


# Reading the log


async def test_revisions_ascend_over_all_documents(rig: Rig) -> None:
    payments = entity("payments")
    pointers = [
        await write(rig),
        await write(rig, payments),
        await write(rig, base=1),
        await write(rig, payments, base=1),
    ]

    logged = await rig.log.since(0, limit=100)

    assert [change.revision for change in logged] == [pointer.revision for pointer in pointers]
    assert logged == sorted(logged, key=lambda change: change.revision)
    assert len({change.revision for change in logged}) == 4


async def test_the_log_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    for base in range(5):
        await write(rig, base=base)
    every = await rig.log.since(0, limit=100)

    assert await rig.log.since(0, limit=2) == every[:2]
    assert await rig.log.since(every[1].revision, limit=2) == every[2:4]
    assert await rig.log.since(every[4].revision, limit=2) == []


async def test_the_log_is_filtered_by_what_a_change_is_about(rig: Rig) -> None:
    entities = (
        entity("checkout", "staging"),
        entity("checkout", "production"),
        entity("payments", "production"),
        entity("checkout", "production", kind="flag"),
    )
    for about in entities:
        await write(rig, about)

    async def filtered_entities(**filters: str) -> list[Entity]:
        return [change.entity for change in await rig.log.since(0, 100, **filters)]

    assert await filtered_entities() == list(entities)
    assert await filtered_entities(environment="production") == [
        entities[1],
        entities[2],
        entities[3],
    ]
    assert await filtered_entities(name="checkout", kind="config") == [entities[0], entities[1]]
    assert await filtered_entities(kind="flag") == [entities[3]]
    assert await filtered_entities(environment="production", name="payments") == [entities[2]]
    assert await filtered_entities(environment="nowhere") == []


async def test_history_goes_back_from_a_version(rig: Rig) -> None:
    for base in range(5):
        await write(rig, base=base)
    await write(rig, entity("payments"))

    async def versions(limit: int, before: int | None = None) -> list[int]:
        found = await rig.log.history(CHECKOUT.key, limit, before)
        return [change.version for change in found]

    assert await versions(limit=100) == [5, 4, 3, 2, 1]
    assert await versions(limit=2) == [5, 4]
    assert await versions(limit=2, before=4) == [3, 2]
    assert await versions(limit=2, before=1) == []


async def test_recent_changes_are_counted(rig: Rig) -> None:
    await rig.log.advance(CHECKOUT, [Written(1, None), Written(2, None)])
    await rig.age(100)
    await rig.log.advance(CHECKOUT, [Written(3, None)])

    assert await rig.log.count_recent(60) == 1
    assert await rig.log.count_recent(200) == 3


async def test_the_snapshot_of_an_empty_log_is_empty(rig: Rig) -> None:
    snapshot = await rig.log.snapshot()

    assert (snapshot.revision, dict(snapshot.pointers)) == (0, {})


async def test_a_snapshot_holds_every_pointer(rig: Rig) -> None:
    await write(rig)
    payments = await write(rig, entity("payments"))
    checkout = await write(rig, base=1)

    snapshot = await rig.log.snapshot()

    assert snapshot.revision == checkout.revision
    assert snapshot.pointers == {pointer.entity.key: pointer for pointer in (payments, checkout)}


async def test_no_pointer_in_a_snapshot_is_older_than_its_revision(rig: Rig) -> None:
    writing = busy_writers(rig, tasks=4, rounds=4)
    snapshots = []
    while not writing.done():
        snapshots.append(await rig.elsewhere.log.snapshot())
    await writing

    every = await rig.log.since(0, limit=1000)
    for snapshot in snapshots:
        for change in every:
            if change.revision <= snapshot.revision:
                assert snapshot.pointers[change.entity.key].version >= change.version


async def test_who_follows_the_log_loses_nothing_of_many_writers(rig: Rig) -> None:
    writing = busy_writers(rig, tasks=10, rounds=4)
    followed: list[Change] = []
    while not writing.done():
        last = followed[-1].revision if followed else 0
        followed += await rig.elsewhere.log.since(last, limit=1000)
    await writing
    followed += await rig.elsewhere.log.since(followed[-1].revision, limit=1000)

    assert followed == await rig.log.since(0, limit=1000)
    assert {change.entity for change in followed} == {entity(f"s{n}") for n in range(20)}
    for number in range(20):
        logged = [change.version for change in followed if change.entity == entity(f"s{number}")]
        assert logged == list(range(1, len(logged) + 1))


def busy_writers(rig: Rig, *, tasks: int, rounds: int) -> asyncio.Future[list[None]]:
    """Write two documents a task: one by one, and many at once, which takes longer to commit."""

    async def writer(number: int) -> None:
        ports = (rig.here, rig.elsewhere)[number % 2]
        single, bulk = entity(f"s{2 * number}"), entity(f"s{2 * number + 1}")
        for base in range(rounds):
            await write(ports, single, base)
            found = range(20 * base + 1, 20 * base + 21)
            await ports.log.advance(bulk, [Written(version, None) for version in found])

    return asyncio.gather(*(writer(number) for number in range(tasks)))


async def test_a_change_logged_elsewhere_wakes_who_waits(rig: Rig) -> None:
    for base in range(5):  # more than once: the first may end for having just begun to listen
        waiting = asyncio.create_task(rig.log.wait_for_change(within=10))
        await write(rig.elsewhere, base=base)
        logged = monotonic()
        await waiting
        assert monotonic() - logged < SLACK_SECONDS


async def test_a_change_logged_between_two_waits_is_not_slept_over(rig: Rig) -> None:
    for base in range(5):
        await write(rig, base=base)
        began = monotonic()
        await rig.log.wait_for_change(within=10)
        assert monotonic() - began < SLACK_SECONDS


async def test_waiting_ends_when_nothing_happens(rig: Rig) -> None:
    await rig.log.wait_for_change(within=0.5)  # may end for having just begun to listen

    began = monotonic()
    await rig.log.wait_for_change(within=0.1)

    assert 0.05 < monotonic() - began < SLACK_SECONDS


# Audit, and what is not stored


async def test_a_disclosure_is_audited(rig: Rig) -> None:
    await rig.log.record_disclosure(
        Disclosure(CHECKOUT, keys=("database.password", "token"), actor="ana", request_id="r-7")
    )

    (row,) = await rig.audit()

    assert (row["actor"], row["action"], row["request_id"]) == ("ana", "revealed", "r-7")
    assert (row["kind"], row["environment"], row["name"]) == ("config", "staging", "checkout")
    assert row["facts"] == {"keys": ["database.password", "token"]}
    assert (row["version"], row["revision"]) == (None, None)


async def test_no_column_has_room_for_the_value_of_a_configuration(rig: Rig) -> None:
    subject = ("kind", "environment", "name")
    expected = {
        "changes": (
            "revision",
            "id",
            "doc",
            *subject,
            "version",
            "action",
            "actor",
            "comment",
            "at",
            "deleted",
            "facts",
            "logged_at",
            "sent_at",
        ),
        "documents": (
            "doc",
            *subject,
            "logged_version",
            "revision",
            "deleted",
            "updated_at",
            "updated_by",
        ),
        "intents": (
            "id",
            "doc",
            *subject,
            "base_version",
            "action",
            "actor",
            "comment",
            "request_id",
            "at",
            "idempotency_key",
            "digest",
            "source",
            "facts",
            "state",
            "version",
            "revision",
            "looks",
            "look_after",
            "seq",
        ),
        "audit": (
            "id",
            "at",
            "actor",
            "action",
            *subject,
            "version",
            "revision",
            "request_id",
            "source",
            "facts",
            "seq",
            "previous",
            "hash",
        ),
        "claims": ("task", "at"),
        "horizon": ("id", "revision"),
    }

    assert await rig.columns() == {f"{table}.{c}" for table, cs in expected.items() for c in cs}
