"""A circuit breaker, against a clock that a test sets."""

import pytest

from pilothouse_core.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 0.001  # no two calls at the same moment
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(breaker: Breaker, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure(clock())


def test_a_breaker_opens_after_failures_in_a_row_only(clock: Clock) -> None:
    breaker = Breaker(failures=3, pause=1, clock=clock)
    fail(breaker, clock, times=2)
    breaker.record_success()
    fail(breaker, clock, times=2)
    assert breaker.try_call()

    fail(breaker, clock)

    assert breaker.is_open
    assert not breaker.try_call()


def test_failures_of_calls_under_way_together_count_as_one(clock: Clock) -> None:
    breaker = Breaker(failures=2, pause=1, clock=clock)
    together = [clock() for _ in range(20)]
    for began in together:
        breaker.record_failure(began)
    assert breaker.try_call()

    fail(breaker, clock)

    assert breaker.is_open


def test_an_open_breaker_lets_one_trial_through_in_each_pause(clock: Clock) -> None:
    breaker = Breaker(failures=1, pause=1, clock=clock)
    fail(breaker, clock)

    clock.now = 1.1
    assert [breaker.try_call() for _ in range(3)] == [True, False, False]
    clock.now = 2.0
    assert not breaker.try_call()
    clock.now = 2.2
    assert breaker.try_call()  # though nobody told what became of the first trial
    breaker.record_success()

    assert all(breaker.try_call() for _ in range(3))


def test_while_others_try_no_caller_has_to(clock: Clock) -> None:
    breaker = Breaker(failures=1, pause=1, clock=clock)
    fail(breaker, clock)

    for half_second in range(1, 10):
        clock.now = half_second / 2
        assert not breaker.try_call()
        breaker.record_trial()
        fail(breaker, clock)


def test_a_late_failure_does_not_put_off_the_next_trial(clock: Clock) -> None:
    breaker = Breaker(failures=1, pause=1, clock=clock)
    fail(breaker, clock)
    clock.now = 0.9
    fail(breaker, clock)

    clock.now = 1.1
    assert breaker.is_due


def test_a_breaker_whose_trials_outlast_its_pause_rests_after_them() -> None:
    now = 0.0
    breaker = Breaker(failures=2, pause=10, clock=lambda: now)
    for _ in range(2):
        assert breaker.try_call()
        breaker.record_failure(now)
    now = 10.0
    assert [breaker.try_call() for _ in range(2)] == [True, False]
    now = 25.0
    breaker.record_failure(10.0)
    breaker.record_trial()

    now = 34.0
    assert not breaker.try_call()
    now = 35.0
    assert breaker.try_call()


@pytest.mark.parametrize(("failures", "pause"), [(0, 1), (1, -1)])
def test_bounds_without_a_meaning_are_refused(failures: int, pause: float) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Breaker(failures=failures, pause=pause)
