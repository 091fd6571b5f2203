"""The checker finds what it is there to find: in histories made by hand, and in seeded bugs."""

import json
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, Self

import pytest

from tests.faults.bugs import BUGS
from tests.faults.checker import Truth, check
from tests.faults.history import Asked, Told
from tests.faults.launcher import Failpoint
from tests.faults.stage import NEVER, Stage, writing
from tests.servers.process import wait_until
from tests.servers.service import ServiceProcess

SHOP = "layers/default/shop"
PATIENT = {
    "VAULT_TIMEOUT_SECONDS": "6",
    "DATABASE_TIMEOUT_SECONDS": "6",
}  # nobody gives up while a test holds a process
STOP = "SIGSTOP"


class Ledger:
    """A history and its truth, made by hand: each write becomes the next version of the shop."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.texts: dict[int, str | None] = {}
        self.rows: list[dict[str, Any]] = []
        self.outcomes: dict[str, Mapping[str, Any]] = {}
        self.data: dict[str, Any] = {}

    def wrote(self, value: str, **answer_facts: Any) -> Self:
        """One write that went well, unless `answer_facts` is something else."""
        self.add_text(value)
        self.add_row(len(self.texts), value)
        answer = {"status": 201, "version": len(self.texts), "revision": len(self.rows)}
        return (
            self.add_request(value, **answer, **answer_facts)
            if "status" not in answer_facts
            else self.add_request(value, **answer_facts)
        )

    def add_request(self, value: str, **answer_facts: Any) -> Self:
        attempt = len(self.lines)
        empty = {"version": None, "revision": None, "intent": None}
        key = value.partition("-")[0]
        expected = answer_facts.pop("expected", None)
        request = {"value": value, "document": SHOP, "key": key, "expected": expected}
        self.lines.append({"did": "asked", "attempt": attempt, **request})
        self.lines.append({"did": "answered", "attempt": attempt, **empty, **answer_facts})
        return self

    def add_text(self, value: str, key: str | None = None) -> Self:
        self.data = {**self.data, key or value.partition("-")[0]: value}
        change = {"id": f"id-{value}"}
        body = {"change": change, "deleted": False, "data": self.data}
        self.texts[len(self.texts) + 1] = json.dumps(body)
        return self

    def add_row(self, version: int, value: str, **facts: Any) -> Self:
        row = {"id": f"id-{value}", "environment": "default", "name": "shop", "version": version}
        row_facts = {"revision": len(self.rows) + 1, "action": "updated", "comment": value}
        self.rows.append({**row, **row_facts, **facts})
        return self

    def violations(self, current: Mapping[str, Any] | None = None) -> list[str]:
        newest = {"version": len(self.texts), "config_data": self.data}
        truth = Truth({SHOP: self.texts}, self.rows, {SHOP: current or newest}, self.outcomes)
        return check([json.dumps(line) for line in self.lines], truth)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger().wrote("a-1").wrote("b-1")


def test_a_history_in_order_has_no_violation(ledger: Ledger) -> None:
    ledger.wrote("a-2", expected=2).add_request("b-2", status=412)

    assert ledger.violations() == []


def test_an_unanswered_write_may_be_there_or_not(ledger: Ledger) -> None:
    ledger.wrote("a-2", status=None).add_request("b-2", status=None)

    assert ledger.violations() == []


def test_an_acknowledged_write_that_is_nowhere_is_found(ledger: Ledger) -> None:
    ledger.add_request("a-2", status=201, version=3, revision=3)

    assert ledger.violations() == [
        "a-2 was answered 201 with version 3, which does not hold it",
    ]


def test_an_acknowledged_write_in_another_version_is_found(ledger: Ledger) -> None:
    ledger.wrote("a-2", status=201, version=2, revision=2)

    assert ledger.violations() == ["a-2 was answered 201 with version 2, which does not hold it"]


def test_a_wrong_revision_is_found(ledger: Ledger) -> None:
    ledger.wrote("a-2", status=201, version=3, revision=2)

    assert ledger.violations() == [
        "a-2 was answered 201 with version 3 and revision 2, logged as 3"
    ]


def test_two_winners_of_one_version_are_found(ledger: Ledger) -> None:
    ledger.wrote("a-2", expected=2).add_request(
        "b-2", status=200, version=3, revision=3, expected=2
    )

    assert ledger.violations() == ["b-2 was answered 200 with version 3, which does not hold it"]


def test_a_write_past_its_if_match_is_found(ledger: Ledger) -> None:
    ledger.wrote("a-2").wrote("b-2", expected=2)

    assert ledger.violations() == [
        "b-2 was answered 201 with version 4 although it had to follow version 2"
    ]


def test_a_version_that_is_not_in_the_log_is_found(ledger: Ledger) -> None:
    ledger.add_text("a-2").add_request("a-2", status=None)

    assert ledger.violations() == [f"version 3 of {SHOP} is not in the log"]


def test_a_version_that_is_in_the_log_twice_is_found(ledger: Ledger) -> None:
    ledger.add_row(2, "b-1")

    assert ledger.violations() == [
        f"version 2 of {SHOP} is 2 times in the log",
        f"the log tells version 2 of {SHOP} after version 2",
        "change id-b-1 is in the log 2 times",
    ]


def test_a_row_without_a_version_is_found(ledger: Ledger) -> None:
    ledger.add_row(3, "a-2")

    assert ledger.violations() == [
        f"revision 3 tells of version 3 of {SHOP}, which is not in the store"
    ]


def test_versions_out_of_order_are_found(ledger: Ledger) -> None:
    ledger.add_text("a-2").add_text("b-2").add_row(4, "b-2").add_row(3, "a-2")
    ledger.add_request("a-2", status=None).add_request("b-2", status=None)

    assert ledger.violations() == [
        f"the log tells version 4 of {SHOP} after version 2",
        f"the log tells version 3 of {SHOP} after version 4",
    ]


def test_a_gap_in_the_log_is_found(ledger: Ledger) -> None:
    ledger.add_text("a-2").add_text("b-2").add_row(4, "b-2")
    ledger.add_request("a-2", status=None).add_request("b-2", status=None)

    assert ledger.violations() == [
        f"version 3 of {SHOP} is not in the log",
        f"the log tells version 4 of {SHOP} after version 2",
    ]


def test_revisions_that_do_not_ascend_are_found(ledger: Ledger) -> None:
    ledger.add_text("a-2").add_row(3, "a-2", revision=2).add_request("a-2", status=None)

    assert ledger.violations() == ["revision 2 follows revision 2"]


def test_a_write_logged_as_somebody_elses_is_found(ledger: Ledger) -> None:
    ledger.add_text("a-2").add_row(3, "a-2", action="external").add_request("a-2", status=None)
    ledger.add_text("b-2").add_row(4, "c-1").add_request("b-2", status=None)

    assert ledger.violations() == [
        f"version 3 of {SHOP} is ours and logged as external",
        f"version 4 of {SHOP} is logged under another change's id",
        f"version 4 of {SHOP} is logged as the write 'c-1'",
    ]


def test_an_edit_of_somebody_else_logged_as_ours_is_found(ledger: Ledger) -> None:
    ledger.add_text("edit").add_row(3, "edit")
    ledger.lines.append({"did": "edited", "document": SHOP, "version": 3, "value": "edit"})

    assert ledger.violations() == [f"version 3 of {SHOP} is foreign and logged as updated"]


@pytest.mark.parametrize("status", [409, 412, 503])
def test_a_refused_write_that_is_in_the_store_is_found(ledger: Ledger, status: int) -> None:
    ledger.wrote("a-2", status=status)

    assert ledger.violations() == [f"a-2 was answered [{status}] and is in the store"]


@pytest.mark.parametrize("status", [409, 412])
def test_a_decision_that_denies_what_an_unanswered_attempt_wrote_is_found(
    ledger: Ledger, status: int
) -> None:
    ledger.wrote("a-2", status=None).add_request("a-2", status=status)

    assert ledger.violations() == [f"a-2 was answered [{status}] and is in the store"]


def test_an_attempt_that_was_not_taken_denies_nothing(ledger: Ledger) -> None:
    ledger.wrote("a-2", status=None).add_request("a-2", status=503)

    assert ledger.violations() == []


def test_a_refusal_after_the_write_was_acknowledged_is_found(ledger: Ledger) -> None:
    ledger.wrote("a-2").add_request("a-2", status=503)

    assert ledger.violations() == ["a-2 was answered 503 after it was written"]


def test_a_refusal_before_the_write_was_done_is_no_violation(ledger: Ledger) -> None:
    ledger.add_request("a-2", status=503).wrote("a-2")

    assert ledger.violations() == []


@pytest.mark.parametrize("state", ["open", "lost"])
def test_an_outcome_that_denies_a_write_is_found(ledger: Ledger, state: str) -> None:
    ledger.outcomes["id-a-2"] = {"state": state, "version": None}
    ledger.wrote("a-2", status=504, intent="id-a-2")

    assert ledger.violations() == [
        f"a-2 was answered 504, its outcome is {state} and it is in the store"
    ]


def test_an_outcome_that_makes_up_a_write_is_found(ledger: Ledger) -> None:
    ledger.outcomes["id-a-2"] = {"state": "applied", "version": 2}
    ledger.add_request("a-2", status=504, intent="id-a-2")

    assert ledger.violations() == [
        "a-2 was answered 504, its outcome is applied and version 2 does not hold it"
    ]


def test_a_true_outcome_is_no_violation(ledger: Ledger) -> None:
    ledger.outcomes["id-a-2"] = {"state": "applied", "version": 3}
    ledger.outcomes["id-b-2"] = {"state": "open", "version": None}
    ledger.wrote("a-2", status=504, intent="id-a-2").add_request("b-2", status=504, intent="id-b-2")

    assert ledger.violations() == []


def test_a_write_whose_outcome_is_not_told_is_found(ledger: Ledger) -> None:
    ledger.add_request("a-2", status=504, intent="id-a-2")

    assert ledger.violations() == ["a-2 was answered 504 and its outcome is not to be had"]


def test_a_write_done_twice_is_found(ledger: Ledger) -> None:
    ledger.wrote("a-2").add_text("b-2").add_row(4, "b-2").add_request("b-2", status=None)
    ledger.add_text("a-2", key="c").add_row(5, "a-2", id="id-other")
    ledger.texts[5] = (ledger.texts[5] or "").replace("id-a-2", "id-other")

    assert ledger.violations() == [
        f"version 5 of {SHOP} holds 'a-2' at 'c', which nobody wrote there",
        f"a-2 was written 2 times: [('{SHOP}', 3), ('{SHOP}', 5)]",
    ]


def test_a_write_that_undoes_another_is_found(ledger: Ledger) -> None:
    del ledger.data["b"]
    ledger.wrote("a-2")

    assert ledger.violations() == [
        f"version 3 of {SHOP} loses 'b'",
        f"version 3 of {SHOP} changes more than one key: ['a', 'b']",
    ]


def test_a_version_without_a_change_is_found(ledger: Ledger) -> None:
    ledger.add_text("b-1").add_row(3, "b-1", id="id-b-1")
    ledger.rows[2]["id"] = "id-again"
    ledger.texts[3] = (ledger.texts[3] or "").replace("id-b-1", "id-again")

    assert ledger.violations() == [f"version 3 of {SHOP} changes nothing"]


def test_a_value_nobody_wrote_is_found(ledger: Ledger) -> None:
    ledger.add_text("z-1").add_row(3, "z-1")

    assert ledger.violations() == [
        f"version 3 of {SHOP} holds 'z-1' at 'z', which nobody wrote there"
    ]


def test_a_version_that_vanished_is_found(ledger: Ledger) -> None:
    ledger.texts[1] = None

    assert f"version 1 of {SHOP} cannot be read" in ledger.violations()


def test_an_old_read_is_found(ledger: Ledger) -> None:
    assert ledger.violations({"version": 1, "config_data": {"a": "a-1"}}) == [
        f"{SHOP} is read as version 1, version 2 is stored"
    ]


def test_a_read_of_something_else_is_found(ledger: Ledger) -> None:
    assert ledger.violations({"version": 2, "config_data": {"a": "a-1"}}) == [
        f"{SHOP} is read as version 2, version 2 is stored"
    ]


def test_a_crash_is_found(ledger: Ledger) -> None:
    assert ledger.add_request("a-2", status=500).violations() == ["a-2 was answered 500"]


# --- seeded bugs, each in the story that brings it to light; without the bug all is well ---


class Asking:
    """A client whose request is under way: its replica is held at a step."""

    def __init__(
        self, stage: Stage, write: Asked, replica: ServiceProcess, point: str, at: int = 1
    ) -> None:
        self._told: list[Told] = []
        self._replica = replica
        self._thread = Thread(target=lambda: self._told.append(stage.history.ask(write, replica)))
        self._thread.start()
        reached = f"reached {Failpoint(point, STOP, at)}"
        wait_until(lambda: reached in replica.log(), f"the replica has {reached}")

    def goes_on(self) -> Told:
        self._replica.thaw()
        self._thread.join()
        return self._told[0]


Story = Callable[[Stage, str], None]


def two_replicas(
    stage: Stage, bug: str, held: str, at: int = 1, **environment: str
) -> tuple[ServiceProcess, ServiceProcess]:
    """Start two with the bug; the first stops at the step `held`, the `at`-th time it comes by."""
    common = {"SEEDED_BUG": bug, "FIRST_LOOK": NEVER, **PATIENT}
    stopping = {"FAILPOINT": str(Failpoint(held, STOP, at))}
    one, other = stage.start_many({**common, **stopping, **environment}, common)
    return one, other


def committed_by_two(stage: Stage, bug: str) -> None:
    """A retry finds the write of a replica that is held before it logs, and logs it first."""
    one, other = two_replicas(stage, bug, "before_advance")
    write = stage.client().new("shop", keyed=True)

    first = Asking(stage, write, one, "before_advance")
    assert stage.history.ask(write, other).status == 201
    first.goes_on()


def overtaken_before_the_read_back(stage: Stage, bug: str) -> None:
    """The answer was lost, and before the replica looks somebody writes on top."""
    # With the bug it asks for the head, as it did before the write.
    look, at = ("before_head", 2) if bug else ("before_look", 1)
    proxy, way = stage.way_to_vault()
    one, other = two_replicas(stage, bug, look, at, **way)
    assert stage.client().write(other, "shop").version == 1
    wait_until(lambda: version_at(one) == 1, "the first replica follows")

    proxy.drop_next_response(when=writing("shop"))
    first = Asking(stage, stage.client().new("shop", expected=1), one, look, at)
    assert stage.client().write(other, "shop").version == 3
    first.goes_on()


def version_at(replica: ServiceProcess) -> int | None:
    answer = replica.request("GET", "/api/configs/shop")
    return answer.json()["version"] if answer.status == 200 else None


def retried_when_the_store_had_it(stage: Stage, bug: str) -> None:
    """A replica dies when the write is stored; the store refuses it when it is sent again."""
    service = stage.start(SEEDED_BUG=bug, FIRST_LOOK=NEVER)
    write = stage.client().new("shop", keyed=True)

    stage.arm(Failpoint("after_store"))
    assert stage.history.ask(write, service).status is None
    service.wait_for_exit()
    stage.arm()
    service.restart()
    stage.history.ask(write, service)


def logged_by_the_later_one_first(stage: Stage, bug: str) -> None:
    """A replica is held between store and log, and another one writes the next version."""
    one, other = two_replicas(stage, bug, "before_advance")

    first = Asking(stage, stage.client().new("shop"), one, "before_advance")
    assert stage.client().write(other, "shop").status == 200
    first.goes_on()


STORIES: dict[str, tuple[Story, str]] = {
    "unconditional_commit": (committed_by_two, "version 1 of {} is 2 times in the log"),
    "reads_current": (overtaken_before_the_read_back, "was answered [412] and is in the store"),
    "conflict_unread": (retried_when_the_store_had_it, "was answered [409] and is in the store"),
    "commits_out_of_order": (
        logged_by_the_later_one_first,
        "the log tells version 2 of {} after version 0",
    ),
}


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("bug", STORIES)
def test_a_seeded_bug_turns_the_checker_red(stage: Stage, bug: str) -> None:
    story, violation = STORIES[bug]

    story(stage, bug)

    assert any(violation.format(SHOP) in found for found in stage.violations_now())


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("bug", STORIES)
def test_the_same_story_without_the_bug_has_no_violation(stage: Stage, bug: str) -> None:
    story, _ = STORIES[bug]

    story(stage, "")

    assert stage.violations() == []


def test_every_seeded_bug_has_its_story() -> None:
    assert set(STORIES) == set(BUGS)
