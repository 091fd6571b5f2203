"""Whoever lives stays discovered while the replica that keeps it is killed; the dead go in time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

import pytest

from tests.faults.fleet import INTERVAL_SECONDS, SESSION_SECONDS, Fleet, Registered
from tests.faults.watching import Callers, Health, Heartbeats
from tests.servers.process import Berth, ChildProcess, Command, wait_until
from tests.servers.service import ROOT
from tests.servers.warm import inherited_variables

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TTL_SECONDS = 4
BEAT_SECONDS = 1.2
# What is promised of those that die silently.
LEASED_BOUND = 2 * TTL_SECONDS + 2
PROBED_BOUND = 3.3 * INTERVAL_SECONDS + 3
ORPHANED_BOUND = PROBED_BOUND + SESSION_SECONDS + 2
DIRECT_BOUND = 6.0


@contextmanager
def direct(fleet: Fleet, service: str, count: int) -> Iterator[ChildProcess]:
    """Instances on ZooKeeper itself, by a process of their own."""
    words = (fleet.zookeeper.hosts, f"{fleet.base}/{service}", count, SESSION_SECONDS)
    argv = (sys.executable, "-m", "tests.faults.direct", *map(str, words))
    command = Command(argv, inherited_variables(), ROOT)
    process = ChildProcess(command, Berth("direct"), partial(_stand, fleet, service, count))
    try:
        yield process
    finally:
        process.close()


def _stand(fleet: Fleet, service: str, count: int) -> bool:
    with fleet.tool() as tool:
        path = f"{fleet.base}/{service}"
        return tool.exists(path) is not None and len(tool.get_children(path)) == count


def test_the_owner_of_many_is_killed(fleet: Fleet, *, is_whole: bool) -> None:
    count = 250 if is_whole else 50
    owner, *others = fleet.replicas
    history = fleet.fresh_history()
    with Health() as health, direct(fleet, "direct", 5) as process:
        probed = fleet.register_many(owner, "probed", count, health_check_url=health.url)
        # Last: until all are registered nobody sends their heartbeats.
        leased = fleet.register_many(owner, "leased", count, ttl_seconds=TTL_SECONDS)
        found = [Registered("direct", f"direct-{number}", 0) for number in range(5)]
        for one in found:
            history.append("registered", service=one.service, id=one.id, epoch=0, at=monotonic())
        with Heartbeats(fleet, leased, BEAT_SECONDS, others) as heartbeats:
            for service in ("leased", "probed"):
                wait_until(partial(fleet.are_up, others, service, count), "all are up")
            fleet.settle(within=5)
            with Callers(fleet, ["leased", "probed", "direct"], others) as callers:
                wait_until(lambda: callers.answers > 60, "callers are told")
                owner.kill()
                process.kill()
                fleet.silence(found, DIRECT_BOUND)
                heartbeats.silence(leased[:4], LEASED_BOUND)
                health.dead |= {one.id for one in probed[:4]}
                fleet.silence(probed[:4], ORPHANED_BOUND)
                for service, up in (("leased", count - 4), ("probed", count - 4), ("direct", 0)):
                    left = partial(fleet.are_up, others, service, up)
                    wait_until(left, f"the dead of {service} are gone", ORPHANED_BOUND + 5)
                fleet.settle(within=5)

    owner.restart()
    assert fleet.violations() == []
