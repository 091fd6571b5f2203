"""Killed by SIGKILL at any step of a judged write, the service breaks no rule and loses nothing."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from time import monotonic

import pytest

from tests.faults.checker_schemas import LayerAnswer
from tests.faults.launcher import WAIT, Failpoint
from tests.faults.schema_stage import (
    HELD,
    PRESENT,
    Failures,
    Ground,
    LayerWrite,
    wait_until_reached,
)
from tests.faults.stage import Stage
from tests.servers.deadlines import PATIENT
from tests.servers.process import SLACK_SECONDS, wait_until
from tests.servers.service import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLED = -signal.SIGKILL
BLOCKED_SECONDS = 3.0 + 1.0  # an intent in doubt, and until the reconciler looks
STRAIGHT = [
    f"{when}_{step}"
    for step in ("join", "begin", "store", "advance")
    for when in ("before", "after")
]
RESERVED = [
    f"{when}_{step}" for step in ("reserve", "wait", "confirm") for when in ("before", "after")
]
CANCELLED = ["before_cancel", "after_cancel"]
DEFINED = ["before_define", "after_define"]
OPEN = Failpoint("after_begin", WAIT)
_KEYED_VALUE = 40  # of `base`, above which `low` has to stay


class Trio:
    """One replica that is killed, one whose writes stay open for a while, and one to look at.

    The first two wait long; the last one answers as in production.
    """

    def __init__(self, stage: Stage, killing: Failures, opening: Failures) -> None:
        self.stage = stage
        self.killing, self.opening = killing, opening
        self.killed, self.holder, self.other = stage.start_many(
            {**HELD, **PATIENT, **killing.environment},
            {**HELD, **PATIENT, **opening.environment},
            HELD,
        )
        self.count = 0

    def ground(self) -> Ground:
        """An environment of its own, with two layers and their schema."""
        if self.killed.exit_code is not None:  # the test before failed
            self.return_killed()
        self.count += 1
        ground = Ground(self.stage, f"kill-{self.count}")
        ground.lay_out(self.other)
        for replica in (self.killed, self.holder):
            wait_until(lambda: ground.effective_data(replica) == PRESENT, "it follows")  # noqa: B023
        return ground

    def wait_for_kill(self) -> None:
        assert self.killed.wait_for_exit() == KILLED

    def return_killed(self) -> None:
        self.killing.arm()
        self.killed.restart()


@pytest.fixture(scope="module")
def trio(
    open_stage: Callable[[str], Stage],
    vault_server: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trio:
    folder = tmp_path_factory.mktemp("kills")
    return Trio(open_stage("real"), Failures(folder / "killing"), Failures(folder / "opening"))


@pytest.fixture
def ground(trio: Trio) -> Iterator[Ground]:
    yield trio.ground()
    trio.killing.arm()
    trio.opening.arm()


def keyed_write(ground: Ground) -> LayerWrite:
    return ground.write(ground.high, "base", _KEYED_VALUE, is_keyed=True)


def write_until_decided(ground: Ground, value: int, replica: ServiceProcess) -> LayerAnswer:
    """Write a related layer until it is not told to wait any more, which has a bound."""
    began = monotonic()
    while (answer := ground.set_low(value, replica)).status == 503:
        assert answer.code == "related_write_open"
        assert answer.retry_after is not None
        waited = monotonic() - began
        assert waited < BLOCKED_SECONDS + SLACK_SECONDS
    assert answer.seconds < 2 + SLACK_SECONDS
    return answer


def repeat(trio: Trio, ground: Ground, write: LayerWrite) -> int:
    """Ask the same write again, until it is decided."""
    answer = ground.ask(write, trio.killed)
    if answer.status == 504:
        # It would break the rule now, and may have been sent: it cannot be refused before another
        # version is where it would be.
        assert answer.code == "write_outcome_unknown"
        assert ground.set_high(PRESENT["high"] + 1, trio.other).status == 200
        answer = ground.ask(write, trio.killed)
    assert answer.status is not None
    assert ground.ask(write, trio.other).status == answer.status
    return answer.status


@pytest.mark.parametrize("point", STRAIGHT)
def test_a_judged_write_killed_at_any_step_blocks_its_relations_for_a_while_only(
    trio: Trio, ground: Ground, point: str
) -> None:
    write = keyed_write(ground)

    trio.killing.arm(Failpoint(point))
    assert ground.ask(write, trio.killed).status is None
    trio.wait_for_kill()
    answer = write_until_decided(ground, _KEYED_VALUE - 10, trio.other)
    trio.return_killed()

    # Whichever came first: one of both would break the rule.
    again = repeat(trio, ground, write)
    assert (answer.status, again) in {(200, 422), (422, 201)}
    assert ground.flaws() == []


@pytest.mark.parametrize("point", RESERVED)
def test_a_reserved_write_killed_at_any_step_blocks_its_relations_for_a_while_only(
    trio: Trio, ground: Ground, point: str
) -> None:
    write = keyed_write(ground)
    reaches = Failpoint(point)

    trio.opening.arm(OPEN)
    opened = trio.holder.log().count(f"reached {OPEN}")
    with ThreadPoolExecutor(2) as threads:
        earlier = threads.submit(ground.set_low, 45, trio.holder)
        wait_until_reached(trio.holder, OPEN, opened + 1)
        trio.killing.arm(reaches)
        killed = threads.submit(ground.ask, write, trio.killed)
        wait_until(
            lambda: trio.killed.exit_code is not None or is_reserved(ground), "it is reserved"
        )
        trio.opening.arm()
        assert killed.result().status is None
        assert earlier.result().status == 200
    trio.wait_for_kill()
    answer = write_until_decided(ground, _KEYED_VALUE - 10, trio.other)
    trio.return_killed()

    again = repeat(trio, ground, write)
    assert (answer.status, again) in {(200, 422), (422, 201)}
    assert ground.flaws() == []


@pytest.mark.parametrize("point", CANCELLED)
def test_a_refused_write_killed_while_it_cancels_blocks_its_relations_for_a_while_only(
    trio: Trio, ground: Ground, point: str
) -> None:
    write = keyed_write(ground)

    trio.opening.arm(OPEN)
    opened = trio.holder.log().count(f"reached {OPEN}")
    with ThreadPoolExecutor(2) as threads:
        earlier = threads.submit(ground.set_low, _KEYED_VALUE - 10, trio.holder)
        wait_until_reached(trio.holder, OPEN, opened + 1)
        trio.killing.arm(Failpoint(point))
        killed = threads.submit(ground.ask, write, trio.killed)
        wait_until(lambda: is_reserved(ground), "it is reserved")
        trio.opening.arm()
        assert killed.result().status is None
        assert earlier.result().status == 200
    trio.wait_for_kill()
    assert write_until_decided(ground, _KEYED_VALUE - 11, trio.other).status == 200
    trio.return_killed()

    assert repeat(trio, ground, write) == 422
    assert ground.flaws() == []


def is_reserved(ground: Ground) -> bool:
    question = f"""
        SELECT count(*) FROM intents
        WHERE state = 'reserved' AND environment = '{ground.environment}'
    """
    return bool(ground.stage.real.fetch(question)[0][0])


@pytest.mark.parametrize("point", DEFINED)
def test_a_schema_killed_while_it_is_committed_is_whole_or_not_there(
    trio: Trio, ground: Ground, point: str
) -> None:
    assert ground.delete_schema(trio.other).status == 204  # the other one need not know it yet

    trio.killing.arm(Failpoint(point))
    with pytest.raises((OSError, HTTPException)):
        ground.put_schema(trio.killed)
    trio.wait_for_kill()
    is_there = trio.other.request("GET", ground.schema).status == 200
    answer = ground.set_low(PRESENT["high"] + 1, trio.other)
    trio.return_killed()

    assert is_there is (point == "after_define")
    assert answer.status == (422 if is_there else 200)
    assert ground.put_schema(trio.killed).status == (200 if is_there else 422)
    assert ground.flaws() == []


def test_a_writer_who_is_held_longer_than_others_wait_for_it_sends_nothing(
    trio: Trio, ground: Ground
) -> None:
    write = keyed_write(ground)
    stores = Failpoint("before_store", WAIT)
    reached = trio.killed.log().count(f"reached {stores}")

    trio.killing.arm(stores)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(ground.ask, write, trio.killed)
        wait_until_reached(trio.killed, stores, reached + 1)
        answer = write_until_decided(ground, _KEYED_VALUE - 10, trio.other)
        trio.killing.arm()
        late = asking.result()

    assert (answer.status, late.status, late.code) == (200, 504, "write_outcome_unknown")
    assert ground.flaws() == []


@pytest.fixture
def lagging(trio: Trio, ground: Ground) -> ServiceProcess:
    """A replica that does not follow the log by itself any more."""
    follows = Failpoint("before_follow", WAIT)
    held = trio.killed.log().count(f"reached {follows}")
    trio.killing.arm(follows)
    wait_until_reached(trio.killed, follows, held + 1)
    return trio.killed


def test_a_replica_that_lags_takes_no_schema_for_what_it_was(
    trio: Trio, ground: Ground, lagging: ServiceProcess
) -> None:
    assert ground.delete_schema(trio.other).status == 204

    assert ground.put_schema(lagging).status == 201
    assert ground.put_schema(trio.other, mode="warn").status == 200
    assert ground.delete_schema(lagging).status == 204
    assert ground.flaws() == []


def test_a_replica_that_lags_refuses_nothing_for_what_it_has_not_seen(
    trio: Trio, ground: Ground, lagging: ServiceProcess
) -> None:
    assert ground.set_high(90, trio.other).status == 200

    assert ground.set_low(80, lagging).status == 200
    assert ground.set_low(95, lagging).status == 422
    assert ground.delete_schema(trio.other).status == 204
    assert ground.set_low(95, lagging).status == 200
    assert ground.set_high(96, trio.other).status == 200
    assert ground.put_schema(lagging).status == 201
    assert ground.flaws() == []


def test_a_write_in_doubt_keeps_a_schema_waiting_for_a_while_only(
    trio: Trio, ground: Ground
) -> None:
    assert ground.delete_schema(trio.other).status == 204
    wait_until(lambda: trio.killed.request("GET", ground.schema).status == 404, "it follows")

    trio.killing.arm(Failpoint("after_begin"))
    assert ground.set_low(PRESENT["high"] + 1, trio.killed).status is None
    trio.wait_for_kill()
    began = monotonic()
    while (answer := ground.put_schema(trio.other)).status == 503:
        assert answer.json()["code"] == "definition_contended"
        assert answer.headers["Retry-After"] is not None
        assert monotonic() - began < BLOCKED_SECONDS + SLACK_SECONDS
    trio.return_killed()

    assert answer.status == 201
    assert ground.flaws() == []
