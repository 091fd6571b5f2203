"""Releases whose controllers are killed, whose database freezes, and of a thousand instances."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.proposals.releasing import HOUR, ReleasedLayer, ReleasingService, plan
from tests.servers.postgres import PostgresServer
from tests.servers.process import freeze_server, wait_until
from tests.servers.vault import VaultServer

pytestmark = [pytest.mark.faults, pytest.mark.servers]
OLD, NEW = {"pool": 10}, {"pool": 40}
REFUSED = {"kind": "refused", "at_least": 1}
# Moves: two steps, the bake, the end begins, it is done. The document is written before the last.
POINTS = [f"{place}_move_{number}" for number in range(1, 6) for place in ("before", "after")]
POINTS += ["before_write_1", "after_write_1"]


@pytest.fixture
def environment(vault_server: VaultServer, postgres_server: PostgresServer) -> dict[str, str]:
    return {
        "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.root_token,
        "VAULT_PREFIX": vault_server.fresh_prefix(),
        "DATABASE_URL": postgres_server.migrated_database(),
    }


@contextmanager
def service(environment: dict[str, str], bodies: Path, **more: str) -> Iterator[ReleasingService]:
    with ReleasingService({**environment, **more}, bodies) as started:
        wait_until(lambda: started.request("GET", "/ready").status == 200, "the service is ready")
        yield started


@pytest.mark.parametrize("point", POINTS)
def test_a_release_whose_controller_is_killed_is_carried_on(
    environment: dict[str, str], tmp_path: Path, point: str
) -> None:
    stated = plan(10, 30, 60, hold="1s", bake="1s")
    with service(environment, tmp_path, RELEASE_FAILPOINT=point) as first:
        layer = first.layer()
        layer.write(OLD)
        release = layer.start(NEW, stated)
        first.process.wait_for_exit()
    with service(environment, tmp_path) as second:
        layer = ReleasedLayer(second, layer.environment, layer.name)
        layer.release = release
        layer.wait_for("done")

        assert layer.data() == NEW
        history = second.request("GET", f"/api/v1/config/pool/history?{layer.query}").json()
        assert [each["version"] for each in history["items"]] == [2, 1]
        changes = second.request("GET", "/api/v1/changes?kind=release&limit=1000").json()["items"]
        assert sorted(each["version"] for each in changes) == [1, 2, 3, 4, 5, 6]


def test_two_replicas_take_each_step_once(environment: dict[str, str], tmp_path: Path) -> None:
    with service(environment, tmp_path) as one, service(environment, tmp_path) as other:
        layer = one.layer()
        layer.write(OLD)
        layer.start(NEW, plan(10, 30, 60, hold="1s", bake="1s"))
        there = ReleasedLayer(other, layer.environment, layer.name)
        there.release = layer.release
        there.wait_for("done")

        changes = one.request("GET", "/api/v1/changes?kind=release&limit=1000").json()["items"]
        assert sorted(each["version"] for each in changes) == [1, 2, 3, 4, 5, 6]
        history = one.request("GET", f"/api/v1/config/pool/history?{layer.query}").json()
        assert [each["version"] for each in history["items"]] == [2, 1]


def test_an_abort_at_one_replica_is_heard_at_the_other(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with service(environment, tmp_path) as one, service(environment, tmp_path) as other:
        layer = one.layer()
        layer.write(OLD)
        layer.start(NEW, plan(100, hold=HOUR, signals=[REFUSED]))
        there = ReleasedLayer(other, layer.environment, layer.name)
        there.release = layer.release
        wait_until(lambda: there.data("pod-1") == NEW, "the other replica has followed")

        there.report("pod-1", "refused", "ValueError")

        wait_until(lambda: layer.data("pod-1") == OLD, "the candidate is taken back", 2)
        wait_until(lambda: there.data("pod-1") == OLD, "the candidate is taken back", 2)
        assert layer.state() == "aborted"


def test_the_last_step_stays_while_the_database_is_frozen(
    environment: dict[str, str], tmp_path: Path, postgres_server: PostgresServer
) -> None:
    with service(environment, tmp_path) as started:
        layer = started.layer()
        layer.write(OLD)
        layer.start(NEW, plan(100, hold="2s", bake=HOUR))
        assert layer.data("pod-1") == NEW
        with freeze_server(postgres_server):
            for number in range(20):
                answer = layer.read(f"pod-{number}")
                assert answer.json()["data"] == NEW
                assert answer.json()["release"]["step"] == 0
            assert layer.data() == OLD
        wait_until(lambda: layer.details()["step"] == 1, "the next step is taken")
        assert layer.move("abort").status == 200
        wait_until(lambda: layer.data("pod-1") == OLD, "the candidate is taken back", 2)


def test_without_prometheus_a_step_lasts_as_the_plan_says(
    environment: dict[str, str], tmp_path: Path
) -> None:
    query = {"kind": "prometheus", "query": "up", "above": 0.5, "for": "1m"}
    nobody = {"RELEASE_PROMETHEUS_URL": "http://127.0.0.1:9"}
    states = {"hold": "running", "abort": "aborted", "go_on": "done"}
    with service(environment, tmp_path, **nobody) as started:
        layers = {}
        for no_data in states:
            layer = layers[no_data] = started.layer()
            layer.write(OLD)
            layer.start(NEW, plan(50, hold="1s", signals=[query], no_data=no_data))
        layers["abort"].wait_for("aborted")
        layers["go_on"].wait_for("done")

        assert {name: layer.state() for name, layer in layers.items()} == states
        assert layers["abort"].details()["signal"] == "no_data"


def test_a_thousand_instances(environment: dict[str, str], tmp_path: Path) -> None:
    names = [f"pod-{number}" for number in range(1000)]
    with service(environment, tmp_path) as started:
        layer = started.layer()
        layer.write(OLD)
        # Of this id: by chance, the share of a thousand is within 2 points in four of five cases.
        layer.start(NEW, plan(5, 50, bake=HOUR, signals=[REFUSED]), id="r-1000")
        before: set[str] = set()
        for share in (5, 50, 100):
            holders = {name for name in names if layer.data(name) == NEW}
            assert abs(len(holders) / 10 - share) < 2
            assert before <= holders
            before = holders
            if share < 100:
                assert layer.move("next").status == 200

        layer.report("pod-500", "refused")

        wait_until(lambda: layer.data("pod-500") == OLD, "the candidate is taken back", 2)
        assert all(layer.data(name) == OLD for name in names)
