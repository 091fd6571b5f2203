"""What any ChangeLog must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from app.changes.errors import Gap, IntentNotFound
from app.changes.log.embedded import EmbeddedChangeLog
from app.changes.log.port import ChangeLog
from app.changes.log.postgres import PostgresChangeLog
from app.changes.model import Action, Change, Disclosure, Entity, Intent, Pointer, Written
from app.errors import Unavailable
from app.postgres.engine import open_engine
from app.sqlite.state import SQLiteState
from tests.servers.deadlines import PATIENT_SECONDS
from tests.servers.process import SLACK_SECONDS

NOW = datetime.now(UTC).replace(microsecond=123456)
DAY = 24 * 3600
TIMESTAMPS = (
    ("changes", "at"),
    ("changes", "logged_at"),
    ("changes", "sent_at"),
    ("documents", "updated_at"),
    ("intents", "at"),
    ("intents", "look_after"),
    ("claims", "at"),
)
TABLES = ("audit", "changes", "claims", "documents", "horizon", "intents")


@dataclass
class Rig:
    """One adapter on the bench: its wire can be cut and what it stored can grow old."""

    log: ChangeLog
    elsewhere: ChangeLog  # another writer of the same log, in another replica where there are any
    reopen: Callable[[], Awaitable[ChangeLog]]  # after a restart; `log` may be closed by it
    cut: Callable[[], Awaitable[None]]
    age: Callable[[float], Awaitable[None]]
    audit: Callable[[], Awaitable[list[dict[str, Any]]]]
    columns: Callable[[], Awaitable[set[str]]]


async def embedded(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    folder: Path = request.getfixturevalue("tmp_path")
    state = SQLiteState(folder)
    stack.push_async_callback(state.close)
    log = EmbeddedChangeLog(state)

    async def reopen() -> ChangeLog:
        await state.close()
        reopened = SQLiteState(folder)
        stack.push_async_callback(reopened.close)
        return EmbeddedChangeLog(reopened)

    def shift(connection: sqlite3.Connection, seconds: float) -> None:
        def earlier(at: str) -> str:
            moved = datetime.fromisoformat(at) - timedelta(seconds=seconds)
            return moved.isoformat(timespec="microseconds")

        connection.create_function("earlier", 1, earlier)
        for table, column in TIMESTAMPS:
            connection.execute(
                f"UPDATE {table} SET {column} = earlier({column}) WHERE {column} IS NOT NULL"
            )

    def audit(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        rows = connection.execute("SELECT * FROM audit ORDER BY id")
        return [{**row, "facts": row["facts"] and json.loads(row["facts"])} for row in rows]

    def columns(connection: sqlite3.Connection) -> set[str]:
        return {
            f"{table}.{column['name']}"
            for table in TABLES
            for column in connection.execute(f"PRAGMA table_info({table})")
        }

    return Rig(
        log=log,
        elsewhere=log,
        reopen=reopen,
        cut=state.close,
        age=lambda seconds: state.run(partial(shift, seconds=seconds)),
        audit=lambda: state.read(audit),
        columns=lambda: state.read(columns),
    )


async def postgres(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Rig:
    server = request.getfixturevalue("postgres_server")
    url = server.migrated_database()
    stack.callback(server.drop, url)
    bench = await asyncpg.connect(url)
    stack.push_async_callback(bench.close)

    async def reopen() -> ChangeLog:
        log = PostgresChangeLog(open_engine(url, PATIENT_SECONDS), url)
        stack.push_async_callback(log.close)
        return log

    async def cut() -> None:
        database = url.rpartition("/")[2]
        outside = await asyncpg.connect(server.url)
        await outside.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await outside.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )
        await outside.close()

    async def age(seconds: float) -> None:
        for table, column in TIMESTAMPS:
            await bench.execute(
                f"UPDATE {table} SET {column} = {column} - $1::interval",
                timedelta(seconds=seconds),
            )

    async def audit() -> list[dict[str, Any]]:
        rows = await bench.fetch("SELECT * FROM audit ORDER BY id")
        return [{**row, "facts": row["facts"] and json.loads(row["facts"])} for row in rows]

    async def columns() -> set[str]:
        rows = await bench.fetch(
            "SELECT table_name || '.' || column_name AS name FROM information_schema.columns"
            " WHERE table_name = ANY($1)",
            TABLES,
        )
        return {row["name"] for row in rows}

    return Rig(
        log=await reopen(),
        elsewhere=await reopen(),
        reopen=reopen,
        cut=cut,
        age=age,
        audit=audit,
        columns=columns,
    )


@pytest.fixture(
    params=[
        pytest.param(embedded, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


def entity(name: str = "checkout", environment: str = "staging", kind: str = "config") -> Entity:
    return Entity(kind, environment, name, key=f"{kind}:{environment}/{name}")


CHECKOUT = entity()


def intent(about: Entity = CHECKOUT, base: int = 0, *, action: Action = "updated") -> Intent:
    return Intent(
        id=str(uuid4()),
        entity=about,
        base=base,
        action=action,
        actor="ana",
        comment="because",
        request_id="request-1",
        at=NOW,
    )


def keyed(key: str, digest: str = "digest") -> Intent:
    return replace(intent(), idempotency_key=key, digest=digest)


def version_of(of: Intent, *, deleted: bool = False) -> Written:
    """Tell what the store holds after this intent was written."""
    return Written(of.base + 1, of.id, at=of.at, comment=of.comment, deleted=deleted)


async def write(log: ChangeLog, about: Entity = CHECKOUT, base: int = 0) -> Pointer:
    begun = await log.begin(intent(about, base))
    return await log.advance(about, [version_of(begun)])


async def changes_of(log: ChangeLog, about: Entity = CHECKOUT) -> list[Change]:
    return list(reversed(await log.history(about.key, limit=1000)))


async def due(log: ChangeLog) -> list[str]:
    return [found.id for found in await log.overdue_intents(100)]


# Intents


async def test_an_intent_is_found_as_it_was_begun(rig: Rig) -> None:
    begun = intent(action="rolled_back")

    assert await rig.log.begin(begun) == begun
    assert await rig.log.intent(begun.id) == begun


async def test_an_unknown_intent_is_not_found(rig: Rig) -> None:
    with pytest.raises(IntentNotFound):
        await rig.log.intent("ghost")


async def test_an_intent_begun_twice_is_begun_once(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    again = await rig.log.begin(begun)

    assert again.state == "applied"
    assert again == await rig.log.intent(begun.id)


async def test_a_retry_under_the_same_key_joins_the_first_intent(rig: Rig) -> None:
    first = await rig.log.begin(keyed("key"))

    assert await rig.log.begin(keyed("key")) == first
    assert await rig.log.intent_by_idempotency_key("key") == first


async def test_an_intent_of_another_request_under_the_key_is_told_by_its_digest(rig: Rig) -> None:
    await rig.log.begin(keyed("key", digest="one"))

    assert (await rig.log.begin(keyed("key", digest="two"))).digest == "one"


async def test_nobody_joins_a_key_never_used(rig: Rig) -> None:
    await rig.log.begin(intent())

    assert await rig.log.intent_by_idempotency_key("key") is None


async def test_intents_without_a_key_stay_apart(rig: Rig) -> None:
    first, second = intent(), intent()

    assert await rig.log.begin(first) == first
    assert await rig.log.begin(second) == second


async def test_a_key_is_remembered_for_a_day(rig: Rig) -> None:
    first = await rig.log.begin(keyed("key"))
    await rig.age(DAY - 3600)  # the intent is as old as this module

    assert (await rig.log.begin(keyed("key"))).id == first.id
    joined = await rig.log.intent_by_idempotency_key("key")
    assert joined is not None
    assert joined.id == first.id


async def test_a_key_is_free_after_a_day(rig: Rig) -> None:
    first = await rig.log.begin(keyed("key"))
    await rig.age(DAY + 60)
    assert await rig.log.intent_by_idempotency_key("key") is None

    second = keyed("key")

    assert await rig.log.begin(second) == second
    assert await rig.log.intent_by_idempotency_key("key") == second
    assert (await rig.log.intent(first.id)).idempotency_key is None


async def test_requests_that_race_under_one_key_share_one_intent(rig: Rig) -> None:
    racing = [(rig.log, rig.elsewhere)[number % 2].begin(keyed("key")) for number in range(10)]

    assert len({begun.id for begun in await asyncio.gather(*racing)}) == 1


async def test_requests_that_race_for_a_key_just_freed_share_one_intent(rig: Rig) -> None:
    first = await rig.log.begin(keyed("key"))
    await rig.age(DAY + 60)

    racing = [(rig.log, rig.elsewhere)[number % 2].begin(keyed("key")) for number in range(10)]

    ids = {begun.id for begun in await asyncio.gather(*racing)}
    assert len(ids) == 1
    assert first.id not in ids


# Advancing


async def test_a_written_version_is_logged_as_the_writers_change(rig: Rig) -> None:
    begun = await rig.log.begin(intent(action="created"))

    pointer = await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert pointer == Pointer(CHECKOUT, 1, pointer.revision, deleted=False, at=NOW, actor="ana")
    assert await rig.log.pointer(CHECKOUT.key) == pointer
    assert await changes_of(rig.log) == [
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
    assert await rig.log.intent(begun.id) == replace(
        begun, state="applied", version=1, revision=pointer.revision
    )


async def test_a_logged_change_is_audited(rig: Rig) -> None:
    pointer = await write(rig.log)

    (row,) = await rig.audit()

    assert row["actor"] == "ana"
    assert row["action"] == "updated"
    assert (row["kind"], row["environment"], row["name"]) == ("config", "staging", "checkout")
    assert (row["version"], row["revision"]) == (1, pointer.revision)
    assert row["request_id"] == "request-1"


async def test_a_tombstone_moves_the_pointer_like_any_version(rig: Rig) -> None:
    await write(rig.log)
    begun = await rig.log.begin(intent(base=1, action="deleted"))

    pointer = await rig.log.advance(CHECKOUT, [version_of(begun, deleted=True)])

    assert (pointer.version, pointer.deleted) == (2, True)
    assert (await changes_of(rig.log))[-1].deleted
    assert not (await write(rig.log, base=2)).deleted


async def test_nothing_logged_is_no_pointer(rig: Rig) -> None:
    await rig.log.begin(intent())

    assert await rig.log.pointer(CHECKOUT.key) is None


async def test_a_version_nobody_announced_is_external(rig: Rig) -> None:
    elsewhere = Written(1, "somebody's own id", at=NOW - timedelta(days=9), comment="by hand")
    unreadable = Written(2, None)

    pointer = await rig.log.advance(CHECKOUT, [elsewhere, unreadable])

    first, second = await changes_of(rig.log)
    assert [change.action for change in (first, second)] == ["external", "external"]
    assert [change.actor for change in (first, second)] == ["external", "external"]
    assert [change.comment for change in (first, second)] == ["by hand", ""]
    assert len({first.id, second.id, "somebody's own id"}) == 3
    assert first.at > NOW - timedelta(days=1)  # the log's own clock: the text is anybody's
    assert (pointer.version, pointer.actor) == (2, "external")
    assert [row["action"] for row in await rig.audit()] == ["external", "external"]


async def test_a_copied_document_that_carries_an_old_id_is_external(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    first = await rig.log.advance(CHECKOUT, [version_of(begun)])

    await rig.log.advance(CHECKOUT, [Written(2, begun.id)])

    assert [change.action for change in await changes_of(rig.log)] == ["updated", "external"]
    applied = await rig.log.intent(begun.id)
    assert (applied.state, applied.version) == ("applied", 1)
    assert applied.revision == first.revision


async def test_an_id_of_another_document_is_external(rig: Rig) -> None:
    begun = await rig.log.begin(intent(entity("payments")))

    await rig.log.advance(CHECKOUT, [Written(1, begun.id)])

    assert (await changes_of(rig.log))[0].action == "external"
    assert (await rig.log.intent(begun.id)).state == "open"


async def test_an_id_at_another_version_than_its_base_allows_is_external(rig: Rig) -> None:
    begun = await rig.log.begin(intent(base=0))

    await rig.log.advance(CHECKOUT, [Written(1, None), Written(2, begun.id)])

    assert [change.action for change in await changes_of(rig.log)] == ["external", "external"]
    assert (await rig.log.intent(begun.id)).state == "lost"


async def test_of_two_intents_on_one_base_the_other_is_lost(rig: Rig) -> None:
    winner, loser = await rig.log.begin(intent()), await rig.log.begin(intent())

    await rig.log.advance(CHECKOUT, [version_of(winner)])

    assert (await rig.log.intent(winner.id)).state == "applied"
    assert await rig.log.intent(loser.id) == replace(loser, state="lost")


async def test_an_intent_on_the_newest_version_stays_open(rig: Rig) -> None:
    ahead = await rig.log.begin(intent(base=1))

    await write(rig.log)

    assert (await rig.log.intent(ahead.id)).state == "open"


async def test_an_intent_begun_on_a_base_already_passed_is_lost_with_nothing_new(rig: Rig) -> None:
    pointer = await write(rig.log)
    late = await rig.log.begin(intent(base=0))

    assert await rig.log.advance(CHECKOUT, [Written(1, "whoever came first")]) == pointer

    assert (await rig.log.intent(late.id)).state == "lost"


async def test_an_expired_intent_is_applied_when_its_version_appears(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    await rig.log.expire(begun.id)
    assert (await rig.log.intent(begun.id)).state == "expired"

    await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert (await rig.log.intent(begun.id)).state == "applied"


async def test_an_expired_intent_is_lost_when_another_version_appears(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    await rig.log.expire(begun.id)

    await write(rig.log)

    assert (await rig.log.intent(begun.id)).state == "lost"


async def test_a_decided_intent_does_not_expire(rig: Rig) -> None:
    loser = await rig.log.begin(intent())
    begun = await rig.log.begin(intent())
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    await rig.log.expire(begun.id)
    await rig.log.expire(loser.id)

    assert (await rig.log.intent(begun.id)).state == "applied"
    assert (await rig.log.intent(loser.id)).state == "lost"


async def test_versions_logged_twice_are_logged_once(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    first = await rig.log.advance(CHECKOUT, [version_of(begun)])

    assert await rig.log.advance(CHECKOUT, [version_of(begun)]) == first
    assert await rig.log.advance(CHECKOUT, []) == first

    assert len(await changes_of(rig.log)) == 1
    assert len(await rig.audit()) == 1
    assert (await rig.log.intent(begun.id)).state == "applied"


async def test_versions_already_logged_are_passed_over(rig: Rig) -> None:
    await write(rig.log)

    pointer = await rig.log.advance(CHECKOUT, [Written(1, None), Written(2, None)])

    assert pointer.version == 2
    assert [change.version for change in await changes_of(rig.log)] == [1, 2]
    assert [change.action for change in await changes_of(rig.log)] == ["updated", "external"]


async def test_an_older_version_leaves_the_pointer_where_it_is(rig: Rig) -> None:
    await write(rig.log)
    pointer = await write(rig.log, base=1)

    assert await rig.log.advance(CHECKOUT, [Written(1, None)]) == pointer


async def test_the_second_version_cannot_be_logged_before_the_first(rig: Rig) -> None:
    first, second = await rig.log.begin(intent()), await rig.log.begin(intent(base=1))

    with pytest.raises(Gap) as gap:
        await rig.log.advance(CHECKOUT, [version_of(second)])

    assert gap.value.logged == 0
    assert await rig.log.pointer(CHECKOUT.key) is None
    assert (await rig.log.snapshot()).pointers == {}
    assert await changes_of(rig.log) == []
    assert {(await rig.log.intent(i.id)).state for i in (first, second)} == {"open"}
    both = await rig.log.advance(CHECKOUT, [version_of(first), version_of(second)])
    assert [change.id for change in await changes_of(rig.log)] == [first.id, second.id]
    assert both.version == 2


async def test_a_gap_tells_where_the_log_ends_and_changes_nothing(rig: Rig) -> None:
    pointer = await write(rig.log)
    waiting = await rig.log.begin(intent(base=0))

    for versions in ([3], [2, 4], [1, 2, 4]):
        with pytest.raises(Gap) as gap:
            await rig.log.advance(CHECKOUT, [Written(version, None) for version in versions])
        assert gap.value.logged == 1

    assert await rig.log.pointer(CHECKOUT.key) == pointer
    assert len(await changes_of(rig.log)) == 1
    assert (await rig.log.intent(waiting.id)).state == "open"


async def test_a_version_found_by_many_at_once_is_logged_once(rig: Rig) -> None:
    for base in range(3):
        begun = await rig.log.begin(intent(base=base))

        found = await asyncio.gather(
            *(log.advance(CHECKOUT, [version_of(begun)]) for log in (rig.log, rig.elsewhere) * 5)
        )

        assert len(set(found)) == 1
        assert len(await changes_of(rig.log)) == base + 1
        assert len(await rig.audit()) == base + 1


async def test_an_acknowledged_change_is_there_after_a_restart(rig: Rig) -> None:
    pointer = await write(rig.log)
    waiting = await rig.log.begin(intent(base=1))

    log = await rig.reopen()

    assert await log.pointer(CHECKOUT.key) == pointer
    assert await log.intent(waiting.id) == waiting
    assert (await write(log, base=1)).revision > pointer.revision


# Reconciling


async def test_a_fresh_intent_is_left_alone_for_three_seconds(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    assert await due(rig.log) == []

    await rig.age(2)
    assert await due(rig.log) == []

    await rig.age(1.5)
    assert await due(rig.log) == [begun.id]


async def test_overdue_intents_come_oldest_first_and_not_all_at_once(rig: Rig) -> None:
    young = await rig.log.begin(intent())
    old = await rig.log.begin(replace(intent(), at=NOW - timedelta(minutes=2)))
    middle = await rig.log.begin(replace(intent(), at=NOW - timedelta(minutes=1)))
    await rig.age(4)

    assert await due(rig.log) == [old.id, middle.id, young.id]
    assert [found.id for found in await rig.log.overdue_intents(2)] == [old.id, middle.id]


async def test_decided_intents_are_not_overdue(rig: Rig) -> None:
    await rig.log.begin(intent())
    await write(rig.log)
    await rig.age(DAY)

    assert await due(rig.log) == []


async def test_an_expired_intent_is_looked_at_later_and_later(rig: Rig) -> None:
    begun = await rig.log.begin(intent())

    for wait in (2, 4, 8):
        await rig.log.expire(begun.id)
        await rig.age(wait - 1)
        assert await due(rig.log) == []
        await rig.age(1.5)
        assert await due(rig.log) == [begun.id]


async def test_an_expired_intent_is_looked_at_once_an_hour_for_ever(rig: Rig) -> None:
    begun = await rig.log.begin(intent())
    for _ in range(70):
        await rig.log.expire(begun.id)

    await rig.age(3500)
    assert await due(rig.log) == []

    await rig.age(101)
    assert await due(rig.log) == [begun.id]


async def test_expiring_an_unknown_intent_does_nothing(rig: Rig) -> None:
    await rig.log.expire("ghost")

    assert await due(rig.log) == []


async def test_a_task_is_claimed_once_in_its_time(rig: Rig) -> None:
    assert await rig.log.acquire_turn("scan", every=10)
    assert not await rig.elsewhere.acquire_turn("scan", every=10)
    assert await rig.elsewhere.acquire_turn("reconcile", every=10)

    await rig.age(9)
    assert not await rig.log.acquire_turn("scan", every=10)

    await rig.age(2)
    assert await rig.elsewhere.acquire_turn("scan", every=10)
    assert not await rig.log.acquire_turn("scan", every=10)


async def test_of_many_who_claim_at_once_one_is_told_yes(rig: Rig) -> None:
    claims = [log.acquire_turn("scan", every=10) for log in (rig.log, rig.elsewhere) * 5]

    assert sum(await asyncio.gather(*claims)) == 1


# Reading the log


async def test_revisions_ascend_over_all_documents(rig: Rig) -> None:
    payments = entity("payments")
    pointers = [
        await write(rig.log),
        await write(rig.log, payments),
        await write(rig.log, base=1),
        await write(rig.log, payments, base=1),
    ]

    logged = await rig.log.since(0, limit=100)

    assert [change.revision for change in logged] == [pointer.revision for pointer in pointers]
    assert logged == sorted(logged, key=lambda change: change.revision)
    assert len({change.revision for change in logged}) == 4


async def test_the_log_is_read_on_from_a_revision_in_batches(rig: Rig) -> None:
    for base in range(5):
        await write(rig.log, base=base)
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
        await write(rig.log, about)

    async def found(**filters: str) -> list[Entity]:
        return [change.entity for change in await rig.log.since(0, 100, **filters)]

    assert await found() == list(entities)
    assert await found(environment="production") == [entities[1], entities[2], entities[3]]
    assert await found(name="checkout", kind="config") == [entities[0], entities[1]]
    assert await found(kind="flag") == [entities[3]]
    assert await found(environment="production", name="payments") == [entities[2]]
    assert await found(environment="nowhere") == []


async def test_history_goes_back_from_a_version(rig: Rig) -> None:
    for base in range(5):
        await write(rig.log, base=base)
    await write(rig.log, entity("payments"))

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
    await write(rig.log)
    payments = await write(rig.log, entity("payments"))
    checkout = await write(rig.log, base=1)

    snapshot = await rig.log.snapshot()

    assert snapshot.revision == checkout.revision
    assert snapshot.pointers == {pointer.entity.key: pointer for pointer in (payments, checkout)}


async def test_no_pointer_in_a_snapshot_is_older_than_its_revision(rig: Rig) -> None:
    writing = busy_writers(rig, tasks=4, rounds=4)
    snapshots = []
    while not writing.done():
        snapshots.append(await rig.elsewhere.snapshot())
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
        followed += await rig.elsewhere.since(last, limit=1000)
    await writing
    followed += await rig.elsewhere.since(followed[-1].revision, limit=1000)

    assert followed == await rig.log.since(0, limit=1000)
    assert {change.entity for change in followed} == {entity(f"s{n}") for n in range(20)}
    for number in range(20):
        logged = [change.version for change in followed if change.entity == entity(f"s{number}")]
        assert logged == list(range(1, len(logged) + 1))


def busy_writers(rig: Rig, *, tasks: int, rounds: int) -> asyncio.Future[list[None]]:
    """Write two documents a task: one by one, and many at once, which takes longer to commit."""

    async def writer(number: int) -> None:
        log = (rig.log, rig.elsewhere)[number % 2]
        single, bulk = entity(f"s{2 * number}"), entity(f"s{2 * number + 1}")
        for base in range(rounds):
            await write(log, single, base)
            found = range(20 * base + 1, 20 * base + 21)
            await log.advance(bulk, [Written(version, None) for version in found])

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
        await write(rig.log, base=base)
        began = monotonic()
        await rig.log.wait_for_change(within=10)
        assert monotonic() - began < SLACK_SECONDS


async def test_waiting_ends_when_nothing_happens(rig: Rig) -> None:
    await rig.log.wait_for_change(within=0.5)  # may end for having just begun to listen

    began = monotonic()
    await rig.log.wait_for_change(within=0.1)

    assert 0.05 < monotonic() - began < SLACK_SECONDS


# Sending


async def unsent(log: ChangeLog, limit: int = 100) -> list[int]:
    return [change.revision for change in await log.unsent_changes(limit)]


async def test_changes_wait_to_be_sent_in_the_order_of_the_log(rig: Rig) -> None:
    for base in range(3):
        await write(rig.log, base=base)
        await write(rig.log, entity("payments"), base=base)
    every = await rig.log.since(0, limit=100)

    assert await rig.log.unsent_changes(limit=100) == every
    assert await rig.log.unsent_changes(limit=2) == every[:2]


async def test_what_is_marked_as_sent_is_sent_for_ever(rig: Rig) -> None:
    revisions = [(await write(rig.log, base=base)).revision for base in range(4)]

    await rig.log.mark_sent([revisions[0], revisions[2]])
    await rig.elsewhere.mark_sent([revisions[2]])
    await rig.log.mark_sent([])

    assert await unsent(rig.elsewhere) == [revisions[1], revisions[3]]
    assert await unsent(await rig.reopen()) == [revisions[1], revisions[3]]


async def test_sent_changes_stay_in_the_log(rig: Rig) -> None:
    pointer = await write(rig.log)
    every = await rig.log.since(0, limit=10)

    await rig.log.mark_sent([pointer.revision])

    assert await rig.log.since(0, limit=10) == every
    assert await rig.log.history(CHECKOUT.key, limit=10) == every


async def test_the_oldest_unsent_change_tells_its_age(rig: Rig) -> None:
    assert await rig.log.oldest_unsent() is None

    first = await write(rig.log)
    await rig.age(100)
    second = await write(rig.log, base=1)
    both = await rig.log.oldest_unsent()
    await rig.log.mark_sent([first.revision])
    one = await rig.log.oldest_unsent()
    await rig.log.mark_sent([second.revision])

    assert both is not None
    assert 100 <= both < 160
    assert one is not None
    assert 0 <= one < 60
    assert await rig.log.oldest_unsent() is None


async def test_an_age_counts_from_the_log_and_not_from_the_writers_clock(rig: Rig) -> None:
    early = replace(intent(), at=NOW - timedelta(days=3))
    begun = await rig.log.begin(early)
    await rig.log.advance(CHECKOUT, [version_of(begun)])

    waiting = await rig.log.oldest_unsent()

    assert waiting is not None
    assert waiting < 60


async def test_one_leads_after_the_other(rig: Rig) -> None:
    for log in (rig.log, rig.elsewhere, rig.log):
        async with log.lead() as lead:
            assert lead.is_held


# Trimming


async def trimmed(log: ChangeLog, *, keep: int = 1, relayed: bool = True) -> int:
    deleted = 0
    while some := await log.trim(60, keep, relayed=relayed):
        deleted += some
    return deleted


async def versions_of(log: ChangeLog, about: Entity = CHECKOUT) -> list[int]:
    return [change.version for change in await changes_of(log, about)]


async def test_a_log_never_trimmed_has_no_horizon(rig: Rig) -> None:
    await write(rig.log)

    assert await trimmed(rig.log) == 0
    assert await rig.log.horizon() == 0


async def test_what_was_sent_and_is_old_is_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig.log, base=base)).revision for base in range(4)]
    await rig.log.mark_sent(revisions)
    await rig.age(61)

    assert await trimmed(rig.log, keep=2) == 2

    assert await versions_of(rig.log) == [3, 4]
    assert await rig.elsewhere.horizon() == revisions[1]
    assert [change.revision for change in await rig.log.since(0, 10)] == revisions[2:]


async def test_what_is_young_is_not_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig.log, base=base)).revision for base in range(4)]
    await rig.log.mark_sent(revisions)
    await rig.age(59)

    assert await trimmed(rig.log) == 0


async def test_what_was_not_sent_is_not_trimmed(rig: Rig) -> None:
    revisions = [(await write(rig.log, base=base)).revision for base in range(4)]
    await rig.log.mark_sent([revisions[1]])
    await rig.age(DAY)

    assert await trimmed(rig.log) == 1

    assert await versions_of(rig.log) == [1, 3, 4]
    assert await rig.log.horizon() == revisions[1]


async def test_where_nothing_is_sent_nothing_waits_to_be_sent(rig: Rig) -> None:
    for base in range(4):
        await write(rig.log, base=base)
    await rig.age(61)

    assert await trimmed(rig.log, relayed=False) == 3
    assert await versions_of(rig.log) == [4]


async def test_of_each_entity_the_last_versions_stay(rig: Rig) -> None:
    payments = entity("payments")
    for base in range(5):
        await write(rig.log, base=base)
    for base in range(2):
        await write(rig.log, payments, base=base)
    await rig.age(61)

    assert await trimmed(rig.log, keep=3, relayed=False) == 2
    assert await trimmed(rig.log, keep=3, relayed=False) == 0

    assert await versions_of(rig.log) == [3, 4, 5]
    assert await versions_of(rig.log, payments) == [1, 2]


async def test_thousands_are_trimmed_some_at_a_time(rig: Rig) -> None:
    for first in range(1, 2502, 100):  # as many as a busy machine logs in time
        found = [Written(version, None) for version in range(first, min(first + 100, 2502))]
        pointer = await rig.log.advance(CHECKOUT, found)
    await rig.age(61)

    deleted = [await rig.log.trim(60, 1, relayed=False) for _ in range(4)]

    assert deleted == [1000, 1000, 500, 0]
    assert await rig.log.horizon() == pointer.revision - 1


async def test_a_trimmed_log_goes_on_as_before(rig: Rig) -> None:
    for base in range(3):
        last = await write(rig.log, base=base)
    await rig.age(61)
    await trimmed(rig.log, relayed=False)

    assert (await rig.log.snapshot()).revision == last.revision
    assert await rig.log.pointer(CHECKOUT.key) == (await rig.log.snapshot()).pointers[CHECKOUT.key]
    assert (await write(rig.log, base=3)).revision > last.revision
    assert await versions_of(rig.log) == [3, 4]


async def test_intents_that_are_decided_and_old_are_forgotten(rig: Rig) -> None:
    applied, lost = (replace(intent(), at=NOW - timedelta(days=2)) for _ in range(2))
    for one in (applied, lost):
        await rig.log.begin(one)
    await rig.log.advance(CHECKOUT, [version_of(applied)])

    assert await rig.log.forget(DAY) == 2
    assert await rig.log.forget(DAY) == 0
    for one in (applied, lost):
        with pytest.raises(IntentNotFound):
            await rig.log.intent(one.id)
    assert await versions_of(rig.log) == [1]


async def test_an_intent_that_is_young_or_undecided_is_not_forgotten(rig: Rig) -> None:
    young = await rig.log.begin(keyed("key"))
    await rig.log.advance(CHECKOUT, [version_of(young)])
    undecided = [replace(intent(base=1), at=NOW - timedelta(days=2)) for _ in range(2)]
    for one in undecided:
        await rig.log.begin(one)
    await rig.log.expire(undecided[0].id)

    assert await rig.log.forget(DAY) == 0
    assert (await rig.log.intent_by_idempotency_key("key") or young).state == "applied"
    pointer = await rig.log.advance(CHECKOUT, [version_of(undecided[0])])
    assert (await rig.log.intent(undecided[0].id)).revision == pointer.revision


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


# Outages


def every_call(log: ChangeLog) -> Sequence[Coroutine[Any, Any, object]]:
    return (
        log.begin(intent()),
        log.begin(keyed("key")),
        log.advance(CHECKOUT, [Written(1, None)]),
        log.pointer(CHECKOUT.key),
        log.intent("ghost"),
        log.intent_by_idempotency_key("key"),
        log.overdue_intents(10),
        log.expire("ghost"),
        log.snapshot(),
        log.since(0, 10),
        log.history(CHECKOUT.key, 10),
        log.count_recent(60),
        log.unsent_changes(10),
        log.mark_sent([1]),
        log.oldest_unsent(),
        log.trim(60, 1, relayed=True),
        log.forget(60),
        log.horizon(),
        log.record_disclosure(Disclosure(CHECKOUT, ("key",), "ana", "r-1")),
        log.acquire_turn("scan", 10),
        log.ping(),
    )


async def test_the_log_answers_a_ping(rig: Rig) -> None:
    await rig.log.ping()


async def test_every_call_names_an_outage_in_time(rig: Rig) -> None:
    await rig.log.ping()

    await rig.cut()

    for call in every_call(rig.log):
        began = monotonic()
        with pytest.raises(Unavailable):
            await call
        assert monotonic() - began < 1 + SLACK_SECONDS


async def test_waiting_for_changes_outlasts_an_outage(rig: Rig) -> None:
    await rig.log.wait_for_change(within=0.1)
    await rig.cut()

    began = monotonic()
    await rig.log.wait_for_change(within=0.1)
    await rig.log.wait_for_change(within=0.1)

    assert monotonic() - began < 1 + SLACK_SECONDS
