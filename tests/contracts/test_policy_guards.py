"""What any store owes a policy: no writer that has not seen the newest one gets past it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from app.changes.errors import GuardMoved, ReservationLost
from app.changes.model import Entity, Guard
from app.flags.model import Commit, Edit
from app.rules.definitions.model import Scope, entity
from app.rules.errors import PoliciesMoved
from tests.contracts.changes.changing import entity as document
from tests.contracts.changes.changing import intent
from tests.contracts.changes.rig import Rig, embedded_rig, postgres
from tests.contracts.defining import commit, edit

STAGING = Scope(("stag*",), ("check*",))
ELSEWHERE = Scope(("production",), ("*",))
FLAG = Edit("flag", "banner", "{}", "created")


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)


async def put_policy(rig: Rig, *scopes: Scope, base: int = 0) -> int:
    """Commit a policy, and return its revision."""
    made = edit("guard", base, '{"kinds":[]}', kind="policy", scopes=scopes)
    (written,) = await rig.definitions.commit(commit(made))
    return written.revision


def flags(environment: str, policies_at: int | None, base: int = 0) -> Commit:
    return Commit(environment, base, [FLAG], "ana", "", "r", policies_at=policies_at)


async def test_a_policy_has_a_place_of_its_own_in_the_log(rig: Rig) -> None:
    revision = await put_policy(rig, STAGING)

    (change,) = await rig.log.since(0, 10)
    assert change.entity == entity("policy", "guard")
    assert change.entity == Entity("policy", "default", "guard", "policies/guard")
    assert (await rig.log.snapshot()).pointers["policies/guard"].revision == revision
    (row,) = await rig.audit()
    assert (row["kind"], row["name"], row["revision"]) == ("policy", "guard", revision)


async def test_an_intent_judged_before_a_policy_is_sent_back(rig: Rig) -> None:
    revision = await put_policy(rig, STAGING)

    with pytest.raises(GuardMoved) as moved:
        await rig.intents.begin(intent(), Guard(revision - 1, covers_related=False))
    assert moved.value.revision == revision
    of_user = intent(document("checkout/ann"))
    with pytest.raises(GuardMoved):
        await rig.intents.begin(of_user, Guard(revision - 1, covers_related=False))

    assert await rig.intents.begin(intent(), Guard(revision, covers_related=False))


async def test_a_policy_for_others_sends_no_intent_back(rig: Rig) -> None:
    await put_policy(rig, ELSEWHERE)

    assert await rig.intents.begin(intent(), Guard(0, covers_related=False))


async def test_a_reservation_judged_before_a_policy_is_lost(rig: Rig) -> None:
    reserved = await rig.intents.reserve(intent())
    revision = await put_policy(rig, STAGING)

    with pytest.raises(ReservationLost):
        await rig.intents.confirm(reserved, revision - 1)
    confirmed = await rig.intents.confirm(reserved, revision)
    assert confirmed.state == "open"
    # Confirmed again, because the answer was lost, though a policy has come since.
    later = await put_policy(rig, STAGING, base=1)
    assert (await rig.intents.confirm(reserved, later - 1)).state == "open"


async def test_definitions_for_which_older_policies_were_asked_are_not_committed(rig: Rig) -> None:
    revision = await put_policy(rig, ELSEWHERE)
    late = replace(commit(edit("billing")), policies_at=revision - 1)

    with pytest.raises(PoliciesMoved):
        await rig.definitions.commit(late)

    assert await rig.definitions.history("schema", "billing", 1) == []
    await rig.definitions.commit(replace(late, policies_at=revision))


async def test_flags_for_which_older_policies_were_asked_are_not_committed(rig: Rig) -> None:
    revision = await put_policy(rig, STAGING)

    with pytest.raises(PoliciesMoved):
        await rig.flags.commit(flags("staging", revision - 1))
    assert await rig.flags.history("flag", "staging", "banner", 1) == []

    (item,) = await rig.flags.commit(flags("staging", revision))
    await rig.flags.commit(flags("production", revision - 1))  # of no policy
    await rig.flags.commit(flags("staging", None, item.revision))  # turned off: none is asked


async def test_a_deleted_policy_holds_up_no_writer(rig: Rig) -> None:
    await put_policy(rig, STAGING)
    gone = replace(edit("guard", 1, "", kind="policy", scopes=()), action="deleted")
    (deleted,) = await rig.definitions.commit(commit(gone))

    assert await rig.intents.begin(intent(), Guard(deleted.revision - 1, covers_related=False))
    await rig.flags.commit(flags("staging", deleted.revision - 1))
