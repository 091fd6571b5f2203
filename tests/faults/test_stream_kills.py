"""Clients of the stream lose nothing when the replica that they hear is killed."""

import random
from collections.abc import Callable
from threading import Thread
from typing import TypeAlias

import pytest

from tests.faults.bugs_told import STREAM_BUGS
from tests.faults.checker_streams import check_streams
from tests.faults.crew import Crew
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.listeners import Audience, Listener
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

FORGETS = {"RESUME_AT_MOST": "0"}  # whoever missed anything there has to read everything again
FOLLOWS = Failpoint("before_follow", WAIT)


def flaws_of_streams(stage: Stage) -> list[str]:
    rows = stage.real.changes()
    final = {row["name"]: row["version"] for row in rows}  # the last of each stays
    return check_streams(stage.streams.lines(), final)


@pytest.mark.timeout(3600)  # two hundred kills in the whole form
def test_clients_who_go_on_elsewhere_see_every_final_state_and_nothing_go_back(
    stage: Stage, *, is_whole: bool
) -> None:
    seed = 22
    chance = random.Random(seed)
    replicas = stage.start_many({}, {}, FORGETS)

    with Audience(stage, replicas, seed) as audience:
        with Crew(stage, replicas, seed, members=3, documents=12) as crew:
            for _ in range(200 if is_whole else 4):
                crew.lives_through_a_kill(after=chance.randrange(20, 60))
        assert stage.violations() == []
        audience.hears(stage.real.changes()[-1]["revision"])

    assert flaws_of_streams(stage) == []


# --- seeded bugs, each in the story that brings it to light; without the bug all is well ---


def heard_elsewhere(stage: Stage, bug: str, **other_environment: str) -> None:
    """A client hears one replica, misses something, and goes on with another."""
    one, other = stage.start_many({"SEEDED_BUG": bug}, {"SEEDED_BUG": bug, **other_environment})
    writer = stage.client()
    listener = Listener(stage.streams, "listener")
    listener.hear_up_to(one, writer.write(one, "shop").revision)
    one.kill()
    missed = writer.write(other, "shop").revision
    follows(other, missed)
    listener.hear_up_to(other, missed)


def heard_where_too_much_was_missed(stage: Stage, bug: str) -> None:
    heard_elsewhere(stage, bug, **FORGETS)


def heard_where_little_is_known(stage: Stage, bug: str) -> None:
    """A client goes on with a replica that has not followed all that the log has."""
    one, other = stage.start_many({"FAILPOINT": ""}, {"SEEDED_BUG": bug})
    writer = stage.client()
    follows(other, writer.write(one, "shop").revision)
    stage.arm(FOLLOWS)
    wait_until(lambda: f"reached {FOLLOWS}" in other.log(), "it follows no more")
    unknown = writer.write(one, "shop").revision
    listener = Listener(stage.streams, "listener", last=0, reads=1)
    hearing = Thread(target=listener.hear_up_to, args=(other, unknown))
    hearing.start()
    wait_until(lambda: has_opened(stage) or not hearing.is_alive(), "it has heard the past")
    stage.arm()
    hearing.join()


def has_opened(stage: Stage) -> bool:
    return any('"opened"' in line for line in stage.streams.lines())


def follows(replica: ServiceProcess, revision: int | None) -> None:
    assert replica.request("GET", f"/api/configs?min_revision={revision}").status == 200


Story: TypeAlias = Callable[[Stage, str], None]
STORIES: dict[str, tuple[Story, str]] = {
    "resumes_from_now": (
        heard_elsewhere,
        "listener saw version 1 of shop last, version 2 is true",
    ),
    "hushes_reset": (
        heard_where_too_much_was_missed,
        "listener saw version 1 of shop last, version 2 is true",
    ),
    "tells_ahead": (
        heard_where_little_is_known,
        "listener reads version 1 of shop and was told of 2",
    ),
}


@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_turns_the_checker_red(stage: Stage, bug: str) -> None:
    story, violation = STORIES[bug]

    story(stage, bug)

    assert flaws_of_streams(stage) == [violation]


@pytest.mark.parametrize("bug", STORIES)
def test_the_same_story_without_the_bug_has_no_violation(stage: Stage, bug: str) -> None:
    story, _ = STORIES[bug]

    story(stage, "")

    assert flaws_of_streams(stage) == []


def test_every_seeded_bug_has_its_story() -> None:
    assert set(STORIES) == set(STREAM_BUGS)
