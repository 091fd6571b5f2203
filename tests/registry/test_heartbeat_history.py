"""For how long a replica has heard heartbeats of others."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.heartbeat_history import HeartbeatHistory
from tests.registry.bench import Clock

LEASE = 30.0


def hearing_at(*times: float, now: float) -> HeartbeatHistory:
    clock = Clock()
    hearing = HeartbeatHistory(clock)
    for clock.now in times:
        hearing.record()
    clock.now = now
    return hearing


@pytest.mark.parametrize(
    ("times", "now", "seconds"),
    [
        ((), 1000, inf),
        ((1000,), 1029, inf),  # whoever was heard may be silent for a lease, and no longer
        ((1000,), 1030, 30),
        ((1000,), 5000, 4000),
        (range(1000, 1101, 10), 1100, 30),
        (range(1000, 1101, 10), 1105, 35),  # to the heartbeat before
        ([1000 + number / 2 for number in range(200)], 1099.5, 30),
        # Deaf between 1100 and 2000: that counts one lease, and no more.
        ((*range(1000, 1101, 10), 2000), 2000, 900),
        ((*range(1000, 1101, 10), 2000, 2010, 2020), 2025, 25 + 900),
    ],
)
def test_a_lease_of_hearing_goes_back_so_far(
    times: tuple[float, ...], now: float, seconds: float
) -> None:
    assert hearing_at(*times, now=now).seconds_back(LEASE, LEASE) == pytest.approx(seconds)


def test_who_is_deaf_hears_nothing_more_however_long_it_is() -> None:
    heard = range(1000, 1101, 10)

    assert hearing_at(*heard, now=1200).seconds_back(5 * LEASE, LEASE) == inf
    assert hearing_at(*heard, now=1_000_000).seconds_back(5 * LEASE, LEASE) == inf


def test_where_few_are_heard_it_takes_longer_and_ends() -> None:
    heard = range(1000, 5000, 100)

    assert hearing_at(*heard, now=4900).seconds_back(300, LEASE) == 1000


@given(
    st.lists(st.floats(0, 1000), max_size=60).map(sorted),
    st.floats(0, 100),
    st.floats(1, 500),
    st.floats(1, 100),
)
def test_it_never_counts_more_than_has_passed(
    times: list[float], after: float, heard_for: float, lease: float
) -> None:
    now = (times[-1] if times else 0.0) + after

    seconds = hearing_at(*times, now=now).seconds_back(heard_for, lease)

    assert seconds >= heard_for - 1e-6
    assert seconds == inf or seconds <= now - times[0] + 1e-6
