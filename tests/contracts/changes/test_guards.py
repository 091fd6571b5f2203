"""What Intents promise of guards (docs/protocols.md E). Runs once per adapter."""

import asyncio
from dataclasses import replace
from typing import Final

import pytest

from app.changes.errors import GuardMoved, IntentNotFound, RelatedIntentOpen
from app.changes.model import Entity, Guard, Intent
from app.rules.definitions.model import Scope
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
from tests.contracts.defining import EVERYWHERE, commit, deletion, edit

SCHEMAS_ONLY: Final = Guard(0, covers_related=False)
ALL: Final = Guard(0, covers_related=True)

# Two documents by (environment, name), and whether the first is related to the second.
RELATIONS: Final = [
    (("staging", "checkout"), ("staging", "checkout"), True),
    (("staging", "checkout"), ("staging", "_shared"), True),
    (("staging", "checkout"), ("default", "checkout"), True),
    (("staging", "checkout"), ("default", "_shared"), True),
    (("staging", "_shared"), ("default", "checkout"), True),
    (("default", "_shared"), ("production", "payments"), True),
    (("staging", "checkout"), ("staging", "payments"), False),
    (("staging", "checkout"), ("production", "checkout"), False),
    (("staging", "checkout"), ("default", "payments"), False),
    (("staging", "checkout"), ("production", "_shared"), False),
    (("staging", "_shared"), ("production", "_shared"), False),
    (("default", "checkout"), ("default", "payments"), False),
]
BOTH_WAYS: Final = [
    *RELATIONS,
    *((second, first, related) for first, second, related in RELATIONS if first != second),
    (("staging", "checkout/ana"), ("staging", "checkout/ana"), True),
    (("staging", "checkout/ana"), ("staging", "checkout"), True),
    (("staging", "checkout/ana"), ("default", "_shared"), True),
    (("staging", "checkout/ana"), ("staging", "payments"), False),
    (("staging", "checkout/ana"), ("production", "checkout"), False),
    (("staging", "checkout/ana"), ("staging", "checkout/bob"), False),
    (("staging", "_shared/ana"), ("staging", "checkout/ana"), False),
    (("staging", "checkout"), ("staging", "checkout/ana"), False),
    (("default", "_shared"), ("staging", "checkout/ana"), False),
    (("default", "_shared"), ("default", "_shared/ana"), False),
]
EACH_RELATION: Final = pytest.mark.parametrize(("own", "other", "is_related"), BOTH_WAYS)


def document(environment_and_name: tuple[str, str]) -> Entity:
    environment, name = environment_and_name
    return entity(name, environment)


async def begin(rig: Rig, about: Entity = CHECKOUT, guard: Guard = ALL) -> Intent:
    return await rig.intents.begin(intent(about), guard)


async def last_revision(rig: Rig) -> int:
    return (await rig.log.snapshot()).revision


# Schemas


@pytest.mark.parametrize("guard", [SCHEMAS_ONLY, ALL])
async def test_an_intent_is_begun_where_nothing_has_changed(rig: Rig, guard: Guard) -> None:
    begun = replace(intent(action="rolled_back"), facts={"key": None}, source="192.0.2.1")

    assert await rig.intents.begin(begun, guard) == begun
    assert await rig.intents.intent(begun.id) == begun


@pytest.mark.parametrize(
    ("about", "environments", "services", "is_covered"),
    [
        (("staging", "checkout"), "*", "*", True),
        (("staging", "checkout"), "staging", "checkout", True),
        (("staging", "checkout"), "st*g*", "*out", True),
        (("staging", "checkout"), "production", "*", False),
        (("staging", "checkout"), "*", "payments", False),
        (("staging", "checkout"), "stag", "*", False),
        (("staging", "checkout"), "*", "check_ut", False),
        (("staging", "checkout"), "*", "check%", False),
        (("staging", "checkout"), "*", "CHECKOUT", False),
        (("staging", "check_ut"), "*", "check_*", True),
        (("default", "checkout"), "production", "checkout", True),
        (("default", "checkout"), "production", "payments", False),
        (("staging", "_shared"), "staging", "payments", True),
        (("staging", "_shared"), "production", "payments", False),
        (("staging", "checkout/ana"), "staging", "checkout", True),
        (("staging", "checkout/ana"), "*", "payments", False),
        (("staging", "_shared/ana"), "staging", "payments", True),
    ],
)
@pytest.mark.parametrize("covers_related", [False, True])
async def test_a_schema_that_has_changed_sends_back_who_it_applies_to(
    rig: Rig,
    about: tuple[str, str],
    environments: str,
    services: str,
    is_covered: bool,  # noqa: FBT001
    covers_related: bool,  # noqa: FBT001
) -> None:
    scopes = [Scope(("elsewhere",), ("nothing",)), Scope((environments,), (services, "nothing"))]
    (schema,) = await rig.definitions.commit(commit(edit(scopes=scopes)))
    guard = Guard(schema.revision - 1, covers_related)

    if is_covered:
        with pytest.raises(GuardMoved) as moved:
            await begin(rig, document(about), guard)
        assert moved.value.revision == schema.revision
    else:
        await begin(rig, document(about), guard)
    await rig.intents.begin(intent(document(about)))
    await begin(rig, document(about), Guard(schema.revision, covers_related=False))


async def test_the_newest_of_several_schemas_is_told(rig: Rig) -> None:
    names = ("one", "two", "three")
    schemas = await rig.definitions.commit(commit(*(edit(name) for name in names)))
    await rig.definitions.commit(commit(edit("other", scopes=[Scope(("production",), ("*",))])))

    with pytest.raises(GuardMoved) as moved:
        await begin(rig, guard=SCHEMAS_ONLY)

    assert moved.value.revision == schemas[-1].revision


async def test_a_schema_or_template_that_applies_nowhere_sends_nobody_back(rig: Rig) -> None:
    await rig.definitions.commit(commit(edit("narrow"), edit("gone")))
    await rig.definitions.commit(commit(edit("narrow", base=1, scopes=()), deletion("gone")))
    await rig.definitions.commit(commit(edit("mail", kind="template", scopes=[EVERYWHERE])))

    await begin(rig)


# Related documents


@EACH_RELATION
async def test_a_related_change_after_the_guard_sends_back(
    rig: Rig,
    own: tuple[str, str],
    other: tuple[str, str],
    is_related: bool,  # noqa: FBT001
) -> None:
    guard = replace(ALL, revision=(await write(rig.here, document(other))).revision)
    newest = (await write(rig.here, document(other), base=1)).revision

    if is_related:
        with pytest.raises(GuardMoved) as moved:
            await begin(rig, document(own), guard)
        assert moved.value.revision == newest
    else:
        await begin(rig, document(own), guard)


@EACH_RELATION
async def test_an_open_intent_of_a_related_document_sends_back(
    rig: Rig,
    own: tuple[str, str],
    other: tuple[str, str],
    is_related: bool,  # noqa: FBT001
) -> None:
    await rig.intents.begin(intent(document(other)))

    if is_related:
        with pytest.raises(RelatedIntentOpen):
            await begin(rig, document(own))
    else:
        await begin(rig, document(own))


async def test_the_newest_related_change_is_told(rig: Rig) -> None:
    await write(rig.here)
    newest = (await write(rig.here, entity("_shared"))).revision
    await write(rig.here, entity("payments"))

    with pytest.raises(GuardMoved) as moved:
        await begin(rig)

    assert moved.value.revision == newest


@pytest.mark.parametrize("kind", ["flag", "schema", "instance", "token"])
async def test_changes_and_intents_of_other_kinds_send_nobody_back(rig: Rig, kind: str) -> None:
    await write(rig.here, entity(kind=kind))
    await rig.intents.begin(intent(entity(kind=kind), base=1))

    await begin(rig)


async def test_a_guard_of_schemas_only_ignores_documents(rig: Rig) -> None:
    await write(rig.here)
    await rig.intents.begin(intent(base=1))
    await rig.intents.reserve(intent(entity("_shared")))

    await begin(rig, guard=SCHEMAS_ONLY)


async def test_what_came_before_the_guard_sends_nobody_back(rig: Rig) -> None:
    await rig.definitions.commit(commit(edit()))
    revision = (await write(rig.here)).revision

    await begin(rig, guard=replace(ALL, revision=revision))


async def test_a_related_intent_blocks_until_it_is_decided_or_expired(rig: Rig) -> None:
    applied, lost = intent(), intent()
    for each in (applied, lost):
        await rig.intents.begin(each)
    pointer = await rig.log.advance(CHECKOUT, [version_of(applied)])
    guard = replace(ALL, revision=pointer.revision)
    first = await begin(rig, guard=guard)

    with pytest.raises(RelatedIntentOpen):
        await begin(rig, guard=guard)

    await rig.intents.expire(first.id)
    await begin(rig, guard=guard)


async def test_the_change_that_stays_when_the_log_is_trimmed_still_sends_back(rig: Rig) -> None:
    for base in range(3):
        newest = await write(rig.here, base=base)
    await rig.maintenance.trim(-60, keep=1, relayed=False)  # as if a minute had passed

    with pytest.raises(GuardMoved) as moved:
        await begin(rig)

    assert moved.value.revision == newest.revision


async def test_a_refused_intent_leaves_nothing_behind(rig: Rig) -> None:
    await write(rig.here)
    refused = intent_with_key("key")

    with pytest.raises(GuardMoved):
        await rig.intents.begin(refused, ALL)

    with pytest.raises(IntentNotFound):
        await rig.intents.intent(refused.id)
    assert await rig.intents.intent_by_idempotency_key("key") is None


# Idempotency keys


@pytest.mark.parametrize("guard", [SCHEMAS_ONLY, ALL])
async def test_an_earlier_intent_is_joined_whatever_the_guard_says(rig: Rig, guard: Guard) -> None:
    first = await rig.intents.begin(intent_with_key("key", digest="one"), guard)
    await rig.definitions.commit(commit(edit()))

    assert await rig.intents.begin(intent_with_key("key", digest="two"), guard) == first
    assert await rig.intents.begin(first, guard) == first
    assert await rig.intents.begin(first) == first

    await rig.log.advance(CHECKOUT, [version_of(first)])
    assert (await rig.intents.begin(intent_with_key("key"), guard)).state == "applied"


@pytest.mark.parametrize("guard", [SCHEMAS_ONLY, ALL])
async def test_a_key_is_free_after_a_day(rig: Rig, guard: Guard) -> None:
    first = await rig.intents.begin(intent_with_key("key"))
    await rig.intents.expire(first.id)
    await rig.age(DAY - 3600)  # the intent is as old as this module
    assert (await rig.intents.begin(intent_with_key("key"), guard)).id == first.id

    await rig.age(7200)
    second = intent_with_key("key")

    assert await rig.intents.begin(second, guard) == second
    assert await rig.intents.intent_by_idempotency_key("key") == second
    assert (await rig.intents.intent(first.id)).idempotency_key is None


@pytest.mark.parametrize("guard", [SCHEMAS_ONLY, ALL])
async def test_requests_that_race_under_one_key_share_one_intent(rig: Rig, guard: Guard) -> None:
    racing = [
        (rig.here, rig.elsewhere)[number % 2].intents.begin(intent_with_key("key"), guard)
        for number in range(20)
    ]

    assert len({begun.id for begun in await asyncio.gather(*racing)}) == 1


async def test_a_guarded_intent_is_looked_at_after_three_seconds(rig: Rig) -> None:
    begun = await begin(rig)
    await rig.age(2)
    assert await rig.intents.overdue_intents(10) == []

    await rig.age(1.5)
    assert [each.id for each in await rig.intents.overdue_intents(10)] == [begun.id]


# Races


async def test_of_many_related_intents_one_is_begun(rig: Rig) -> None:
    revision = 0
    for _ in range(5):
        layers = [entity("checkout"), entity("_shared"), entity("_shared", "default")]
        guard = replace(ALL, revision=revision)
        racing = [
            (rig.here, rig.elsewhere)[number % 2].intents.begin(intent(layers[number % 3]), guard)
            for number in range(20)
        ]

        outcomes = await asyncio.gather(*racing, return_exceptions=True)

        begun = [each for each in outcomes if isinstance(each, Intent)]
        refused = [each for each in outcomes if isinstance(each, RelatedIntentOpen)]
        assert (len(begun), len(refused)) == (1, 19)
        await rig.intents.expire(begun[0].id)


async def test_intents_that_are_not_related_are_begun_beside_each_other(rig: Rig) -> None:
    racing = [
        (rig.here, rig.elsewhere)[number % 2].intents.begin(intent(entity(f"s{number}")), ALL)
        for number in range(20)
    ]

    assert len({begun.id for begun in await asyncio.gather(*racing)}) == 20


@pytest.mark.parametrize("covers_related", [False, True])
async def test_a_definition_and_an_intent_never_overtake_each_other(
    rig: Rig,
    covers_related: bool,  # noqa: FBT001
) -> None:
    for base in range(10):
        revision = await last_revision(rig)
        guard = Guard(revision, covers_related)
        judged = commit(edit(base=base), judged_at=revision, judged=[EVERYWHERE])
        stores = (rig.here, rig.elsewhere)

        defined, *outcomes = await asyncio.gather(
            rig.definitions.commit(judged),
            *(stores[number % 2].intents.begin(intent(), guard) for number in range(6)),
            return_exceptions=True,
        )

        begun = [each for each in outcomes if isinstance(each, Intent)]
        if isinstance(defined, BaseException):
            assert isinstance(defined, RelatedIntentOpen)
            assert begun
            (late,) = await rig.definitions.commit(replace(judged, judged_at=None))
            assert late.version == base + 1
        else:
            assert begun == []
            assert all(isinstance(each, GuardMoved) for each in outcomes)
        for each in begun:
            await rig.intents.expire(each.id)


async def test_a_definition_that_nobody_judged_waits_for_no_intent_but_sends_later_ones_back(
    rig: Rig,
) -> None:
    await begin(rig)
    (schema,) = await rig.definitions.commit(commit(edit()))

    with pytest.raises(GuardMoved) as moved:
        await begin(rig)

    assert moved.value.revision == schema.revision
