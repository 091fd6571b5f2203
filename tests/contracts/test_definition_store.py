"""What any DefinitionStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from app.changes.errors import GuardMoved, RelatedIntentOpen
from app.changes.model import Entity
from app.rules.definitions.model import Definition, Scope, entity
from app.rules.errors import DefinitionMoved, DefinitionsUnavailable
from tests.contracts.changes.changing import entity as document
from tests.contracts.changes.changing import intent, version_of, write
from tests.contracts.changes.rig import Rig, embedded_rig, postgres
from tests.contracts.defining import EVERYWHERE, commit, deletion, edit
from tests.servers.process import SLACK_SECONDS

BILLING = Scope(("staging",), ("billing",))


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def everything(rig: Rig) -> Sequence[Definition]:
    return await rig.definitions_elsewhere.definitions_after(0, limit=1000)


async def state_of(rig: Rig) -> tuple[object, ...]:
    """Return all that a commit writes."""
    return (
        await everything(rig),
        await rig.definitions.history("schema", "billing", 10),
        await rig.log.since(0, 100),
        await rig.log.snapshot(),
        await rig.audit(),
    )


# Versions


async def test_an_edit_becomes_the_first_version(rig: Rig) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)  # for a server whose clock differs

    (made,) = await rig.definitions.commit(commit(edit(text='{"a":1}', action="created")))

    assert made == Definition(
        kind="schema",
        name="billing",
        version=1,
        text='{"a":1}',
        action="created",
        actor="ana",
        comment="because",
        at=made.at,
        created_at=made.at,
        revision=made.revision,
    )
    assert made.revision > 0
    assert began < made.at < began + timedelta(minutes=2)
    assert await everything(rig) == [made]
    assert await rig.definitions_elsewhere.history("schema", "billing", 10) == [made]


async def test_the_next_version_keeps_when_the_first_was_made(rig: Rig) -> None:
    (first,) = await rig.definitions.commit(commit(edit(text="1")))

    (second,) = await rig.definitions_elsewhere.commit(commit(edit(base=1, text="2")))

    assert (second.version, second.text, second.created_at) == (2, "2", first.at)
    assert second.at > first.at
    assert second.revision > first.revision
    assert await everything(rig) == [second]
    assert await rig.definitions.history("schema", "billing", 10) == [second, first]


async def test_a_deleted_definition_that_is_created_again_continues_its_versions(rig: Rig) -> None:
    (first,) = await rig.definitions.commit(commit(edit()))
    (second,) = await rig.definitions.commit(commit(deletion(base=1)))

    assert (second.version, second.text, second.is_deleted) == (2, "", True)
    assert await everything(rig) == [second]

    (third,) = await rig.definitions.commit(commit(edit(base=2, text="3", action="created")))

    assert (third.version, third.is_deleted, third.created_at) == (3, False, first.at)
    assert await everything(rig) == [third]


@pytest.mark.parametrize("base", [0, 2])
async def test_an_edit_of_another_version_is_refused_with_the_current_one(
    rig: Rig, base: int
) -> None:
    await rig.definitions.commit(commit(edit()))
    before = await state_of(rig)

    with pytest.raises(DefinitionMoved) as moved:
        await rig.definitions.commit(commit(edit("other"), edit(base=base)))

    assert (moved.value.kind, moved.value.name, moved.value.version) == ("schema", "billing", 1)
    assert await state_of(rig) == before


async def test_a_base_of_what_never_was_is_refused(rig: Rig) -> None:
    with pytest.raises(DefinitionMoved) as moved:
        await rig.definitions.commit(commit(edit("ghost", base=1)))

    assert moved.value.version == 0


async def test_several_edits_are_written_together_in_their_order(rig: Rig) -> None:
    await rig.definitions.commit(commit(edit("zebra")))
    edits = (
        edit("zebra", base=1, text="2"),
        edit("ant", kind="template", scopes=()),
        edit("ant"),
        edit("zebra", base=2, text="3"),
    )

    made = await rig.definitions.commit(commit(*edits))

    assert [each.version for each in made] == [2, 1, 1, 3]
    revisions = [each.revision for each in made]
    assert revisions == list(range(revisions[0], revisions[0] + 4))
    assert len({each.at for each in made}) == 1
    assert await everything(rig) == made[1:]
    history = await rig.definitions.history("schema", "zebra", 10)
    assert [each.text for each in history] == ["3", "2", "{}"]


async def test_nothing_to_edit_writes_nothing(rig: Rig) -> None:
    assert await rig.definitions.commit(commit()) == []

    assert await rig.log.since(0, 10) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"zebra": 1, "ant": {"b":2,  "a": 1}, "ant2": 1.0}',
        '{"text":"Grüße, 世界, 🚀, \\u0000, \\ud83d\\ude80, \\\\ \\" \\/", "n": -0.0}',
        json.dumps({"long": "x" * 300_000}),
    ],
)
async def test_a_text_is_kept_to_the_character(rig: Rig, text: str) -> None:
    (made,) = await rig.definitions.commit(commit(edit(text=text)))

    (newest,) = await everything(rig)
    (version,) = await rig.definitions.history("schema", "billing", 1)
    assert [made.text, newest.text, version.text] == [text] * 3


async def test_of_many_who_follow_one_version_one_wins(rig: Rig) -> None:
    for base in range(3):
        stores = (rig.definitions, rig.definitions_elsewhere) * 4
        racing = [
            store.commit(commit(edit(base=base, kind="template", scopes=()))) for store in stores
        ]

        outcomes = await asyncio.gather(*racing, return_exceptions=True)

        moved = [each for each in outcomes if isinstance(each, DefinitionMoved)]
        assert len(moved) == 7
        assert {each.version for each in moved} == {base + 1}
    assert len(await rig.log.since(0, 100)) == 3


# Reading


async def test_what_changed_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    await rig.definitions.commit(commit(*(edit(f"schema-{number}") for number in range(5))))
    await rig.definitions.commit(commit(deletion("schema-1"), edit("schema-3", base=1)))

    read: list[Definition] = []
    while page := await rig.definitions.definitions_after(read[-1].revision if read else 0, 2):
        assert len(page) <= 2
        read += page

    assert [each.name for each in read] == [f"schema-{number}" for number in (0, 2, 4, 1, 3)]
    assert [each.version for each in read] == [1, 1, 1, 2, 2]


async def test_a_history_goes_on_below_a_version(rig: Rig) -> None:
    for base in range(5):
        await rig.definitions.commit(commit(edit(base=base)))
    await rig.definitions.commit(commit(edit(kind="template", scopes=())))

    newest = await rig.definitions.history("schema", "billing", 2)
    older = await rig.definitions.history("schema", "billing", 10, before=newest[-1].version)

    assert [each.version for each in newest] == [5, 4]
    assert [each.version for each in older] == [3, 2, 1]
    assert await rig.definitions.history("schema", "ghost", 10) == []


# The log and the audit


async def test_a_commit_is_logged_audited_and_pointed_to(rig: Rig) -> None:
    facts = replace(edit("billing", action="created"), facts={"text": "fingerprint"})
    template = edit("mail", kind="template", scopes=())

    made = await rig.definitions.commit(commit(facts, template))
    made = [*made, *await rig.definitions.commit(commit(deletion()))]

    changes = await rig.log.since(0, 10)
    entities = [
        entity("schema", "billing"),
        entity("template", "mail"),
        entity("schema", "billing"),
    ]
    assert [change.entity for change in changes] == entities
    assert entities[0] == Entity("schema", "default", "billing", "schemas/billing")
    assert [change.revision for change in changes] == [each.revision for each in made]
    assert [change.version for change in changes] == [1, 1, 2]
    assert [change.action for change in changes] == ["created", "updated", "deleted"]
    assert [change.deleted for change in changes] == [False, False, True]
    assert {(change.actor, change.comment) for change in changes} == {("ana", "because")}
    assert [change.at for change in changes] == [each.at for each in made]
    assert len({change.id for change in changes}) == 3

    pointers = (await rig.log.snapshot()).pointers
    pointed = pointers["schemas/billing"]
    assert (pointed.entity, pointed.version, pointed.deleted) == (entities[0], 2, True)
    assert (pointed.revision, pointed.actor) == (made[2].revision, "ana")
    assert pointers["templates/mail"].version == 1
    assert await rig.outbox.unsent_changes(10) == changes

    rows = await rig.audit()
    assert [(row["kind"], row["environment"], row["name"]) for row in rows] == [
        (each.kind, "default", each.name) for each in entities
    ]
    assert [(row["version"], row["revision"]) for row in rows] == [
        (each.version, each.revision) for each in made
    ]
    assert [row["facts"] for row in rows] == [{"text": "fingerprint"}, None, None]
    assert {(row["actor"], row["request_id"], row["source"]) for row in rows} == {
        ("ana", "request-1", "192.0.2.1")
    }


async def test_a_commit_wakes_who_waits_for_changes(rig: Rig) -> None:
    for base in range(3):  # more than once: the first may end for having just begun to listen
        waiting = asyncio.create_task(rig.log.wait_for_change(within=10))
        await rig.definitions.commit(commit(edit(base=base)))
        committed = monotonic()
        await waiting
        assert monotonic() - committed < SLACK_SECONDS


# Judged configurations


@pytest.mark.parametrize(
    ("service", "environment"),
    [
        ("billing", "staging"),
        ("billing", "default"),
        ("_shared", "staging"),
        ("_shared", "default"),
    ],
)
async def test_a_judgement_is_out_of_date_when_a_layer_has_changed(
    rig: Rig, service: str, environment: str
) -> None:
    layer = document(service, environment)
    judged_at = (await write(rig.here, layer)).revision
    await write(rig.here, layer, base=1)
    newest = (await write(rig.here, layer, base=2)).revision
    before = await state_of(rig)

    with pytest.raises(GuardMoved) as moved:
        await rig.definitions.commit(commit(edit(), judged_at=judged_at, judged=[BILLING]))

    assert moved.value.revision == newest
    assert await state_of(rig) == before
    await rig.definitions.commit(commit(edit(), judged_at=newest, judged=[BILLING]))


@pytest.mark.parametrize(
    ("service", "environment", "kind"),
    [
        ("payments", "staging", "config"),
        ("billing", "production", "config"),
        ("payments", "default", "config"),
        ("_shared", "production", "config"),
        ("billing/ana", "staging", "config"),
        ("billing", "staging", "flag"),
    ],
)
async def test_a_judgement_stands_when_something_else_has_changed(
    rig: Rig, service: str, environment: str, kind: str
) -> None:
    other = document(service, environment, kind)
    await write(rig.here, other)
    await rig.intents.begin(intent(other, base=1))

    await rig.definitions.commit(commit(edit(), judged_at=0, judged=[BILLING]))


async def test_a_commit_waits_for_open_intents_of_what_was_judged(rig: Rig) -> None:
    begun = await rig.intents.begin(intent(document("_shared", "default")))
    before = await state_of(rig)

    for judged in (BILLING, EVERYWHERE):
        with pytest.raises(RelatedIntentOpen):
            await rig.definitions.commit(commit(edit(), judged_at=0, judged=[judged]))

    assert await state_of(rig) == before
    await rig.intents.expire(begun.id)
    await rig.definitions.commit(commit(edit(), judged_at=0, judged=[BILLING]))


async def test_a_commit_waits_for_reserved_intents_as_long_as_they_last(rig: Rig) -> None:
    await rig.intents.reserve(intent(document("billing", "staging")))

    with pytest.raises(RelatedIntentOpen):
        await rig.definitions.commit(commit(edit(), judged_at=0, judged=[BILLING]))

    await rig.age(3.5)
    await rig.definitions.commit(commit(edit(), judged_at=0, judged=[BILLING]))


async def test_an_intent_that_was_decided_is_seen_in_its_change(rig: Rig) -> None:
    layer = document("billing", "staging")
    begun = await rig.intents.begin(intent(layer))
    pointer = await rig.log.advance(layer, [version_of(begun)])

    with pytest.raises(GuardMoved) as moved:
        await rig.definitions.commit(commit(edit(), judged_at=0, judged=[BILLING]))

    assert moved.value.revision == pointer.revision


async def test_what_nobody_judged_is_committed_whatever_is_under_way(rig: Rig) -> None:
    await write(rig.here, document("billing", "staging"))
    await rig.intents.begin(intent(document("billing", "staging"), base=1))

    await rig.definitions.commit(commit(edit()))
    await rig.definitions.commit(commit(edit(base=1), judged_at=0, judged=[]))


async def test_a_version_that_has_moved_is_told_before_a_judgement_that_has(rig: Rig) -> None:
    await write(rig.here, document("billing", "staging"))

    with pytest.raises(DefinitionMoved):
        await rig.definitions.commit(commit(edit(base=7), judged_at=0, judged=[BILLING]))


# Outages


async def test_every_call_names_an_outage_in_time(rig: Rig) -> None:
    await everything(rig)

    await rig.cut()

    for call in (
        rig.definitions.commit(commit(edit())),
        rig.definitions.definitions_after(0, 10),
        rig.definitions.history("schema", "billing", 10),
    ):
        began = monotonic()
        with pytest.raises(DefinitionsUnavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS
