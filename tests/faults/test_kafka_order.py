"""Whatever is killed, Kafka hears of every change that is in the log, of no other, and in order."""

import json
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest

from tests.faults.bugs_told import RELAY_BUGS
from tests.faults.crew import Crew
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

RELAYING = ["relay:before_send", "relay:after_send", "relay:after_mark"]
HELD = Failpoint("relay:before_pick", WAIT)
KEY = "config:default/shop"


@pytest.fixture(scope="module")
def running(
    open_stage: Callable[[str], Stage], vault_server: object, kafka_server: object
) -> tuple[Stage, ServiceProcess]:
    stage = open_stage("told")
    return stage, stage.start()


@pytest.fixture
def stage_with_topic(
    open_stage: Callable[[str], Stage], vault_server: object, kafka_server: object
) -> Iterator[Stage]:
    """A stage of its own with a topic."""
    stage = open_stage("told")
    yield stage
    stage.close()


@pytest.mark.parametrize("point", RELAYING)
def test_a_relay_killed_at_any_step_goes_on_where_it_was(
    running: tuple[Stage, ServiceProcess], point: str
) -> None:
    stage, service = running
    clients = [stage.client() for _ in range(3)]

    stage.arm(HELD)
    for client in clients * 3:
        assert client.write(service, client.name).status == 200
    stage.arm(Failpoint(point))
    assert service.wait_for_exit() == -signal.SIGKILL
    stage.arm()
    service.restart()
    for client in clients:
        assert client.write(service, client.name).status == 200

    assert stage.violations() == []


@pytest.mark.timeout(3600)  # two hundred kills in the whole form
def test_kills_at_random_moments_hide_nothing_from_kafka(
    stage_with_topic: Stage, *, is_whole: bool
) -> None:
    """Of two replicas one relays, and the other takes over whenever that one is killed."""
    seed = 21
    chance = random.Random(seed)

    with Crew(stage_with_topic, stage_with_topic.start_many({}, {}), seed, members=4) as crew:
        for _ in range(200 if is_whole else 3):
            crew.lives_through_a_kill(after=chance.randrange(20, 60))

    assert stage_with_topic.violations() == []


# --- seeded bugs, each in the story that brings it to light; without the bug all is well ---


def killed_before_it_sends(stage: Stage, bug: str) -> None:
    service = stage.start(SEEDED_BUG=bug)
    stage.arm(Failpoint("relay:before_send"))
    stage.client().write(service, "shop")
    service.wait_for_exit()
    stage.arm()
    service.restart()


def frozen_before_it_sends(stage: Stage, bug: str) -> None:
    """Another replica sends what is written meanwhile."""
    sent = Failpoint("relay:after_send", "SIGCONT")
    stops = Failpoint("relay:before_send", "SIGSTOP")
    one = stage.start(SEEDED_BUG=bug, FAILPOINT=f"{stops},{sent}")
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(stage.client().write, one, "shop")
        wait_until(lambda: f"reached {stops}" in one.log(), "the relay is frozen")
        other = stage.start(SEEDED_BUG=bug)
        revision = stage.client().write(other, "shop").revision
        wait_until(lambda: is_heard(stage, revision), "the other one has sent")
        one.thaw()
        writing.result()
    wait_until(lambda: f"reached {sent}" in one.log(), "the first has sent")


def is_heard(stage: Stage, revision: int | None) -> bool:
    assert stage.topic is not None
    return revision in {json.loads(line)["revision"] for line in stage.topic.published_changes()}


def written_twice_before_it_looks(stage: Stage, bug: str) -> None:
    stage.arm(HELD)
    service = stage.start(SEEDED_BUG=bug)
    client = stage.client()
    wait_until(lambda: f"reached {HELD}" in service.log(), "the relay is held")
    client.write(service, "shop")
    client.write(service, "shop")
    stage.arm()


Story: TypeAlias = Callable[[Stage, str], None]
STORIES: dict[str, tuple[Story, str]] = {
    "sent_before_sending": (killed_before_it_sends, f"revision 1 of {KEY} is not heard of"),
    "claims_changes": (
        frozen_before_it_sends,
        f"revision 1 of {KEY} is heard of for the first time after 2",
    ),
    "newest_first": (
        written_twice_before_it_looks,
        f"revision 1 of {KEY} is heard of for the first time after 2",
    ),
}


@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_turns_the_checker_red(stage_with_topic: Stage, bug: str) -> None:
    story, violation = STORIES[bug]

    story(stage_with_topic, bug)

    assert stage_with_topic.violations() == [violation]


@pytest.mark.parametrize("bug", STORIES)
def test_the_same_story_without_the_bug_has_no_violation(stage_with_topic: Stage, bug: str) -> None:
    story, _ = STORIES[bug]

    story(stage_with_topic, "")

    assert stage_with_topic.violations() == []


def test_every_seeded_bug_has_its_story() -> None:
    assert set(STORIES) == set(RELAY_BUGS)
