"""ZooKeeper frozen, cut off, killed: nobody is removed from discovery, and all is right soon after.

Every replica has a way of its own to ZooKeeper that can be cut.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic

import pytest

from tests.faults.conftest import IS_WHOLE
from tests.faults.fleet import API, SESSION_SECONDS, Fleet, Registered
from tests.faults.watching import Callers, Health, Heartbeats
from tests.servers.answer import Answer
from tests.servers.postgres import PostgresServer
from tests.servers.process import SLACK_SECONDS, freeze_server, wait_until
from tests.servers.proxy import LossyProxy
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TTL_SECONDS = 4
BEAT_SECONDS = 1.2
MUTE_TTL_SECONDS = 2
CONSISTENT_SECONDS = 3.0
REFUSED_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Scene:
    fleet: Fleet
    proxies: list[LossyProxy]
    health: Health
    instances: list[Registered]

    def register(self, replica: ServiceProcess, id_: str) -> Answer:
        """Register while ZooKeeper may be unavailable."""
        body = {"service_name": "late", "instance_id": id_, "service_url": "http://late:80"}
        began = monotonic()
        answer = replica.request("POST", f"{API}/register", body | {"ttl_seconds": 600})
        assert monotonic() - began < REFUSED_SECONDS + SLACK_SECONDS
        facts = {"service": "late", "id": id_, "epoch": answer.json()["epoch"]}
        self.fleet.history.append("registered", **facts, at=monotonic())
        return answer


@pytest.fixture(scope="module")
def scene(
    zookeeper_server: ZooKeeperServer,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
    *,
    is_whole: bool,
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("fleet")
    fleet = Fleet(folder, zookeeper_server, postgres_server.fresh_database())
    with closing(fleet), Health() as health:
        ways = [fleet.way_to_zookeeper() for _ in range(3)]
        replicas = fleet.start_many(*(environment for _, environment in ways))
        fleet.replicas[:] = replicas  # in the order of their proxies
        count = 100 if is_whole else 20
        instances = []
        for number, replica in enumerate(replicas):
            named = partial(fleet.register_many, replica, prefix=f"r{number}")
            instances += named("leased", count, ttl_seconds=TTL_SECONDS)
            instances += named("probed", count // 2, health_check_url=health.url)
        yield Scene(fleet, [proxy for proxy, _ in ways], health, instances)


Outage = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def hold_proxies(scene: Scene, *which: int) -> Iterator[None]:
    """Nothing passes; what was sent meanwhile comes late."""
    for number in which:
        scene.proxies[number].hold()
    try:
        yield
    finally:
        for number in which:
            scene.proxies[number].heal()


@contextmanager
def cut(scene: Scene) -> Iterator[None]:
    """Connections break, and none can be made."""
    for proxy in scene.proxies:
        proxy.refuse()
        proxy.cut()
    try:
        yield
    finally:
        for proxy in scene.proxies:
            proxy.heal()


@contextmanager
def killed_zookeeper(scene: Scene) -> Iterator[None]:
    scene.fleet.zookeeper.kill()
    try:
        yield
    finally:
        scene.fleet.zookeeper.restart()


OUTAGES: dict[str, Outage] = {
    "frozen": lambda scene: freeze_server(scene.fleet.zookeeper),
    "held": lambda scene: hold_proxies(scene, 0, 1, 2),
    "cut": cut,
    "held-from-one": lambda scene: hold_proxies(scene, 0),
    "killed": killed_zookeeper,
}


SHORT = ("frozen", "held-from-one", "killed")


@pytest.mark.parametrize("name", OUTAGES if IS_WHOLE else SHORT)
def test_nobody_is_removed_while_zookeeper_is(scene: Scene, name: str, *, is_whole: bool) -> None:
    fleet, replicas = scene.fleet, scene.fleet.replicas
    seconds = 12.0 if is_whole else SESSION_SECONDS + 2
    leased = [one for one in scene.instances if one.service == "leased"]
    with Heartbeats(fleet, leased, BEAT_SECONDS, replicas):
        for service in ("leased", "probed"):
            count = sum(one.service == service for one in scene.instances)
            wait_until(partial(fleet.are_up, replicas, service, count), "all are up")
        fleet.settle(within=5)
        with Callers(fleet, ["leased", "probed"], replicas) as callers:
            with OUTAGES[name](scene):
                over = monotonic() + seconds
                wait_until(lambda: callers.stale > 0, "answers say that they are stale")
                assert scene.register(replicas[0], f"during-{name}").status == 201
                wait_until(lambda: monotonic() > over, "it lasts", seconds + 1)
            fleet.settle(CONSISTENT_SECONDS)
            for replica in replicas:
                wait_until(partial(fleet.is_fresh, replica), "answers are fresh again")

    ids = replicas[1].request("GET", f"{API}/discover/late").json()["items"]
    assert f"during-{name}" in [item["instance_id"] for item in ids]
    assert fleet.violations() == []


def test_who_died_while_zookeeper_was_unavailable_is_evicted_afterwards(scene: Scene) -> None:
    fleet, replicas = scene.fleet, scene.fleet.replicas
    leased = [one for one in scene.instances if one.service == "leased"]
    with Heartbeats(fleet, leased, BEAT_SECONDS, replicas):
        for replica in replicas:
            wait_until(partial(_is_unprotected, replica), "nothing is protected")
        mute = fleet.register(replicas[0], "mute", "one", ttl_seconds=MUTE_TTL_SECONDS)
        fleet.settle(within=5)

        with cut(scene):
            silent_for = monotonic() + 2 * MUTE_TTL_SECONDS + 2
            wait_until(lambda: monotonic() > silent_for, "it was silent for long", 10)
            (kept,) = [row for row in fleet.rows() if row.service == mute.service]
            shown = [
                len(replica.request("GET", f"{API}/discover/mute").json()["items"])
                for replica in replicas
            ]

        assert kept.state == "registered"
        assert shown == [1, 1, 1]
        gone = partial(fleet.are_up, replicas, "mute", 0)
        wait_until(gone, "it is evicted", 2 * MUTE_TTL_SECONDS + 2 + SLACK_SECONDS)
        fleet.settle(within=2)


def _is_unprotected(replica: ServiceProcess) -> bool:
    return replica.request("GET", f"{API}/discover/mute").json()["protected"] is False
