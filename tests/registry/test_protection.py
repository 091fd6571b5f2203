"""When so many fall silent at once that nobody is evicted for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.protection import Protection, is_too_many, protection
from app.registry.rows import Counts

counts = st.builds(
    lambda registered, overdue, evicted: Counts(registered, min(overdue, registered), evicted),
    *[st.integers(0, 200)] * 3,
)


@pytest.mark.parametrize(
    ("registered", "overdue", "evicted", "held"),
    [
        (0, 0, 0, False),
        (4, 4, 0, False),  # too few to tell a network from instances
        (5, 5, 0, True),
        (5, 4, 0, False),
        (33, 5, 0, True),
        (34, 5, 0, False),
        (100, 15, 0, False),  # more than 15 %
        (100, 16, 0, True),
        (84, 0, 16, True),
        (85, 0, 15, False),
        (90, 6, 10, True),
        (1, 0, 5, True),
    ],
)
def test_more_than_15_percent_and_at_least_5_are_too_many(
    registered: int, overdue: int, evicted: int, *, held: bool
) -> None:
    assert is_too_many(Counts(registered, overdue, evicted)) is held


def test_a_service_is_protected_alone() -> None:
    found = protection({"a": Counts(10, 5, 0), "b": Counts(100, 0, 0)})

    assert found == Protection(frozenset({"a"}))
    assert found.covers("a")
    assert not found.covers("b")


def test_many_small_services_are_protected_together() -> None:
    found = protection({f"s{number}": Counts(2, 1, 0) for number in range(5)})

    assert found == Protection(frozenset(), everywhere=True)
    assert found.covers("whichever")


def test_nobody_is_protected_where_nobody_is() -> None:
    assert protection({}) == Protection()


@given(counts, st.integers(0, 50))
def test_who_returns_never_begins_a_protection_and_who_vanishes_never_ends_one(
    found: Counts, more: int
) -> None:
    back = min(more, found.overdue)

    returned = Counts(found.registered, found.overdue - back, found.evicted)

    if is_too_many(returned):
        assert is_too_many(found)
