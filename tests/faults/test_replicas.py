"""Several replicas on the same Vault and Postgres are one service, also while some are killed."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.faults.history import Asked, Client, Told
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.stage import Stage
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

WRITERS = 50
DOCUMENTS = 4
ELSEWHERE = {"environment": "staging", "service_name": "paint"}  # where nothing is traced
FOLLOWS = Failpoint("before_follow", WAIT)


class Writer:
    """One of many: writes where it likes, on the replica it likes, until it has done its share."""

    def __init__(self, stage: Stage, replicas: list[ServiceProcess], seed: str) -> None:
        self._stage = stage
        self._replicas = replicas
        self._chance = random.Random(seed)
        self._client: Client = stage.client()

    def write(self, times: int) -> None:
        for _ in range(times):
            service = f"shop-{self._chance.randrange(DOCUMENTS)}"
            match self._chance.randrange(3):
                case 0:
                    self._write_conditionally(service)
                case 1:
                    self._until_answered(self._client.new(service, keyed=True))
                case _:
                    self._ask(self._client.new(service))

    def _replica(self) -> ServiceProcess:
        return self._chance.choice(self._replicas)

    def _ask(self, write: Asked) -> Told:
        return self._stage.history.ask(write, self._replica())

    def _write_conditionally(self, service: str) -> None:
        """Read on one replica, and write on another what may follow only that version."""
        seen = current(self._replica(), service)
        if seen is not None:
            self._ask(self._client.new(service, expected=seen))

    def _until_answered(self, write: Asked) -> None:
        wait_until(lambda: self._ask(write).status in {201, 409}, f"{write.value} is decided", 60)


def current(replica: ServiceProcess, service: str) -> int | None:
    """Tell the version of a document, 0 without one, None when the replica does not answer."""
    try:
        answer = replica.request("GET", f"/api/configs/{service}")
    except OSError:
        return None
    return int(answer.json()["version"]) if answer.status == 200 else 0


@dataclass
class Trio:
    """Three replicas; tests may hold the second one where they like."""

    stage: Stage
    replicas: list[ServiceProcess]

    def times_held(self) -> int:
        return self.replicas[1].log().count(f"reached {FOLLOWS}")


@pytest.fixture(scope="module")
def trio(open_stage: Callable[[str], Stage], vault_server: object) -> Trio:
    stage = open_stage("real")
    unheld = {"FAILPOINT": ""}
    return Trio(stage, stage.start_many(unheld, {}, unheld))


@pytest.mark.timeout(1200)  # two thousand writes in the whole form
def test_fifty_writers_on_three_replicas_lose_and_double_nothing(
    trio: Trio, *, is_whole: bool
) -> None:
    stage, replicas = trio.stage, trio.replicas
    writers = [Writer(stage, replicas, f"writer {number}") for number in range(WRITERS)]
    share = 40 if is_whole else 3

    with ThreadPoolExecutor(WRITERS) as threads:
        under_way = [threads.submit(writer.write, share) for writer in writers]
        for number, replica in enumerate(replicas[1:], start=1):
            enough = WRITERS * share * number // 3
            wait_until(lambda: stage.history.answers >= enough, "some are answered", 120)  # noqa: B023
            replica.kill()
            replica.restart()
        for writing in under_way:
            writing.result()

    assert stage.violations() == []


def test_fifty_writers_with_if_match_have_one_winner_for_each_version(trio: Trio) -> None:
    stage, replicas = trio.stage, trio.replicas
    clients = [stage.client() for _ in range(WRITERS)]
    assert clients[0].write(replicas[0], "shop").version == 1

    with ThreadPoolExecutor(WRITERS) as threads:
        answers = threads.map(
            lambda number: clients[number].write(
                replicas[number % 3], "shop", expected=1 + number % 2
            ),
            range(WRITERS),
        )

    statuses = [answer.status for answer in answers]
    assert statuses.count(200) in {1, 2}
    assert set(statuses) <= {200, 412, 503}
    assert stage.violations() == []


def test_a_write_on_one_replica_is_seen_on_another_from_its_revision_on(trio: Trio) -> None:
    one, other, _ = trio.replicas
    client = trio.stage.client()

    for _ in range(20):
        answer = client.write(one, "shop")
        seen = other.request("GET", f"/api/configs/shop?min_revision={answer.revision}")

        assert (seen.status, seen.json()["version"]) == (200, answer.version)
        assert int(seen.headers["X-Revision"]) >= (answer.revision or 0)


@dataclass
class Lag:
    """A document of one version, and two replicas: the second has seen no more than that."""

    stage: Stage
    ahead: ServiceProcess
    behind: ServiceProcess
    client: Client

    @property
    def name(self) -> str:
        return self.client.name


@pytest.fixture
def lag(trio: Trio) -> Iterator[Lag]:
    ahead, behind, _ = trio.replicas
    client = trio.stage.client()
    answer = client.write(ahead, client.name)
    seen = behind.request("GET", f"/api/configs/{client.name}?min_revision={answer.revision}")
    assert seen.status == 200
    before = trio.times_held()
    trio.stage.arm(FOLLOWS)
    wait_until(lambda: trio.times_held() > before, "the second replica follows no more")
    yield Lag(trio.stage, ahead, behind, client)
    trio.stage.arm()


def test_a_replica_that_lags_answers_nothing_older_than_asked_for(lag: Lag) -> None:
    answer = lag.client.write(lag.ahead, lag.name)
    where = f"/api/configs/{lag.name}?min_revision={answer.revision}"

    late = lag.behind.request("GET", where)
    lag.stage.arm()
    seen = lag.behind.request("GET", where)

    assert (late.status, late.json()["code"]) == (503, "revision_not_reached")
    assert (seen.status, seen.json()["version"]) == (200, 2)


def test_a_replica_that_lags_refuses_no_write_for_what_it_has_not_seen(lag: Lag) -> None:
    answer = lag.client.write(lag.ahead, lag.name)

    assert lag.client.write(lag.behind, lag.name, expected=answer.version).status == 200
    lag.stage.arm()
    assert lag.stage.violations() == []


def test_a_replica_that_lags_does_not_take_a_key_for_missing(lag: Lag) -> None:
    new = {"key": "colour", "value": "red", **ELSEWHERE}
    where = "/api/v1/config/colour?environment=staging&service_name=paint"

    assert lag.ahead.request("POST", "/api/v1/config", new).status == 201
    assert lag.behind.request("PUT", where, {"value": "blue"}).status == 200
    assert lag.ahead.request("DELETE", where).status == 204
    assert lag.behind.request("POST", "/api/v1/config", new).status == 201


def test_a_replica_that_lags_does_not_take_a_change_for_done(lag: Lag) -> None:
    """What it knows is what is asked for, but no longer what is current."""
    where = "environment=staging&service_name=walls"

    for replica, colour in ((lag.behind, "red"), (lag.ahead, "blue"), (lag.behind, "red")):
        answer = replica.request("PATCH", f"/api/v1/config?{where}", {"set": {"colour": colour}})
        assert (answer.status, answer.json()["changed"]) == (200, True)

    revision = answer.headers["X-Revision"]
    read = lag.ahead.request("GET", f"/api/v1/config/colour?{where}&min_revision={revision}")
    assert read.json()["value"] == "red"
