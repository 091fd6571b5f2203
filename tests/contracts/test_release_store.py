"""What any ReleaseStore must do. Runs once per adapter, with no exceptions for any."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from app.changes.model import Entity
from app.configs.errors import ReleaseRunning
from app.proposals.releases.errors import (
    ReleaseEnded,
    ReleaseMoved,
    ReleaseNotFound,
    ReleasesUnavailable,
)
from app.proposals.releases.model import Origin, Release, Selection, Subject
from tests.contracts.releasing import BILLING, ITEM, ORIGIN, PLAN, RIGS, Rig, move, new
from tests.servers.process import SLACK_SECONDS

CONTROLLER = Origin("release:r-1", comment="step 2 of 2")


@pytest.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def test_a_release_starts_at_its_first_step(rig: Rig) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)  # for a server whose clock differs

    started = await rig.store.start(new(item=ITEM, members=("b", "a")), ORIGIN)

    assert started == Release(
        id="r-1",
        version=1,
        subject=BILLING,
        plan=PLAN,
        keys=("db.pool.max",),
        base=3,
        item=ITEM,
        members=frozenset({"a", "b"}),
        state="running",
        step=0,
        step_since=started.started_at,
        started_at=started.started_at,
        started_by="ana",
        ended_at=None,
        signal="",
        actor="ana",
        comment="because",
        revision=started.revision,
    )
    assert began < started.started_at < began + timedelta(minutes=2)
    assert await rig.elsewhere.get("r-1") == started


async def test_a_start_is_logged_and_audited(rig: Rig) -> None:
    started = await rig.store.start(new(item=ITEM), ORIGIN)

    (change,) = await rig.log.since(0, 10)
    entity = Entity("release", "production", "billing/r-1", "releases/r-1")
    assert (change.entity, change.version, change.action) == (entity, 1, "created")
    assert (change.actor, change.comment, change.deleted) == ("ana", "because", False)
    assert change.revision == started.revision
    snapshot = await rig.log.snapshot()
    assert snapshot.pointers["releases/r-1"].version == 1
    (row,) = await rig.audit()
    assert (row["kind"], row["name"], row["action"]) == ("release", "billing/r-1", "created")
    assert (row["actor"], row["request_id"], row["source"]) == ("ana", "request-1", "192.0.2.1")
    assert (row["version"], row["revision"]) == (1, started.revision)
    assert json.loads(row["facts"]) == {"state": "running", "step": 0, "proposal": "p-7k2m"}


async def test_a_start_that_is_repeated_changes_nothing(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)
    moved = await rig.store.move(move(started, "aborted", signal="refused"), CONTROLLER)

    assert await rig.elsewhere.start(new(), ORIGIN) == moved
    assert len(await rig.log.since(0, 10)) == 2


async def test_a_layer_has_one_release_at_a_time(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)

    with pytest.raises(ReleaseRunning) as running:
        await rig.elsewhere.start(new("r-2"), ORIGIN)

    assert running.value.facts["release"] == "r-1"
    others = (
        replace(BILLING, environment="staging"),
        replace(BILLING, service="payments"),
        Subject("flag", "production", flag="new-pool"),
        Subject("flag", "production", flag="other"),
    )
    for number, subject in enumerate(others):
        await rig.store.start(new(f"other-{number}", subject), ORIGIN)
    await rig.store.move(move(started, "aborted"), CONTROLLER)
    assert (await rig.store.start(new("r-2"), ORIGIN)).state == "running"


async def test_of_many_starts_at_once_one_wins(rig: Rig) -> None:
    results = await asyncio.gather(
        *(
            (rig.store, rig.elsewhere)[number % 2].start(new(f"r-{number}"), ORIGIN)
            for number in range(10)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(result, Release) for result in results) == 1
    assert sum(isinstance(result, ReleaseRunning) for result in results) == 9


async def test_a_step_is_logged_and_begins_now(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)

    moved = await rig.store.move(move(started, step=1, restarts=True), CONTROLLER)

    assert moved == replace(
        started,
        version=2,
        step=1,
        step_since=moved.step_since,
        actor="release:r-1",
        comment="step 2 of 2",
        revision=moved.revision,
    )
    assert moved.step_since > started.step_since
    assert await rig.elsewhere.get("r-1") == moved
    change = (await rig.log.since(0, 10))[-1]
    assert (change.version, change.action, change.actor) == (2, "updated", "release:r-1")
    assert change.revision == moved.revision
    row = (await rig.audit())[-1]
    assert (row["action"], row["version"]) == ("updated", 2)
    assert json.loads(row["facts"]) == {"state": "running", "step": 1}


async def test_members_and_the_begin_of_a_step_stay_unless_stated(rig: Rig) -> None:
    started = await rig.store.start(new(members=("a",)), ORIGIN)

    held = await rig.store.move(move(started, "held"), CONTROLLER)
    picked = await rig.store.move(move(held, "held", members={"b", "c"}), CONTROLLER)

    assert (held.members, held.step_since) == (frozenset({"a"}), started.step_since)
    assert (picked.members, picked.step_since) == (frozenset({"b", "c"}), started.step_since)


@pytest.mark.parametrize("state", ["aborted", "done"])
async def test_an_end_is_for_ever(rig: Rig, state: str) -> None:
    started = await rig.store.start(new(item=ITEM), ORIGIN)

    ended = await rig.store.move(move(started, state, signal="refused"), CONTROLLER)  # type: ignore[arg-type]

    assert ended.ended_at is not None
    assert ended.ended_at > started.started_at
    assert (ended.state, ended.signal) == (state, "refused")
    facts = {"state": state, "step": 0, "signal": "refused", "proposal": "p-7k2m"}
    assert json.loads((await rig.audit())[-1]["facts"]) == facts
    with pytest.raises(ReleaseEnded) as refused:
        await rig.elsewhere.move(move(ended, step=1), CONTROLLER)
    assert refused.value.facts["state"] == state
    assert await rig.store.get("r-1") == ended
    assert len(await rig.log.since(0, 10)) == 2


async def test_a_move_of_another_version_is_refused(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)
    await rig.store.move(move(started, step=1), CONTROLLER)

    with pytest.raises(ReleaseMoved) as moved:
        await rig.elsewhere.move(move(started, step=1), CONTROLLER)

    assert moved.value.facts["version"] == 2
    assert len(await rig.log.since(0, 10)) == 2


async def test_of_many_moves_at_once_one_wins(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)

    results = await asyncio.gather(
        *(
            (rig.store, rig.elsewhere)[number % 2].move(move(started, step=1), CONTROLLER)
            for number in range(10)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(result, Release) for result in results) == 1
    assert sum(isinstance(result, ReleaseMoved) for result in results) == 9


async def test_what_never_was_is_not_found(rig: Rig) -> None:
    started = await rig.store.start(new(), ORIGIN)

    with pytest.raises(ReleaseNotFound):
        await rig.store.get("r-2")
    with pytest.raises(ReleaseNotFound):
        await rig.store.move(replace(move(started), release="r-2"), CONTROLLER)


async def test_active_releases_come_with_the_time(rig: Rig) -> None:
    now, none = await rig.store.active()
    assert list(none) == []
    first = await rig.store.start(new(), ORIGIN)
    second = await rig.store.start(new("r-2", replace(BILLING, service="payments")), ORIGIN)
    held = await rig.store.move(move(first, "held"), CONTROLLER)

    later, active = await rig.elsewhere.active()

    assert active == [held, second]
    assert now <= first.started_at <= later
    await rig.store.move(move(second, "aborted"), CONTROLLER)
    assert (await rig.elsewhere.active())[1] == [held]


async def test_changed_releases_come_by_their_revision(rig: Rig) -> None:
    first = await rig.store.start(new(), ORIGIN)
    second = await rig.store.start(new("r-2", replace(BILLING, service="payments")), ORIGIN)
    ended = await rig.store.move(move(first, "aborted"), CONTROLLER)

    assert await rig.elsewhere.changed_after(0, 10) == [second, ended]
    assert await rig.elsewhere.changed_after(0, 1) == [second]
    assert await rig.elsewhere.changed_after(second.revision, 10) == [ended]
    assert await rig.elsewhere.changed_after(ended.revision, 10) == []


async def test_a_list_has_the_newest_first_and_is_read_page_by_page(rig: Rig) -> None:
    started = []
    for number in range(5):
        subject = replace(BILLING, service=f"service-{number}")
        started.append(await rig.store.start(new(f"r-{number}", subject), ORIGIN))

    first = await rig.elsewhere.page(Selection(), None, 3)
    rest = await rig.elsewhere.page(Selection(), (first[-1].started_at, first[-1].id), 3)

    assert [*first, *rest] == started[::-1]


async def test_a_list_is_filtered(rig: Rig) -> None:
    first = await rig.store.start(new(item=ITEM), ORIGIN)
    first = await rig.store.move(move(first, "aborted"), CONTROLLER)
    second = await rig.store.start(new("r-2"), ORIGIN)
    third = await rig.store.start(new("r-3", replace(BILLING, environment="staging")), ORIGIN)

    async def list_releases(**changes: object) -> list[Release]:
        return list(await rig.store.page(Selection(**changes), None, 10))  # type: ignore[arg-type]

    assert await list_releases(environment="production") == [second, first]
    assert await list_releases(service="payments") == []
    assert await list_releases(states=frozenset({"running"})) == [third, second]
    assert await list_releases(proposal="p-7k2m") == [first]
    assert await list_releases(environment="staging", states=frozenset({"done"})) == []


async def test_a_store_that_is_cut_off_fails_in_time(rig: Rig) -> None:
    await rig.store.start(new(), ORIGIN)
    await rig.cut()
    began = monotonic()

    with pytest.raises(ReleasesUnavailable):
        await rig.store.active()

    assert monotonic() - began < SLACK_SECONDS
