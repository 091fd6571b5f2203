"""While Postgres or the process of rules is unavailable, no write passes a schema unjudged."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.checker_schemas import Layer
from tests.faults.schema_stage import PRESENT, Ground
from tests.faults.stage import Stage
from tests.servers.leash import children_of
from tests.servers.postgres import PostgresServer
from tests.servers.process import PATIENCE_SECONDS, SLACK_SECONDS, freeze_server, wait_until
from tests.servers.redis import RedisServer
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

REFUSED_SECONDS = 2.0
BROKEN = PRESENT["high"] + 1  # of `low`
FREE = Layer("free", "mill")  # to which no schema applies
_numbers = iter(range(1000))


@dataclass
class Scene:
    """A service that saves in Redis what it follows, and a configuration under a rule."""

    ground: Ground
    service: ServiceProcess
    redis: RedisServer
    prefix: str

    def is_saved(self) -> bool:
        """Tell whether what a replica starts from reflects the whole log."""
        [(newest,)] = self.ground.stage.real.fetch("SELECT max(revision) FROM changes")
        saved = self.redis.command("HGET", f"{self.prefix}:pointers", "v")
        return int(saved or 0) >= int(newest)

    def set_low(self, value: int) -> tuple[int | None, str | None]:
        answer = self.ground.set_low(value, self.service)
        assert answer.seconds < REFUSED_SECONDS + SLACK_SECONDS
        return answer.status, answer.code

    def write_freely(self) -> int:
        return self.ground.write(FREE, "port", next(_numbers)).send(self.service).status


@pytest.fixture(scope="module")
def stage_and_prefix(
    open_stage: Callable[[str], Stage], vault_server: object, redis_server: RedisServer
) -> tuple[Stage, str]:
    stage, prefix = open_stage("real"), redis_server.fresh_prefix()
    stage.start(**redis_server.settings, REDIS_PREFIX=prefix)
    return stage, prefix


@pytest.fixture
def scene(stage_and_prefix: tuple[Stage, str], redis_server: RedisServer) -> Scene:
    stage, prefix = stage_and_prefix
    ground = Ground(stage, f"away-{next(_numbers)}")
    ground.lay_out(stage.services[0])
    return Scene(ground, stage.services[0], redis_server, prefix)


@contextmanager
def stopped_server(server: PostgresServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.restart()


FAULTS = {"frozen": freeze_server, "gone": stopped_server}


@pytest.mark.parametrize("fault", FAULTS)
def test_without_postgres_writes_are_refused_and_reads_go_on(
    scene: Scene, postgres_server: PostgresServer, fault: str
) -> None:
    with FAULTS[fault](postgres_server):
        for value in (BROKEN, PRESENT["low"] - 1):
            answer = scene.ground.set_low(value, scene.service)
            assert (answer.status, answer.code) == (503, "change_log_unavailable")
            assert answer.seconds < REFUSED_SECONDS + SLACK_SECONDS
        put = scene.ground.put_schema(scene.service, mode="warn")
        assert (put.status, put.json()["code"]) == (503, "definitions_unavailable")
        assert scene.ground.effective_data(scene.service) == PRESENT
        assert scene.service.request("GET", scene.ground.schema).json()["version"] == 1

    wait_until(lambda: scene.set_low(BROKEN)[0] == 422, "it judges again")
    assert scene.set_low(PRESENT["low"] - 1) == (200, None)
    assert scene.ground.flaws() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_replica_that_starts_without_postgres_judges_before_it_writes(
    scene: Scene, postgres_server: PostgresServer, fault: str
) -> None:
    wait_until(scene.is_saved, "what it follows is saved")

    with FAULTS[fault](postgres_server):
        scene.service.kill()
        scene.service.restart()
        for value in (BROKEN, PRESENT["low"] - 1):
            status, code = scene.set_low(value)
            assert (status, code) in {
                (503, "definitions_unavailable"),
                (503, "change_log_unavailable"),
            }

    statuses = set()

    def judges() -> bool:
        statuses.add(scene.set_low(BROKEN)[0])
        return 422 in statuses

    wait_until(judges, "it has caught up")
    assert statuses <= {503, 422}
    assert scene.set_low(PRESENT["low"] - 1) == (200, None)
    assert scene.ground.flaws() == []


# --- the process of rules ---


def rule_child(service: ServiceProcess) -> int | None:
    for pid in children_of(service.pid):
        if b"rule_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def running_child(scene: Scene) -> int:
    """Return the child that evaluates rules, started by a write."""
    assert scene.set_low(BROKEN)[0] == 422
    child = rule_child(scene.service)
    assert child is not None
    return child


def set_low_until_judged(scene: Scene, value: int) -> int:
    """Write until it is not told that rules are unavailable; return the status."""
    statuses: list[int | None] = []

    def is_judged() -> bool:
        status, code = scene.set_low(value)
        assert (status == 503) is (code == "rules_unavailable")
        statuses.append(status)
        return status != 503

    wait_until(is_judged, "rules are evaluated again")
    return statuses[-1] or 0


@pytest.mark.parametrize("value", [BROKEN, PRESENT["low"] - 1])
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_rules_are_evaluated_again_after_their_process_was_hit(
    scene: Scene, fault: signal.Signals, value: int
) -> None:
    child = running_child(scene)

    os.kill(child, fault)
    assert scene.write_freely() == 200
    assert scene.ground.effective_data(scene.service) == PRESENT
    status = set_low_until_judged(scene, value)

    assert status == (422 if value == BROKEN else 200)
    assert rule_child(scene.service) not in {None, child}
    assert scene.ground.flaws() == []


def test_a_process_of_rules_that_is_hit_again_and_again_lets_nothing_through(scene: Scene) -> None:
    running_child(scene)

    for _ in range(20):
        child = rule_child(scene.service)
        if child is not None:
            os.kill(child, signal.SIGKILL)
        answer = scene.ground.set_low(BROKEN, scene.service)
        assert answer.status in {422, 503}
        assert scene.write_freely() == 200

    assert set_low_until_judged(scene, PRESENT["low"] - 1) == 200
    assert scene.ground.flaws() == []


def test_a_service_that_is_killed_leaves_no_process_of_rules_behind(scene: Scene) -> None:
    child = running_child(scene)

    scene.service.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child has ended", PATIENCE_SECONDS)
    scene.service.restart()

    assert set_low_until_judged(scene, BROKEN) == 422
