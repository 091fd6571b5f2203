"""What any FlagStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

import pytest

from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.maintenance import EmbeddedMaintenance
from app.changes.log.embedded.outbox import EmbeddedOutbox
from app.changes.log.port import ChangeLog, LogPorts, Maintenance, Outbox
from app.changes.log.postgres.ports import postgres_ports
from app.changes.model import Action, Entity
from app.flags.errors import FlagsUnavailable, KeyTaken, SetMoved
from app.flags.model import Commit, Edit, FlagUsage, Item, Kind, entity
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.store.port import FlagStore
from app.flags.store.postgres import PostgresFlagStore
from tests.contracts.rigs import embedded_bench, postgres_bench
from tests.servers.process import SLACK_SECONDS

NOW = datetime.now(UTC).replace(microsecond=123456)
DAY = 24 * 3600


@dataclass
class Rig:
    """One adapter on the bench, with the change log it shares."""

    store: FlagStore
    log: ChangeLog
    outbox: Outbox
    maintenance: Maintenance
    elsewhere: FlagStore  # in another replica where there are any
    reopen: Callable[[], Awaitable[FlagStore]]  # after a restart; `store` may be closed by it
    cut: Callable[[], Awaitable[None]]
    age: Callable[[float], Awaitable[object]]  # of the requests that have a key
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]


async def embedded_rig(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = embedded_bench(request, stack)
    state = bench.state
    log = EmbeddedChangeLog(state)
    store = EmbeddedFlagStore(state, log.wake)

    async def reopen() -> FlagStore:
        reopened = await bench.reopen()
        return EmbeddedFlagStore(reopened, EmbeddedChangeLog(reopened).wake)

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        for key, at in connection.execute("SELECT idempotency_key, at FROM flag_requests"):
            earlier = datetime.fromisoformat(at) - timedelta(seconds=seconds)
            connection.execute(
                "UPDATE flag_requests SET at = ? WHERE idempotency_key = ?",
                (earlier.isoformat(timespec="microseconds"), key),
            )

    return Rig(
        store=store,
        log=log,
        outbox=EmbeddedOutbox(state),
        maintenance=EmbeddedMaintenance(state),
        elsewhere=store,
        reopen=reopen,
        cut=state.close,
        age=lambda seconds: state.run(partial(shift, seconds=seconds)),
        audit=bench.audit,
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    bench = await postgres_bench(request, stack)

    async def replica() -> tuple[FlagStore, LogPorts]:
        connection = bench.open_connection()
        return PostgresFlagStore(connection.engine), postgres_ports(connection)

    async def reopen() -> FlagStore:
        return (await replica())[0]

    async def age(seconds: float) -> None:
        moved = "UPDATE flag_requests SET at = at - $1::interval"
        await bench.connection.execute(moved, timedelta(seconds=seconds))

    store, ports = await replica()
    return Rig(
        store=store,
        log=ports.log,
        outbox=ports.outbox,
        maintenance=ports.maintenance,
        elsewhere=await reopen(),
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


def edit(
    name: str = "banner",
    definition: str = "{}",
    *,
    kind: Kind = "flag",
    action: Action = "updated",
) -> Edit:
    return Edit(kind, name, definition, action)


def deletion(name: str = "banner", *, kind: Kind = "flag") -> Edit:
    return edit(name, "", kind=kind, action="deleted")


def commit(base: int, *edits: Edit, environment: str = "staging") -> Commit:
    return Commit(environment, base, edits, actor="ana", comment="because", request_id="request-1")


def commit_with_key(base: int, *edits: Edit, key: str = "key", digest: str = "digest") -> Commit:
    return replace(commit(base, *edits), idempotency_key=key, digest=digest)


async def write(store: FlagStore, *edits: Edit, base: int = 0) -> int:
    """Commit, and return what the next commit is based on."""
    return (await store.commit(commit(base, *edits)))[-1].revision


async def everything(store: FlagStore) -> Sequence[Item]:
    return await store.items_after(0, limit=100_000)


# Committing


async def test_an_edit_becomes_the_first_version_of_its_item(rig: Rig) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)  # for a server whose clock differs

    (item,) = await rig.store.commit(commit(0, edit(definition='{"a":1}', action="created")))

    assert item == Item(
        kind="flag",
        environment="staging",
        name="banner",
        version=1,
        definition='{"a":1}',
        action="created",
        actor="ana",
        comment="because",
        at=item.at,
        created_at=item.at,
        revision=item.revision,
    )
    assert item.revision > 0
    assert began < item.at < began + timedelta(minutes=2)
    assert item.at.tzinfo is not None
    assert await everything(rig.elsewhere) == [item]
    assert await rig.store.history("flag", "staging", "banner", limit=10) == [item]


async def test_the_next_version_keeps_when_the_first_was_made(rig: Rig) -> None:
    (first,) = await rig.store.commit(commit(0, edit(definition="1")))

    (second,) = await rig.elsewhere.commit(commit(first.revision, edit(definition="2")))

    assert (second.version, second.definition) == (2, "2")
    assert second.created_at == first.at
    assert second.at > first.at
    assert second.revision > first.revision
    assert await everything(rig.store) == [second]


async def test_edits_take_revisions_in_their_order(rig: Rig) -> None:
    names = ["zebra", "ant", "mole", "bee"]

    items = await rig.store.commit(commit(0, *(edit(name) for name in names)))

    assert [item.name for item in items] == names
    revisions = [item.revision for item in items]
    assert revisions == sorted(set(revisions))
    assert await everything(rig.store) == items


async def test_edits_of_one_item_become_its_versions_in_their_order(rig: Rig) -> None:
    base = await write(rig.store, edit(definition="1"))

    edits = (edit(definition="2"), edit("other"), deletion(), edit(definition="4"))
    items = await rig.store.commit(commit(base, *edits))

    assert [item.version for item in items] == [2, 1, 3, 4]
    history = await rig.store.history("flag", "staging", "banner", limit=10)
    assert [item.definition for item in history] == ["4", "", "2", "1"]
    assert await everything(rig.store) == [items[1], items[3]]


async def test_a_flag_and_a_segment_of_one_name_are_two_items(rig: Rig) -> None:
    await write(rig.store, edit(definition="f"), edit(definition="s", kind="segment"))

    (flag,) = await rig.store.history("flag", "staging", "banner", limit=10)
    (segment,) = await rig.store.history("segment", "staging", "banner", limit=10)

    assert (flag.kind, flag.version, flag.definition) == ("flag", 1, "f")
    assert (segment.kind, segment.version, segment.definition) == ("segment", 1, "s")


async def test_environments_have_their_own_items_and_bases(rig: Rig) -> None:
    base = await write(rig.store, edit(definition="staging"))

    other = commit(0, edit(definition="production"), environment="production")
    (item,) = await rig.store.commit(other)

    assert item.version == 1
    assert await rig.store.history("flag", "production", "banner", limit=10) == [item]
    assert await write(rig.store, edit(definition="again"), base=base) > item.revision


@pytest.mark.parametrize(
    "definition",
    [
        '{"zebra": 1, "ant": {"b":2,  "a": 1}, "ant2": 1.0}',
        '{"a":1,"b":1e3,"c":10000000000000000000000001,"d":-0.0}',
        '{"text":"Grüße, 世界, 🚀, \\u00e9, \\u0000, \\ud83d\\ude80, \\\\ \\" \\/"}',
        "\n\t{ }\r\n ",
        '"\u2028\u0085\u200d\ufeff\x7f"',
        json.dumps({"long": "x" * 300_000}),
    ],
)
async def test_a_definition_is_kept_to_the_character(rig: Rig, definition: str) -> None:
    written = await rig.store.commit(commit_with_key(0, edit(definition=definition)))

    repeated = await rig.store.commit_by_idempotency_key("key")

    assert repeated is not None
    for found in (
        written,
        repeated.items,
        await everything(rig.store),
        await rig.store.history("flag", "staging", "banner", limit=1),
    ):
        assert [item.definition for item in found] == [definition]


async def test_texts_of_people_are_kept_to_the_character(rig: Rig) -> None:
    odd_commit = replace(commit(0, edit()), actor="Zoë 'z' \\", comment='"because"; -- $$ %s :name')

    await rig.store.commit(odd_commit)

    (item,) = await everything(rig.store)
    assert (item.actor, item.comment) == (odd_commit.actor, odd_commit.comment)


async def test_nothing_to_edit_writes_nothing(rig: Rig) -> None:
    base = await write(rig.store, edit())

    assert await rig.store.commit(commit(base)) == []

    assert await write(rig.store, edit(), base=base) > base
    assert len(await rig.log.since(0, 10)) == 2


async def test_what_is_committed_is_there_after_a_restart(rig: Rig) -> None:
    items = await rig.store.commit(commit(0, edit("one"), edit("two")))

    store = await rig.reopen()

    assert await everything(store) == items
    assert await write(store, edit("one"), base=items[-1].revision) > items[-1].revision


@pytest.mark.slow
async def test_thousands_of_edits_fit_into_one_commit(rig: Rig) -> None:
    definition = json.dumps({"text": "x" * 1000})
    base = 0
    for version in (1, 2):
        edits = [edit(f"flag-{number}", definition) for number in range(2000)]

        items = await rig.store.commit(commit(base, *edits))

        assert [item.version for item in items] == [version] * 2000
        base = items[-1].revision
    assert await everything(rig.store) == items


# What a commit is based on


async def test_a_set_that_has_moved_is_told_with_its_revision(rig: Rig) -> None:
    base = await write(rig.store, edit())
    last = await write(rig.store, edit("other"), base=base)

    for stale in (0, base, last + 1):
        with pytest.raises(SetMoved) as moved:
            await rig.elsewhere.commit(commit(stale, edit()))
        assert moved.value.revision == last


async def test_a_base_where_nothing_is_yet_is_refused(rig: Rig) -> None:
    with pytest.raises(SetMoved) as moved:
        await rig.store.commit(commit(7, edit()))

    assert moved.value.revision == 0
    await write(rig.store, edit())


async def test_a_refused_commit_leaves_nothing_behind(rig: Rig) -> None:
    base = await write(rig.store, edit("one"))
    items, changes = await everything(rig.store), await rig.log.since(0, 10)
    snapshot, audited = await rig.log.snapshot(), await rig.audit()

    with pytest.raises(SetMoved):
        await rig.store.commit(commit_with_key(0, edit("one"), edit("two"), deletion("one")))

    assert await everything(rig.store) == items
    assert await rig.store.history("flag", "staging", "two", limit=10) == []
    assert await rig.log.since(0, 10) == changes
    assert await rig.log.snapshot() == snapshot
    assert await rig.audit() == audited
    assert await rig.store.commit_by_idempotency_key("key") is None
    assert await write(rig.store, edit("one"), base=base) > base


async def test_of_many_who_commit_on_one_base_one_wins(rig: Rig) -> None:
    base, rounds = 0, 5
    for _ in range(rounds):
        stores = (rig.store, rig.elsewhere) * 4
        racing = [
            store.commit(commit(base, edit(f"flag-{number}"), edit("all")))
            for number, store in enumerate(stores)
        ]

        outcomes = await asyncio.gather(*racing, return_exceptions=True)

        won = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, SetMoved)]
        assert (len(won), len(lost)) == (1, 7)
        base = won[0][-1].revision
        assert {moved.revision for moved in lost} == {base}
    assert len(await rig.log.since(0, 1000)) == 2 * rounds


async def test_environments_commit_beside_each_other(rig: Rig) -> None:
    async def writer(environment: str, store: FlagStore) -> None:
        base = 0
        for _ in range(5):
            edits = [edit(f"flag-{number}") for number in range(20)]
            written = await store.commit(commit(base, *edits, environment=environment))
            base = written[-1].revision

    stores = (rig.store, rig.elsewhere) * 2
    await asyncio.gather(*(writer(f"e{number}", store) for number, store in enumerate(stores)))

    changes = await rig.log.since(0, 1000)
    assert len(changes) == 400
    together = [changes[start : start + 20] for start in range(0, 400, 20)]
    assert all(len({change.entity.environment for change in group}) == 1 for group in together)


# Deleting


async def test_a_deleted_item_is_told_without_a_definition(rig: Rig) -> None:
    (first,) = await rig.store.commit(commit(0, edit(definition="1")))

    (second,) = await rig.store.commit(commit(first.revision, deletion()))

    assert second.is_deleted
    assert not first.is_deleted
    assert (second.version, second.definition, second.action) == (2, "", "deleted")
    assert await rig.store.items_after(first.revision, limit=10) == [second]
    assert await rig.store.history("flag", "staging", "banner", limit=10) == [second, first]


async def test_the_versions_of_a_deleted_item_go_on(rig: Rig) -> None:
    (first,) = await rig.store.commit(commit(0, edit()))
    base = await write(rig.store, deletion(), base=first.revision)

    (third,) = await rig.store.commit(commit(base, edit(definition="3", action="created")))

    assert (third.version, third.action, third.is_deleted) == (3, "created", False)
    assert third.created_at == first.created_at


# Reading


async def test_what_changed_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    base = await write(rig.store, *(edit(f"flag-{number}") for number in range(5)))
    await write(rig.store, deletion("flag-1"), edit("flag-3"), base=base)
    await rig.store.commit(commit(0, edit("flag-1"), environment="production"))

    read: list[Item] = []
    while page := await rig.store.items_after(read[-1].revision if read else 0, limit=2):
        assert len(page) <= 2
        read += page

    assert [(item.environment, item.name, item.version) for item in read] == [
        ("staging", "flag-0", 1),
        ("staging", "flag-2", 1),
        ("staging", "flag-4", 1),
        ("staging", "flag-1", 2),
        ("staging", "flag-3", 2),
        ("production", "flag-1", 1),
    ]
    assert [item.is_deleted for item in read] == [False, False, False, True, False, False]
    assert await rig.store.items_after(read[2].revision, limit=100) == read[3:]


async def test_nothing_written_is_nothing_new(rig: Rig) -> None:
    assert await rig.store.items_after(0, limit=10) == []
    assert await rig.store.history("flag", "staging", "banner", limit=10) == []


async def test_who_reads_what_changed_loses_nothing_of_many_writers(rig: Rig) -> None:
    async def writer(environment: str, store: FlagStore) -> None:
        base = 0
        for _ in range(10):
            written = await store.commit(commit(base, edit(), edit("b"), environment=environment))
            base = written[-1].revision

    stores = (rig.store, rig.elsewhere) * 2
    writing = asyncio.gather(*(writer(f"e{number}", store) for number, store in enumerate(stores)))
    newest: dict[tuple[str, str], Item] = {}
    last = 0
    while not (writing.done() and last == (await rig.log.snapshot()).revision):
        for item in await rig.elsewhere.items_after(last, limit=3):
            newest[item.environment, item.name] = item
            last = item.revision
    await writing

    assert {item.version for item in newest.values()} == {10}
    assert sorted(newest.values(), key=lambda item: item.revision) == await everything(rig.store)


async def test_history_goes_back_from_a_version(rig: Rig) -> None:
    base = 0
    for number in range(5):
        base = await write(rig.store, edit(definition=str(number + 1)), edit("other"), base=base)

    async def versions(limit: int, before: int | None = None) -> list[int]:
        found = await rig.store.history("flag", "staging", "banner", limit, before)
        assert [item.definition for item in found] == [str(item.version) for item in found]
        return [item.version for item in found]

    assert await versions(limit=100) == [5, 4, 3, 2, 1]
    assert await versions(limit=2) == [5, 4]
    assert await versions(limit=2, before=4) == [3, 2]
    assert await versions(limit=2, before=1) == []
    assert await rig.store.history("flag", "staging", "ghost", limit=10) == []
    assert await rig.store.history("segment", "staging", "banner", limit=10) == []
    assert await rig.store.history("flag", "production", "banner", limit=10) == []


# Idempotency keys


async def test_what_was_written_under_a_key_is_found_by_it(rig: Rig) -> None:
    items = await rig.store.commit(
        commit_with_key(0, edit("b"), deletion("a"), edit("b"), digest="one")
    )
    await write(rig.store, edit("b"), base=items[-1].revision)

    repeated = await rig.elsewhere.commit_by_idempotency_key("key")

    assert repeated is not None
    assert repeated.digest == "one"
    assert repeated.items == items


async def test_a_key_never_used_has_written_nothing(rig: Rig) -> None:
    await write(rig.store, edit())

    assert await rig.store.commit_by_idempotency_key("key") is None


async def test_a_commit_of_no_edits_is_remembered_too(rig: Rig) -> None:
    await rig.store.commit(commit_with_key(0, digest="one"))

    repeated = await rig.store.commit_by_idempotency_key("key")

    assert repeated is not None
    assert (repeated.digest, repeated.items) == ("one", [])


async def test_a_key_is_used_once(rig: Rig) -> None:
    base = (await rig.store.commit(commit_with_key(0, edit())))[-1].revision
    changes = await rig.log.since(0, 10)

    for stale_or_not in (0, base):
        with pytest.raises(KeyTaken):
            await rig.elsewhere.commit(
                commit_with_key(stale_or_not, edit(), edit("more"), digest="two")
            )

    assert await rig.log.since(0, 10) == changes
    assert len(await everything(rig.store)) == 1
    repeated = await rig.store.commit_by_idempotency_key("key")
    assert repeated is not None
    assert repeated.digest == "digest"


async def test_a_key_is_used_once_over_all_environments(rig: Rig) -> None:
    stores = (rig.store, rig.elsewhere) * 4
    racing = [
        store.commit(replace(commit_with_key(0, edit()), environment=f"e{number}"))
        for number, store in enumerate(stores)
    ]

    outcomes = await asyncio.gather(*racing, return_exceptions=True)

    assert sum(isinstance(outcome, KeyTaken) for outcome in outcomes) == 7
    assert len(await everything(rig.store)) == 1
    (written,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    repeated = await rig.store.commit_by_idempotency_key("key")
    assert repeated is not None
    assert repeated.items == written


async def test_a_key_is_remembered_for_a_day(rig: Rig) -> None:
    base = (await rig.store.commit(commit_with_key(0, edit())))[-1].revision
    await rig.age(DAY - 60)

    assert await rig.store.commit_by_idempotency_key("key") is not None
    with pytest.raises(KeyTaken):
        await rig.store.commit(commit_with_key(base, edit()))


async def test_a_key_is_free_after_a_day(rig: Rig) -> None:
    base = (await rig.store.commit(commit_with_key(0, edit(), digest="one")))[-1].revision
    await rig.age(DAY + 60)
    assert await rig.store.commit_by_idempotency_key("key") is None

    again = await rig.store.commit(commit_with_key(base, edit("new"), digest="two"))

    repeated = await rig.store.commit_by_idempotency_key("key")
    assert repeated is not None
    assert (repeated.digest, repeated.items) == ("two", again)


async def test_keys_that_have_outlived_their_day_are_forgotten(rig: Rig) -> None:
    base = 0
    for number in range(3):
        base = (await rig.store.commit(commit_with_key(base, edit(), key=f"old-{number}")))[
            -1
        ].revision
    await rig.age(DAY + 60)
    items = await rig.store.commit(commit_with_key(base, edit(), key="old-2"))

    assert await rig.store.delete_expired_keys() == 2
    assert await rig.elsewhere.delete_expired_keys() == 0
    repeated = await rig.store.commit_by_idempotency_key("old-2")
    assert repeated is not None
    assert repeated.items == items
    assert len(await rig.store.history("flag", "staging", "banner", limit=10)) == 4


async def test_a_key_is_not_forgotten_within_its_day(rig: Rig) -> None:
    await rig.store.commit(commit_with_key(0, edit()))
    await rig.age(DAY - 60)

    assert await rig.store.delete_expired_keys() == 0
    assert await rig.store.commit_by_idempotency_key("key") is not None


@pytest.mark.slow
async def test_a_thousand_keys_are_forgotten_at_a_time(rig: Rig) -> None:
    for number in range(1001):  # each without an edit, which is remembered too
        await rig.store.commit(commit_with_key(0, key=str(number)))
    await rig.age(DAY + 60)

    assert [await rig.store.delete_expired_keys() for _ in range(3)] == [1000, 1, 0]


async def test_commits_without_a_key_stay_apart(rig: Rig) -> None:
    base = await write(rig.store, edit())

    assert await write(rig.store, edit(), base=base) > base


# The change log


async def test_a_commit_is_logged_in_its_order(rig: Rig) -> None:
    base = await write(rig.store, edit("a"))
    edits = (edit("s", kind="segment", action="created"), edit("b"), deletion("a"))

    items = await rig.elsewhere.commit(commit(base, *edits))

    changes = await rig.log.since(base, 100)
    assert [change.entity for change in changes] == [
        entity("segment", "staging", "s"),
        entity("flag", "staging", "b"),
        entity("flag", "staging", "a"),
    ]
    assert [change.revision for change in changes] == [item.revision for item in items]
    assert [change.version for change in changes] == [1, 1, 2]
    assert [change.action for change in changes] == ["created", "updated", "deleted"]
    assert [change.deleted for change in changes] == [False, False, True]
    assert {(change.actor, change.comment, change.at) for change in changes} == {
        ("ana", "because", items[0].at)
    }
    assert len({change.id for change in changes}) == 3
    assert await rig.log.since(base, 100, kind="segment") == changes[:1]
    assert await rig.outbox.unsent_changes(100) == await rig.log.since(0, 100)


async def test_a_snapshot_holds_the_pointers_of_flags(rig: Rig) -> None:
    base = await write(rig.store, edit("a"), edit("s", kind="segment"))
    items = await rig.store.commit(commit(base, edit("a"), deletion("a"), edit("b")))

    snapshot = await rig.log.snapshot()

    def pointer_facts(about: Entity) -> tuple[int, int, bool]:
        pointer = snapshot.pointers[about.key]
        assert pointer.entity == about
        assert pointer.actor == "ana"
        return pointer.version, pointer.revision, pointer.deleted

    assert snapshot.revision == items[-1].revision
    assert len(snapshot.pointers) == 3
    assert pointer_facts(entity("flag", "staging", "a")) == (3, items[1].revision, True)
    assert pointer_facts(entity("flag", "staging", "b")) == (1, items[2].revision, False)
    assert pointer_facts(entity("segment", "staging", "s")) == (1, base, False)


async def test_a_commit_is_audited(rig: Rig) -> None:
    items = await rig.store.commit(commit(0, edit("a"), edit("s", kind="segment")))

    rows = await rig.audit()

    assert [(row["kind"], row["environment"], row["name"]) for row in rows] == [
        ("flag", "staging", "a"),
        ("segment", "staging", "s"),
    ]
    assert [(row["version"], row["revision"]) for row in rows] == [
        (item.version, item.revision) for item in items
    ]
    assert {(row["actor"], row["action"], row["request_id"]) for row in rows} == {
        ("ana", "updated", "request-1")
    }


async def test_a_commit_wakes_who_waits_for_changes(rig: Rig) -> None:
    base = 0
    for _ in range(5):  # more than once: the first may end for having just begun to listen
        waiting = asyncio.create_task(rig.log.wait_for_change(within=10))
        base = await write(rig.elsewhere, edit(), base=base)
        committed = monotonic()
        await waiting
        assert monotonic() - committed < SLACK_SECONDS


async def test_old_changes_of_flags_are_trimmed_and_their_versions_stay(rig: Rig) -> None:
    base = 0
    for _ in range(3):
        base = await write(rig.store, edit(), base=base)

    assert await rig.maintenance.trim(-60, keep=1, relayed=False) == 2  # as if a minute had passed

    (change,) = await rig.log.since(0, 10)
    assert change.version == 3
    assert len(await rig.store.history("flag", "staging", "banner", limit=10)) == 3


# Usage


async def test_evaluations_add_up(rig: Rig) -> None:
    await rig.store.count({("staging", "a"): {"on": 2, "off": 1}, ("staging", "b"): {"": 7}}, NOW)
    later = NOW + timedelta(minutes=1)
    await rig.elsewhere.count(
        {("staging", "a"): {"on": 40, "half": 5}, ("production", "a"): {"on": 1}}, later
    )

    assert await rig.store.usage("staging") == {
        "a": FlagUsage({"on": 42, "off": 1, "half": 5}, later),
        "b": FlagUsage({"": 7}, NOW),
    }
    assert await rig.store.usage("production") == {"a": FlagUsage({"on": 1}, later)}
    assert await rig.store.usage("nowhere") == {}


async def test_the_last_moment_never_goes_back(rig: Rig) -> None:
    await rig.store.count({("staging", "a"): {"on": 1}}, NOW)

    await rig.store.count({("staging", "a"): {"on": 1}}, NOW - timedelta(hours=1))

    assert await rig.store.usage("staging") == {"a": FlagUsage({"on": 2}, NOW)}


async def test_more_evaluations_are_counted_than_fit_into_32_bits(rig: Rig) -> None:
    await rig.store.count({("staging", "a"): {"on": 2**40}}, NOW)
    await rig.store.count({("staging", "a"): {"on": 1}}, NOW)

    assert (await rig.store.usage("staging"))["a"].counts == {"on": 2**40 + 1}


async def test_nothing_to_count_counts_nothing(rig: Rig) -> None:
    await rig.store.count({}, NOW)
    await rig.store.count({("staging", "a"): {}}, NOW)

    assert await rig.store.usage("staging") == {}


async def test_many_who_count_at_once_lose_nothing(rig: Rig) -> None:
    used = {("staging", f"flag-{number}"): {"on": 1, "off": 1} for number in range(50)}
    backwards = dict(reversed(used.items()))

    await asyncio.gather(
        *(rig.store.count(used, NOW) for _ in range(10)),
        *(rig.elsewhere.count(backwards, NOW) for _ in range(10)),
    )

    usage = await rig.store.usage("staging")
    assert len(usage) == 50
    assert {tuple(sorted(of.counts.items())) for of in usage.values()} == {
        (("off", 20), ("on", 20))
    }


# Outages


def every_call(store: FlagStore) -> Sequence[Coroutine[Any, Any, object]]:
    return (
        store.commit(commit_with_key(0, edit())),
        store.commit_by_idempotency_key("key"),
        store.delete_expired_keys(),
        store.items_after(0, 10),
        store.history("flag", "staging", "banner", 10),
        store.count({("staging", "a"): {"on": 1}}, NOW),
        store.usage("staging"),
        store.ping(),
    )


async def test_the_store_answers_a_ping(rig: Rig) -> None:
    await rig.store.ping()


async def test_every_call_names_an_outage_in_time(rig: Rig) -> None:
    await rig.store.ping()

    await rig.cut()

    for call in every_call(rig.store):
        began = monotonic()
        with pytest.raises(FlagsUnavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS
