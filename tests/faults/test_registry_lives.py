"""How instances end, or do not: silently, in good order, many at once, by what comes late."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any

import pytest

from tests.faults.checker_registry import SPREAD_SECONDS
from tests.faults.fleet import API, INTERVAL_SECONDS, SESSION_SECONDS, Fleet, Registered
from tests.faults.watching import Callers, Health, Heartbeats
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TTL_SECONDS = 2
BEAT_SECONDS = 0.5
LEASED_BOUND = 2 * TTL_SECONDS + 2
PROBED_BOUND = 3.3 * INTERVAL_SECONDS + 3
PATIENT: dict[str, Any] = {"ttl_seconds": 600}  # such an instance needs no heartbeat here


@pytest.fixture(autouse=True)
def clear_history(fleet: Fleet) -> Iterator[None]:
    """Begin each test with a history of its own, and leave no instance to the next one."""
    fleet.fresh_history()
    yield
    for row in fleet.rows():
        if row.state == "registered":
            one = Registered(row.service, row.id, row.epoch)
            assert fleet.deregister(fleet.replicas[0], one).status == 200


def discovered_ids(replica: ServiceProcess, service: str) -> list[str]:
    items = replica.request("GET", f"{API}/discover/{service}").json()["items"]
    return [item["instance_id"] for item in items]


def test_the_silent_leave_within_their_bound_and_others_at_once(fleet: Fleet) -> None:
    first, second, third = fleet.replicas
    with Health() as health:
        leased = fleet.register_many(first, "leased", 10, ttl_seconds=TTL_SECONDS)
        probed = fleet.register_many(second, "probed", 10, health_check_url=health.url)
        with Heartbeats(fleet, leased, BEAT_SECONDS, fleet.replicas) as heartbeats:
            for service in ("leased", "probed"):
                wait_until(partial(fleet.are_up, fleet.replicas, service, 10), "all are up")
            with Callers(fleet, ["leased", "probed"], fleet.replicas):
                heartbeats.silence(leased[:1], LEASED_BOUND)
                health.dead.add(probed[0].id)
                fleet.silence(probed[:1], PROBED_BOUND)

                heartbeats.hush(leased[1:3])
                assert fleet.deregister(third, leased[1]).status == 200
                assert leased[1].id not in discovered_ids(third, "leased")
                fleet.silence(leased[2:3], SPREAD_SECONDS)
                assert third.request("POST", f"{leased[2].path}/drain", {}).status == 200
                assert leased[2].id not in discovered_ids(third, "leased")

                for service, count in (("leased", 7), ("probed", 9)):
                    left = partial(fleet.are_up, fleet.replicas, service, count)
                    wait_until(left, f"the dead of {service} are gone", LEASED_BOUND + 5)
            fleet.settle(within=2)

    assert fleet.violations() == []


def test_many_that_fall_silent_at_once_are_kept(fleet: Fleet) -> None:
    replica = fleet.replicas[0]
    instances = fleet.register_many(replica, "many", 50, ttl_seconds=TTL_SECONDS)
    silent = instances[:15]
    with Heartbeats(fleet, instances, BEAT_SECONDS, fleet.replicas) as heartbeats:
        wait_until(partial(fleet.are_up, fleet.replicas, "many", 50), "all are up")
        with Callers(fleet, ["many"], fleet.replicas):
            heartbeats.hush(silent)
            _wait_until_protected(fleet, protected=True)
            over = monotonic() + LEASED_BOUND
            wait_until(lambda: monotonic() > over, "their leases are long over", LEASED_BOUND + 1)
            assert {row.state for row in fleet.rows() if row.service == "many"} == {"registered"}

            heartbeats.resume()
            _wait_until_protected(fleet, protected=False)
            wait_until(partial(fleet.are_up, fleet.replicas, "many", 50), "all are up")

            heartbeats.hush(silent)
            _wait_until_protected(fleet, protected=True)
            # At once: when few are left nothing is protected any more, and they may be evicted.
            with ThreadPoolExecutor(len(silent)) as threads:
                gone = list(threads.map(partial(fleet.deregister, replica), silent))
            assert {answer.status for answer in gone} == {200}
            _wait_until_protected(fleet, protected=False)
            wait_until(partial(fleet.are_up, fleet.replicas, "many", 35), "the others are up")

    assert fleet.violations() == []


def _wait_until_protected(fleet: Fleet, *, protected: bool) -> None:
    def is_told(replica: ServiceProcess) -> bool:
        answer = replica.request("GET", f"{API}/discover/many").json()["protected"]
        return bool(answer) is protected

    for replica in fleet.replicas:
        wait_until(
            partial(is_told, replica), f"protected: {protected}", TTL_SECONDS + 2 + SLACK_SECONDS
        )


def test_what_an_older_registration_says_late_does_nothing(fleet: Fleet) -> None:
    first, second, third = fleet.replicas
    old = fleet.register(first, "billing", "one", **PATIENT)
    new = fleet.register(second, "billing", "one", **PATIENT)
    with Callers(fleet, ["billing"], fleet.replicas) as callers:
        late = [
            fleet.beat(third, old),
            fleet.deregister(third, new, epoch=old.epoch),
            first.request("POST", f"{old.path}/drain", {"epoch": old.epoch}),
        ]
        wait_until(lambda: callers.answers > 60, "callers are told")

    assert [answer.status for answer in late] == [409, 409, 409]
    assert {answer.json()["current_epoch"] for answer in late} == {new.epoch}
    assert fleet.beat(first, new).status == 200
    fleet.settle(within=2)
    assert fleet.violations() == []


def test_a_node_of_a_dead_session_is_replaced_and_not_lost(fleet: Fleet) -> None:
    dying, *others = fleet.replicas
    old = fleet.register_many(dying, "again", 10, **PATIENT)
    _replace_a_foreign_node(fleet, others[0])
    fleet.settle(within=3)
    with Callers(fleet, ["again", "foreign"], others):
        dying.kill()
        over = monotonic() + SESSION_SECONDS + 2
        new = fleet.register_many(others[0], "again", 10, **PATIENT)
        sessions = _sessions(fleet, new)
        wait_until(lambda: monotonic() > over, "the session is over", SESSION_SECONDS + 3)
        after = _sessions(fleet, new)

    dying.restart()
    assert [one.epoch for one in new] == [one.epoch + 1 for one in old]
    assert len(sessions) == 1
    assert after == sessions
    fleet.settle(within=3)
    assert fleet.violations() == []


def _sessions(fleet: Fleet, instances: Sequence[Registered]) -> set[int]:
    nodes = {(node.service, node.id): node.session for node in fleet.nodes()}
    return {nodes[one.service, one.id] for one in instances}


def _replace_a_foreign_node(fleet: Fleet, replica: ServiceProcess) -> None:
    """Register what somebody else has put there, whose session is over after that."""
    with fleet.tool() as tool:
        tool.create(f"{fleet.base}/foreign/one", b"{}", ephemeral=True, makepath=True)
        fleet.register(replica, "foreign", "one", **PATIENT)
