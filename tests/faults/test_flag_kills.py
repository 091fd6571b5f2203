"""Replicas and Postgres are killed and frozen under those who write flags: nothing is lost."""

import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.faults.bugs_flags import FLAG_BUGS
from tests.faults.flag_stage import FlagClient, FlagCrew, FlagWrite, flaws
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import Stage
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.proxy import LossyProxy
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLED = -signal.SIGKILL
UNHEARD = (None, 503)
POINTS = [f"{when}_{step}" for step in ("repeat", "commit") for when in ("before", "after")]


@dataclass
class Pair:
    """Two replicas; the first one stops where a test says."""

    stage: Stage
    one: ServiceProcess
    other: ServiceProcess
    proxy: LossyProxy  # between the first one and Postgres

    def dies_while_asked(self, client: FlagClient, write: FlagWrite, point: str) -> None:
        self.stage.arm(Failpoint(point))
        assert client.ask(write, self.one) is None
        assert self.one.wait_for_exit() == KILLED
        self.stage.arm()
        self.one.restart()


@pytest.fixture(scope="module")
def pair(open_stage: Callable[[str], Stage], vault_server: object) -> Pair:
    stage = open_stage("real")
    proxy, way = stage.way_to_postgres()
    one, other = stage.start_many(way, {"FAILPOINT": ""})
    return Pair(stage, one, other, proxy)


@pytest.fixture
def client(pair: Pair, request: pytest.FixtureRequest) -> FlagClient:
    return FlagClient(pair.stage, request.node.name)


@pytest.mark.parametrize("point", POINTS)
def test_a_flag_created_at_a_kill_is_whole_or_not_there(
    pair: Pair, client: FlagClient, point: str
) -> None:
    write = client.new(f"new-{point}", "create")

    pair.dies_while_asked(client, write, point)
    assert client.ask(write, pair.other) == 201
    assert client.ask(write, pair.one) == 201

    assert client.look(write.name, pair.one)["version"] == 1
    assert flaws(pair.stage) == []


@pytest.mark.parametrize(
    ("action", "point"),
    [("edit", "before_commit"), ("edit", "after_commit"), ("delete", "after_commit")],
)
def test_a_flag_written_at_a_kill_is_whole_or_as_it_was(
    pair: Pair, client: FlagClient, action: Literal["edit", "delete"], point: str
) -> None:
    name = f"{action}-{point}"
    assert client.ask(client.new(name, "create"), pair.other) == 201
    write = client.new(name, action)

    pair.dies_while_asked(client, write, point)

    assert client.ask(client.new(name, "edit"), pair.one) in {200, 404}
    assert flaws(pair.stage) == []


@pytest.mark.parametrize("hang", [False, True], ids=["cut", "silent"])
def test_a_flag_whose_answer_is_lost_is_created_once(
    pair: Pair, client: FlagClient, *, hang: bool
) -> None:
    write = client.new(f"lost-{hang}", "create")

    lost = pair.proxy.dropped
    pair.proxy.drop_next_response(
        hang=hang, when=lambda sent: b"description" in sent and write.value.encode() in sent
    )
    first = client.ask(write, pair.one)
    pair.proxy.heal()
    gone = client.ask(client.new(write.name, "delete"), pair.other)
    again = client.ask(write, pair.one)

    assert (first, pair.proxy.dropped - lost) == (503, 1)
    assert (gone, again) == (204, 201)  # the one that was made, and not another
    assert client.look(write.name, pair.one)["status"] == 404
    assert flaws(pair.stage) == []


def test_a_commit_on_its_way_when_its_replica_dies_arrives_whole_or_not(
    pair: Pair, client: FlagClient
) -> None:
    waits = Failpoint("before_commit", WAIT)
    assert client.ask(client.new("way", "create"), pair.other) == 201
    seen = pair.one.log().count(f"reached {waits}")

    with ThreadPoolExecutor(1) as threads:
        pair.stage.arm(waits)
        asking = threads.submit(client.ask, client.new("way", "edit"), pair.one)
        wait_until(lambda: pair.one.log().count(f"reached {waits}") > seen, "it is about to commit")
        held = pair.proxy.held
        pair.proxy.hold()
        pair.stage.arm()
        wait_until(lambda: pair.proxy.held > held, "something is on its way")
        pair.one.kill()
        assert asking.result() in UNHEARD
    pair.proxy.heal()
    pair.one.restart()

    assert client.ask(client.new("way", "edit"), pair.one) == 200
    assert flaws(pair.stage) == []


def a_key_is_asked_twice(one: ServiceProcess, other: ServiceProcess, client: FlagClient) -> None:
    write = client.new("flag", "create")
    assert client.ask(write, one) == 201
    assert client.ask(client.new("flag", "delete"), one) == 204
    client.ask(write, one)


def a_flag_goes(one: ServiceProcess, other: ServiceProcess, client: FlagClient) -> None:
    assert client.ask(client.new("flag", "create"), one) == 201
    assert client.look("flag", other)["status"] == 200
    assert client.ask(client.new("flag", "delete"), one) == 204


STORIES = {
    "forgets_keys": (a_key_is_asked_twice, "was written 2 times"),
    "hides_deletes": (a_flag_goes, "shows flag otherwise than Postgres"),
    "unlogged_flags": (a_flag_goes, "is 0 times in the log"),
    "rewrites_history": (a_flag_goes, "and is not there"),
}


@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_turns_the_checker_red(stage: Stage, bug: str) -> None:
    story, violation = STORIES[bug]
    replicas = stage.start_many(*[{"SEEDED_BUG": bug}] * (1 + (bug == "hides_deletes")))

    story(replicas[0], replicas[-1], FlagClient(stage, "ana"))

    assert any(violation in found for found in flaws(stage))


@pytest.mark.parametrize("story", [a_key_is_asked_twice, a_flag_goes])
def test_the_same_stories_without_the_bug_have_no_violation(
    pair: Pair, client: FlagClient, story: Callable[..., None]
) -> None:
    story(pair.one, pair.other, client)

    assert flaws(pair.stage) == []


def test_every_seeded_bug_of_flags_has_its_story() -> None:
    assert set(STORIES) == set(FLAG_BUGS)


@pytest.mark.timeout(1800)  # a hundred faults in the whole form
def test_faults_of_replicas_and_of_postgres_lose_no_flag(
    stage: Stage, postgres_server: PostgresServer, *, is_whole: bool
) -> None:
    seed = 30
    chance = random.Random(seed)
    replicas = stage.start_many({}, {}, {})

    def kills_a_replica() -> None:
        killed = chance.choice(replicas)
        killed.kill()
        killed.restart()

    def kills_postgres() -> None:
        postgres_server.kill()
        postgres_server.restart()

    def restarts_postgres() -> None:
        postgres_server.stop()
        postgres_server.restart()

    def freezes_postgres() -> None:
        postgres_server.freeze()
        crew.does(12)  # of answers that say so
        postgres_server.thaw()

    faults = [kills_a_replica, kills_postgres, freezes_postgres, restarts_postgres]
    with FlagCrew(stage, replicas, seed) as crew:
        for number in range(100 if is_whole else len(faults)):
            crew.does(chance.randrange(15, 40))
            faults[number % len(faults)]()
        crew.does(20)

    assert flaws(stage) == []
