"""Replicas that come too late change nothing; with a rule left out, the checkers tell.

What takes luck to meet is arranged: at a failpoint one replica waits while the others go on.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from time import monotonic

import pytest

from app.registry.reconciler import SETTLE_SECONDS
from tests.faults.checker_registry import check_quiet
from tests.faults.fleet import Fleet, Registered
from tests.faults.launcher import Failpoint
from tests.faults.watching import Callers, Heartbeats
from tests.servers.postgres import PostgresServer
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess
from tests.servers.zookeeper import ZooKeeperServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

LAUNCH = (sys.executable, "-m", "tests.faults.launcher_registry", "serve")
ADOPTED_SECONDS = 4.0
SWEEP = Failpoint("before_current", "wait")
CLAIM = Failpoint("before_claim", "wait")
COMMIT = Failpoint("before_commit", "wait")


class Stands:
    """Three replicas with failpoints of their own, and a bug that may be planted in all."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._folder = folder
        self._names = count(1)
        places = [{"FAILPOINT": f"@{self._file(number)}"} for number in range(3)]
        common = {"SEEDED_BUG": f"@{folder / 'bug'}"}
        fleet.replicas[:] = fleet.start_many(*(common | place for place in places))
        for number, replica in enumerate(fleet.replicas):
            fleet.register(replica, "marker", f"of-{number}", ttl_seconds=600)
        owners = {row.id: row.owner for row in fleet.rows()}
        self._owners = [owners[f"of-{number}"] for number in range(3)]

    def _file(self, number: int) -> Path:
        return self._folder / f"failpoints-{number}"

    def plant(self, bug: str) -> None:
        (self._folder / "bug").write_text(bug)

    def arm(self, replica: int, *failpoints: Failpoint) -> None:
        unfinished = self._file(replica).with_suffix(".unfinished")
        unfinished.write_text(" ".join(map(str, failpoints)))
        unfinished.replace(self._file(replica))

    def arrival_check(self, replica: int, failpoint: Failpoint) -> Callable[[], bool]:
        """Return what tells whether a replica has come there once more."""
        service = self.fleet.replicas[replica]
        line = f"reached {failpoint}"
        before = service.log().count(line)
        return lambda: service.log().count(line) > before

    def new(self, replica: int, ttl_seconds: int = 600) -> Registered:
        service = f"service-{next(self._names)}"
        to = self.fleet.replicas[replica]
        return self.fleet.register(to, service, "one", ttl_seconds=ttl_seconds)

    def owner(self, one: Registered) -> int:
        (row,) = [row for row in self.fleet.rows() if row.service == one.service]
        return self._owners.index(row.owner)

    def lose(self, one: Registered) -> None:
        """Have the node gone, as if with its owner, who does not put it again before it is let."""
        self.arm(self.owner(one), SWEEP)
        with self.fleet.tool() as tool:
            tool.delete(f"{self.fleet.base}/{one.service}/{one.id}")


@pytest.fixture(scope="module")
def running(
    zookeeper_server: ZooKeeperServer,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stands]:
    folder = tmp_path_factory.mktemp("stands")
    fleet = Fleet(folder, zookeeper_server, postgres_server.fresh_database(), LAUNCH)
    with closing(fleet):
        yield Stands(fleet, folder)


@pytest.fixture
def stands(running: Stands) -> Iterator[Stands]:
    running.fleet.fresh_history()
    yield running
    running.plant("")
    for number in range(3):
        running.arm(number)


def claim_late(stands: Stands) -> list[str]:
    """Claim what another one has claimed since, and keeps."""
    fleet = stands.fleet
    one = stands.new(0)
    fleet.settle(within=5)
    at_claim = [stands.arrival_check(number, CLAIM) for number in (1, 2)]
    for number in (1, 2):
        stands.arm(number, CLAIM)
    stands.lose(one)
    for reached in at_claim:
        wait_until(reached, "both are about to claim")
    stands.arm(2)
    wait_until(lambda: stands.owner(one) == 2, "the other one claims")
    stands.arm(0)
    fleet.settle(within=5)
    settled = monotonic() + SETTLE_SECONDS + 0.2
    wait_until(lambda: monotonic() > settled, "its claim is no more recent")

    before = fleet.rows()
    stands.arm(1)
    over = monotonic() + 1
    wait_until(lambda: monotonic() > over, "the late one has claimed")
    return check_quiet(before, fleet.rows())


def put_late(stands: Stands) -> list[str]:
    """Put the node of what was deregistered after its fence was read."""
    first, second, _ = stands.fleet.replicas
    service = f"late-{monotonic():.0f}"
    reached = stands.arrival_check(0, COMMIT)
    stands.arm(0, COMMIT, SWEEP)  # nor does the replica clean up behind itself
    with ThreadPoolExecutor(1) as thread:
        registering = thread.submit(stands.fleet.register, first, service, "one")
        wait_until(reached, "the node is about to be put")
        one = Registered(service, "one", 1)
        assert stands.fleet.deregister(second, one).status == 200
        stands.arm(0, SWEEP)
        registering.result()
    return stands.fleet.flaws()


def lose_twice(stands: Stands) -> list[str]:
    """Let an instance lose its keeper, and the next one too."""
    one = stands.new(0)
    stands.fleet.settle(within=5)
    for keeper in range(2):
        stands.lose(one)
        try:
            stands.fleet.settle(ADOPTED_SECONDS)
        except AssertionError:
            assert keeper == 1
            return stands.fleet.flaws()
    return []


def beat_elsewhere(stands: Stands) -> list[str]:
    """Send heartbeats to those who do not keep the instance."""
    one = stands.new(0, ttl_seconds=2)
    others: list[ServiceProcess] = stands.fleet.replicas[1:]
    over = monotonic() + 2 * 2 + 3
    with (
        Heartbeats(stands.fleet, [one], 0.3, others),
        Callers(stands.fleet, [one.service], others),
    ):
        wait_until(lambda: monotonic() > over, "two leases are over", 10)
    return stands.fleet.violations()


def beat_after_adoption(stands: Stands) -> list[str]:
    one = stands.new(0)
    stands.fleet.settle(within=5)
    stands.lose(one)
    wait_until(lambda: stands.owner(one) != 0, "it is adopted")
    stands.fleet.settle(ADOPTED_SECONDS)  # the bug moves the epoch after the owner
    stands.fleet.beat(stands.fleet.replicas[1], one)
    return stands.fleet.violations()


@pytest.mark.parametrize(
    "come_late", [claim_late, put_late, lose_twice], ids=lambda came: came.__name__
)
def test_who_comes_late_changes_nothing(
    stands: Stands, come_late: Callable[[Stands], list[str]]
) -> None:
    assert come_late(stands) == []


@pytest.mark.parametrize(
    ("bug", "scenario", "told"),
    [
        ("claims_without_tag", claim_late, "and has moved"),
        ("no_fence", put_late, "has a node and is not registered"),
        ("sweeps_from_memory", lose_twice, "is registered without a node"),
        ("owner_counts_heartbeats", beat_elsewhere, "lives and is missing"),
        ("adoption_moves_epoch", beat_after_adoption, "its heartbeat was answered 409"),
    ],
)
def test_a_seeded_bug_is_caught(
    stands: Stands, bug: str, scenario: Callable[[Stands], list[str]], told: str
) -> None:
    stands.plant(bug)

    found = scenario(stands)

    assert any(told in one for one in found), found
