"""When so many fall silent at once that nobody is evicted for it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.model import ServiceCounts
from app.registry.self_preservation import Protection, count_expected, is_too_many, protection

counts = st.builds(
    lambda registered, overdue, evicted, newcomers: ServiceCounts(
        registered,
        min(overdue, registered),
        evicted,
        min(newcomers, registered - min(overdue, registered)),
    ),
    *[st.integers(0, 200)] * 4,
)


@pytest.mark.parametrize(
    ("registered", "overdue", "evicted", "newcomers", "held"),
    [
        (0, 0, 0, 0, False),
        (4, 4, 0, 0, False),  # too few to tell a network from instances
        (5, 5, 0, 0, True),
        (5, 4, 0, 0, False),
        (33, 5, 0, 0, True),
        (34, 5, 0, 0, False),
        (100, 15, 0, 0, False),  # more than 15 %
        (100, 16, 0, 0, True),
        (84, 0, 16, 0, True),
        (85, 0, 15, 0, False),
        (90, 6, 10, 0, True),
        (1, 0, 5, 0, True),
        # Of 20 that were there 6 have died.
        (20, 6, 0, 0, True),
        (26, 6, 0, 6, False),  # and 6 others have come for them
        (21, 6, 0, 1, True),
        (22, 6, 0, 2, False),
        (20, 0, 6, 6, False),  # evicted meanwhile
        (60, 6, 0, 40, False),
        (40, 20, 0, 10, True),  # half of them are missing still
    ],
)
def test_more_than_15_percent_and_at_least_5_are_too_many(
    registered: int, overdue: int, evicted: int, newcomers: int, *, held: bool
) -> None:
    assert is_too_many(ServiceCounts(registered, overdue, evicted, newcomers)) is held


def test_a_service_is_protected_alone() -> None:
    found = protection({"a": ServiceCounts(10, 5, 0), "b": ServiceCounts(100, 0, 0)})

    assert found == Protection(frozenset({"a"}))
    assert found.silent == 5
    assert found.covers("a")
    assert not found.covers("b")


def counts_after_loss(ago: float, missing: int = 1, registered: int = 2) -> ServiceCounts:
    """Return the counts of a service whose instances were heard last so many seconds ago."""
    return ServiceCounts(registered, missing, 0, first_seconds=ago, last_seconds=ago - 30)


def test_many_small_services_are_protected_together() -> None:
    silent = {f"s{number}": counts_after_loss(100 - number) for number in range(5)}

    found = protection({**silent, "well": ServiceCounts(10, 0, 0)})

    assert found == Protection(frozenset(silent))
    assert found.silent == 5


def test_too_small_a_share_of_all_is_not_protected_together() -> None:
    silent = {f"s{number}": counts_after_loss(100) for number in range(5)}

    assert protection({**silent, "well": ServiceCounts(100, 0, 0)}) == Protection()


def test_those_that_vanished_at_other_times_are_looked_at_apart() -> None:
    silent = {f"s{number}": counts_after_loss(100 * number + 100) for number in range(20)}

    assert protection(silent) == Protection()


def test_forty_silent_instances_of_one_service_stop_no_eviction_in_another() -> None:
    found = protection(
        {
            "silent": counts_after_loss(250, missing=40, registered=40),
            "other": counts_after_loss(100, registered=3),
            "well": ServiceCounts(100, 0, 0),
        }
    )

    assert found == Protection(frozenset({"silent"}))


def test_a_small_service_that_vanished_with_a_large_one_is_protected_with_it() -> None:
    found = protection(
        {"large": counts_after_loss(100, 40, 40), "small": counts_after_loss(90, 2, 2)}
    )

    assert found.services == {"large", "small"}


def test_nobody_is_protected_where_nobody_is() -> None:
    assert protection({}) == Protection()


@given(counts, st.integers(0, 50))
def test_who_returns_never_begins_a_protection_and_who_vanishes_never_ends_one(
    found: ServiceCounts, more: int
) -> None:
    back = min(more, found.overdue)

    returned = replace(found, overdue=found.overdue - back)

    if is_too_many(returned):
        assert is_too_many(found)


@given(counts, st.integers(0, 50))
def test_who_comes_for_another_never_begins_a_protection(found: ServiceCounts, more: int) -> None:
    come = replace(found, registered=found.registered + more, newcomers=found.newcomers + more)

    assert count_expected(come) >= count_expected(found)
    if is_too_many(come):
        assert is_too_many(found)


@given(st.dictionaries(st.sampled_from("abcdefgh"), counts))
def test_only_services_that_miss_somebody_are_protected(found: dict[str, ServiceCounts]) -> None:
    for name in protection(found).services:
        assert found[name].overdue + found[name].evicted > found[name].newcomers
