"""Rounds of deliveries: whatever fails, no change overtakes an earlier one of its entity."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.webhooks.model import (
    NOTHING_WAITS,
    Attempt,
    Delivery,
    Kept,
    RoundResult,
    Waiting,
)
from app.webhooks.rounds import (
    FIRST_DELAY_SECONDS,
    GIVE_UP_SECONDS,
    LONGEST_DELAY_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    Failure,
    Round,
    retry_delay,
)

Fate = Literal["delivered", "failed", "crash"]
FAILURE = Failure(503, "answered 503")


def attempt_of(delivery: Delivery) -> Attempt:
    return Attempt(delivery.id, delivery.revision, "failed", 503, "", 0.1, 1, datetime.now(UTC))


class Store:
    """What a store keeps for one webhook, without its clock: a line is due if a test says so."""

    def __init__(self) -> None:
        self.cursor = 0
        self.kept: dict[str, Delivery] = {}
        self.dead: dict[str, Delivery] = {}

    def waiting(self, is_due: Sequence[bool], limit: int) -> Waiting:
        lines: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in sorted(self.kept.values(), key=lambda each: each.revision):
            lines[delivery.entity].append(delivery)
        due = [
            delivery
            for number, line in enumerate(lines.values())
            if is_due[number % len(is_due)]
            for delivery in line
        ]
        return Waiting(due[:limit], frozenset(lines))

    def record(self, result: RoundResult) -> None:
        self.cursor = max(self.cursor, result.cursor)
        for message_id in result.delivered:
            del self.kept[message_id]
        for kept in result.kept:
            delivery = replace(kept.delivery, attempts=kept.attempts)
            self.kept.pop(delivery.id, None)
            (self.dead if kept.is_dead else self.kept)[delivery.id] = delivery


class Simulation:
    """Rounds over one log; `draw` decides what fails, what is due, and what crashes."""

    def __init__(self, log: Sequence[str], draw: st.DataObject, round_type: type[Round]) -> None:
        self.store = Store()
        self.deliveries = [Delivery(str(n), n, entity, "{}") for n, entity in enumerate(log, 1)]
        self.first_seen: dict[str, list[int]] = defaultdict(list)
        self._draw = draw
        self._round_type = round_type

    def run_round(
        self, fates: st.SearchStrategy[Fate], due: Sequence[bool], batch: int, limit: int
    ) -> None:
        store = self.store
        fresh = [each for each in self.deliveries if each.revision > store.cursor][:batch]
        cursor = fresh[-1].revision if fresh else store.cursor
        current = self._round_type(cursor, store.waiting(due, limit), fresh)
        running: list[Delivery] = []
        while True:
            while len(running) < 2 and (delivery := current.take()) is not None:
                running.append(delivery)
            if not running:
                store.record(current.finish())
                return
            assert len({each.entity for each in running}) == len(running)
            delivery = running.pop(self._draw.draw(st.integers(0, len(running) - 1)))
            fate = self._draw.draw(fates)
            if fate == "crash":  # with other requests under way, and nothing recorded
                return
            if fate == "failed":
                current.record_failure(delivery, FAILURE, attempt_of(delivery))
            else:
                self._see(delivery)
                current.record_success(delivery, attempt_of(delivery))

    def _see(self, delivery: Delivery) -> None:
        seen = self.first_seen[delivery.entity]
        if delivery.revision not in seen:
            seen.append(delivery.revision)

    def check(self) -> None:
        """Raise AssertionError unless all arrived, for the first time in order for each entity."""
        assert self.store.kept == self.store.dead == {}
        for entity in {each.entity for each in self.deliveries}:
            expected = [each.revision for each in self.deliveries if each.entity == entity]
            assert self.first_seen[entity] == expected


def simulate(log: Sequence[str], draw: st.DataObject, round_type: type[Round]) -> None:
    simulation = Simulation(log, draw, round_type)
    for _ in range(draw.draw(st.integers(0, 8))):
        simulation.run_round(
            st.sampled_from(["delivered", "failed", "crash"]),
            draw.draw(st.lists(st.booleans(), min_size=1, max_size=3)),
            draw.draw(st.integers(1, 10)),
            draw.draw(st.integers(1, 5)),
        )
    for _ in range(2 * len(log) + 2):
        simulation.run_round(st.just("delivered"), [True], 10, 5)
    simulation.check()


LOGS = st.lists(st.sampled_from("abc"), max_size=30)


@given(log=LOGS, draw=st.data())
def test_nothing_is_lost_and_nothing_overtakes(log: list[str], draw: st.DataObject) -> None:
    simulate(log, draw, Round)


class OvertakingRound(Round):
    """The bug: what is new does not wait for what waits of its entity."""

    def __init__(self, cursor: int, waiting: Waiting, fresh: Sequence[Delivery]) -> None:
        super().__init__(cursor, replace(waiting, entities=frozenset()), fresh)


class ForgetfulRound(Round):
    """The bug: what was behind a delivery that failed is not kept."""

    def finish(self) -> RoundResult:
        result = super().finish()
        return replace(result, kept=[each for each in result.kept if each.attempts])


@pytest.mark.parametrize("round_type", [OvertakingRound, ForgetfulRound])
def test_the_check_notices_bugs(round_type: type[Round]) -> None:
    @settings(max_examples=2000, database=None, report_multiple_bugs=False, derandomize=True)
    @given(log=LOGS, draw=st.data())
    def check(log: list[str], draw: st.DataObject) -> None:
        simulate(log, draw, round_type)

    with pytest.raises(AssertionError):
        check()


def test_a_delivery_that_fails_keeps_those_behind_it() -> None:
    first, second, other = (
        Delivery("1", 1, "a", "{}"),
        Delivery("2", 2, "a", "{}"),
        Delivery("3", 3, "b", "{}"),
    )
    current = Round(3, NOTHING_WAITS, [first, second, other])
    assert [current.take(), current.take(), current.take()] == [first, other, None]

    current.record_failure(first, FAILURE, attempt_of(first))
    current.record_success(other, attempt_of(other))

    assert current.take() is None
    result = current.finish()
    assert [(each.delivery.id, each.attempts) for each in result.kept] == [("1", 1), ("2", 0)]
    assert (result.cursor, list(result.delivered)) == (3, [])


def test_after_a_day_a_delivery_is_a_dead_letter_and_the_next_follows() -> None:
    old = Delivery("1", 1, "a", "{}", attempts=140, age=GIVE_UP_SECONDS)
    behind = Delivery("2", 2, "a", "{}", age=10)
    current = Round(2, Waiting([old, behind], frozenset("a")), [])

    assert current.take() == old
    current.record_failure(old, FAILURE, attempt_of(old))
    assert current.take() == behind
    current.record_success(behind, attempt_of(behind))

    result = current.finish()
    assert result.kept == [
        Kept(old, 141, is_dead=True, status=503, reason="answered 503"),
    ]
    assert result.delivered == ["2"]


def test_what_is_not_tried_is_kept_and_due_at_once() -> None:
    fresh = [Delivery(str(n), n, f"e{n}", "{}") for n in range(3)]
    current = Round(3, NOTHING_WAITS, fresh)

    result = current.finish()

    assert [(each.delivery, each.attempts, each.delay) for each in result.kept] == [
        (each, 0, 0.0) for each in fresh
    ]


@given(
    attempts=st.integers(1, 10_000),
    retry_after=st.none() | st.floats(0, 1e9),
    chance=st.floats(0, 1),
)
def test_delays_are_bounded(attempts: int, retry_after: float | None, chance: float) -> None:
    delay = retry_delay(attempts, retry_after, lambda: chance)

    assert delay >= FIRST_DELAY_SECONDS / 2
    assert delay <= max(LONGEST_DELAY_SECONDS, LONGEST_RETRY_AFTER_SECONDS)
    if retry_after is not None:
        assert delay >= min(retry_after, LONGEST_RETRY_AFTER_SECONDS)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (5, 16), (20, 900)])
def test_delays_double(attempts: int, seconds: float) -> None:
    assert retry_delay(attempts, None, lambda: 0.0) == seconds
    assert retry_delay(attempts, None, lambda: 1.0) == seconds / 2
