"""A request reached the server, its answer was lost: the client is told the truth all the same."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.faults.history import Asked, Client, Told
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import FOLDER, Stage, reading, writing
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.proxy import LossyProxy, http_answer
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

UNKNOWN_SECONDS = 2.0
BEFORE_SENT = Failpoint("before_store", WAIT)


@dataclass
class Scene:
    """A document of one version, on a service that reaches a server through a proxy."""

    stage: Stage
    proxy: LossyProxy
    service: ServiceProcess
    client: Client
    lost_before: int

    @property
    def lost_answers(self) -> int:
        """How many answers have been lost in this scene."""
        return self.proxy.dropped - self.lost_before

    @property
    def name(self) -> str:
        return self.client.name

    def asks(self, write: Asked) -> Told:
        return self.stage.history.ask(write, self.service)

    def asks_in(self, threads: ThreadPoolExecutor, write: Asked) -> Future[Told]:
        """Ask in a thread, and keep the request where it is about to be sent to Vault."""
        before = self.times_held()
        self.stage.arm(BEFORE_SENT)
        asking = threads.submit(self.asks, write)
        wait_until(lambda: self.times_held() > before, "the write is about to be sent")
        return asking

    def times_held(self) -> int:
        return self.service.log().count(f"reached {BEFORE_SENT}")

    def lift(self) -> None:
        self.stage.arm()

    def asks_when_vault(self, changes: Callable[[], None], write: Asked) -> Told:
        """Ask, and let something happen to Vault in the moment before the write is sent."""
        with ThreadPoolExecutor(1) as threads:
            asking = self.asks_in(threads, write)
            changes()
            self.lift()
            return asking.result()

    def hangs_up(self) -> None:
        """No request reaches Vault."""
        self.proxy.refuse()
        self.proxy.cut()

    def written_by(self, version: int) -> str:
        text = self.stage.real.text(f"{FOLDER}/{self.name}", version)
        return str(json.loads(text or "")["change"]["id"])

    def versions(self) -> int:
        return self.stage.backend.newest()[f"{FOLDER}/{self.name}"]

    def outcome(self, response: Told) -> str:
        answer = self.service.request("GET", f"/api/v1/writes/{response.intent}")
        return str(answer.json()["state"])


Running = tuple[Stage, LossyProxy, ServiceProcess]


@pytest.fixture(scope="module")
def running(open_stage: Callable[[str], Stage], vault_server: object) -> Running:
    stage = open_stage("real")
    proxy, way = stage.way_to_vault()
    return stage, proxy, stage.start(**way)


@pytest.fixture(scope="module")
def elsewhere(running: Running) -> ServiceProcess:
    """Another replica, which nothing stands in the way of."""
    return running[0].start(FAILPOINT="")


def scene_on(running: Running) -> Scene:
    stage, proxy, service = running
    client = stage.client()
    assert client.write(service, client.name).version == 1
    return Scene(stage, proxy, service, client, proxy.dropped)


@pytest.fixture
def scene(running: Running) -> Iterator[Scene]:
    yield scene_on(running)
    running[0].arm()
    running[1].heal()


@pytest.fixture
def write_with_key(scene: Scene) -> Asked:
    return scene.client.new(scene.name, keyed=True)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.mark.parametrize("hang", [False, True], ids=["cut", "silent"])
def test_a_write_whose_answer_is_lost_is_found_by_reading_back(
    scene: Scene, write_with_key: Asked, *, hang: bool
) -> None:
    scene.proxy.drop_next_response(hang=hang, when=writing(scene.name))
    answer = scene.asks(write_with_key)

    assert (answer.status, answer.version, scene.lost_answers) == (201, 2, 1)
    assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    assert scene.stage.violations() == []


def test_a_write_sent_again_after_two_lost_answers_is_still_one(
    scene: Scene, write_with_key: Asked
) -> None:
    scene.proxy.drop_next_response(when=writing(scene.name))
    for _ in range(2):  # a read is repeated once when the connection breaks
        scene.proxy.drop_next_response(when=reading(scene.name))
    answer = scene.asks(write_with_key)

    assert (answer.status, answer.version, scene.lost_answers) == (201, 2, 3)
    assert scene.stage.violations() == []


def test_a_first_version_whose_answer_is_lost_is_found_as_well(scene: Scene) -> None:
    scene.proxy.drop_next_response(when=writing(f"new-{scene.name}"))
    answer = scene.client.write(scene.service, f"new-{scene.name}")

    assert (answer.status, answer.version) == (200, 1)
    assert scene.stage.violations() == []


def test_a_write_that_nobody_confirms_in_time_is_unknown_and_then_applied(
    scene: Scene, write_with_key: Asked
) -> None:
    for _ in range(10):
        scene.proxy.drop_next_response(hang=True, when=lambda sent: b"/data/" in sent)
    answer = scene.asks(write_with_key)
    scene.proxy.heal()

    assert answer.status == 504
    assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    wait_until(lambda: scene.outcome(answer) == "applied", "the write is confirmed")
    assert scene.versions() == 2
    assert scene.stage.violations() == []


def test_a_write_held_on_its_way_is_unknown_until_it_lands_or_not(
    scene: Scene, write_with_key: Asked
) -> None:
    answer = scene.asks_when_vault(scene.proxy.hold, write_with_key)
    before = scene.versions(), scene.outcome(answer)
    scene.proxy.heal()  # Vault may take it now, or see first that its sender has hung up

    assert (answer.status, before) == (504, (1, "open"))
    assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    assert scene.stage.violations() == []


def test_a_write_that_never_reached_vault_is_lost_once_another_took_its_place(
    scene: Scene, write_with_key: Asked
) -> None:
    answer = scene.asks_when_vault(scene.hangs_up, write_with_key)
    before = scene.versions(), scene.outcome(answer)
    scene.proxy.heal()
    other = scene.client.write(scene.service, scene.name)

    assert (answer.status, before) == (504, (1, "open"))
    assert (other.version, scene.outcome(answer)) == (2, "lost")
    assert scene.stage.violations() == []


def test_a_retry_after_an_unknown_outcome_joins_the_write_that_landed(
    scene: Scene, write_with_key: Asked
) -> None:
    first = scene.asks_when_vault(scene.proxy.hold, write_with_key)
    scene.proxy.heal()
    second = scene.asks(write_with_key)

    assert (first.status, second.status, second.version) == (504, 201, 2)
    assert scene.written_by(2) == first.intent
    assert scene.stage.violations() == []


def test_a_retry_after_an_unknown_outcome_sends_the_write_that_did_not_land(
    scene: Scene, write_with_key: Asked
) -> None:
    first = scene.asks_when_vault(scene.hangs_up, write_with_key)
    scene.proxy.heal()
    second = scene.asks(write_with_key)

    assert (first.status, second.status, second.version) == (504, 201, 2)
    assert scene.written_by(2) == first.intent
    assert scene.stage.violations() == []


def test_a_retry_after_the_place_was_taken_writes_the_next_version(
    scene: Scene, write_with_key: Asked
) -> None:
    first = scene.asks_when_vault(scene.hangs_up, write_with_key)
    scene.proxy.heal()
    scene.client.write(scene.service, scene.name)
    second = scene.asks(write_with_key)

    assert (scene.outcome(first), second.status, second.version) == ("lost", 201, 3)
    assert scene.stage.violations() == []


def test_a_retry_on_another_replica_joins_the_write_that_hangs(
    scene: Scene, write_with_key: Asked, elsewhere: ServiceProcess, threads: ThreadPoolExecutor
) -> None:
    first = scene.asks_in(threads, write_with_key)
    held = scene.proxy.held
    scene.proxy.hold()
    scene.lift()
    wait_until(lambda: scene.proxy.held > held, "the first write hangs")
    second = scene.stage.history.ask(write_with_key, elsewhere)
    scene.proxy.heal()

    assert (second.status, second.version) == (201, 2)
    assert first.result().status in {201, 504}
    assert scene.stage.violations() == []


def test_a_replica_that_vault_refuses_does_not_deny_what_a_retry_elsewhere_wrote(
    scene: Scene, write_with_key: Asked, elsewhere: ServiceProcess, threads: ThreadPoolExecutor
) -> None:
    first = scene.asks_in(threads, write_with_key)
    second = scene.stage.history.ask(write_with_key, elsewhere)
    scene.proxy.answer_next(http_answer("429 Too Many Requests", b"{}"), when=writing(scene.name))
    scene.lift()

    assert (second.status, second.version) == (201, 2)
    assert first.result().status in {201, 504}
    assert scene.stage.violations() == []


@pytest.fixture(scope="module")
def running_on_lossy_log(open_stage: Callable[[str], Stage], vault_server: object) -> Running:
    stage = open_stage("real")
    proxy, way = stage.way_to_postgres()
    return stage, proxy, stage.start(**way)


@pytest.fixture
def lossy_log(running_on_lossy_log: Running) -> Scene:
    return scene_on(running_on_lossy_log)


@pytest.mark.parametrize("step", [b"", b"change_id"], ids=["begin", "advance"])
def test_a_step_of_the_log_whose_answer_is_lost_is_taken_once(
    lossy_log: Scene, step: bytes
) -> None:
    write = lossy_log.client.new(lossy_log.name)

    lossy_log.proxy.drop_next_response(
        when=lambda sent: write.value.encode() in sent and step in sent
    )
    answer = lossy_log.asks(write)

    assert (answer.status, answer.version, lossy_log.lost_answers) == (200, 2, 1)
    assert lossy_log.stage.violations() == []


def test_a_write_whose_intent_is_not_confirmed_in_time_is_refused(lossy_log: Scene) -> None:
    write = lossy_log.client.new(lossy_log.name)

    lossy_log.proxy.drop_next_response(hang=True, when=lambda sent: write.value.encode() in sent)
    answer = lossy_log.asks(write)

    assert (answer.status, lossy_log.versions()) == (503, 1)
    assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    assert lossy_log.stage.violations() == []


def test_a_write_whose_change_is_not_confirmed_in_time_is_unknown_and_applied(
    lossy_log: Scene,
) -> None:
    write = lossy_log.client.new(lossy_log.name)

    lossy_log.proxy.drop_next_response(hang=True, when=lambda sent: b"change_id" in sent)
    answer = lossy_log.asks(write)

    assert (answer.status, lossy_log.outcome(answer)) == (504, "applied")
    assert answer.seconds < UNKNOWN_SECONDS + SLACK_SECONDS
    assert lossy_log.stage.violations() == []
