"""What several policies require together, and when their closed windows are."""

from datetime import UTC, datetime, time
from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.model import Right
from app.rules.definitions.model import Scope
from app.rules.policies.model import (
    DAYS,
    Approver,
    ClosedWindow,
    Policy,
    PolicyKind,
    joined_requirements,
    requirements_of,
    requirements_of_scopes,
)
from pilothouse_core.name_patterns import can_match_one_name, matches

PATTERNS = st.text("ab*", min_size=1, max_size=5)
NAMES = st.text("ab", min_size=1, max_size=4)
KINDS = st.sampled_from(get_args(PolicyKind))
WINDOWS = st.builds(
    ClosedWindow,
    st.sampled_from([("sat", "sun"), ("fri",), DAYS]),
    st.sampled_from(["Europe/Berlin", "UTC", "Pacific/Apia"]),
    st.sampled_from([time(), time(18)]),
    st.sampled_from([time(), time(6)]),
)
POLICIES = st.builds(
    Policy,
    name=st.text("xyz", min_size=1, max_size=3),
    version=st.just(1),
    scope=st.builds(
        Scope, st.lists(PATTERNS, min_size=1).map(tuple), st.lists(PATTERNS, min_size=1).map(tuple)
    ),
    kinds=st.frozensets(KINDS, min_size=1),
    approvals=st.integers(1, 5),
    of=st.frozensets(st.sampled_from(get_args(Approver)), min_size=1),
    people_only=st.booleans(),
    valid_for=st.none() | st.integers(1, 900),
    rollback=st.sampled_from(["free", "approved"]),
    closed=st.lists(WINDOWS, max_size=2).map(tuple),
)


@given(st.lists(POLICIES, max_size=3), KINDS, NAMES, NAMES)
def test_the_strictest_counts_in_any_order(
    policies: list[Policy], kind: str, environment: str, service: str
) -> None:
    asking = [
        each for each in policies if requirements_of([each], kind, environment, service) is not None
    ]

    together = requirements_of(policies, kind, environment, service)

    for order in permutations(policies):
        assert requirements_of(order, kind, environment, service) == together
    if together is None:
        assert asking == []
        return
    assert set(together.policies) == {each.name for each in asking}
    for each in asking:
        assert together.approvals >= each.approvals
        assert together.of <= each.of | {"admin"}
        assert together.people_only or not each.people_only
        assert each.valid_for is None or (together.valid_for or 0) <= each.valid_for
        assert together.rollback == "approved" or each.rollback == "free"
        assert set(each.closed) <= set(together.closed)
    assert "admin" in together.of
    assert together.approvals in {each.approvals for each in asking}
    assert together.valid_for in {each.valid_for for each in asking}


@given(st.lists(POLICIES, max_size=3), KINDS, st.lists(st.tuples(NAMES, NAMES), max_size=3))
def test_places_together_need_what_each_needs(
    policies: list[Policy], kind: str, places: list[tuple[str, str]]
) -> None:
    scopes = [Scope((environment,), (service,)) for environment, service in places]

    apart = joined_requirements(requirements_of(policies, kind, *place) for place in places)

    assert requirements_of_scopes(policies, kind, scopes) == apart


@given(POLICIES, KINDS, NAMES, NAMES)
def test_a_policy_asks_where_its_patterns_match(
    policy: Policy, kind: str, environment: str, service: str
) -> None:
    is_there = any(matches(pattern, environment) for pattern in policy.scope.environments)
    is_of_it = any(matches(pattern, service) for pattern in policy.scope.services)
    of_no_service = kind in {"flag", "segment"}

    asked = requirements_of([policy], kind, environment, service) is not None

    assert asked == (kind in policy.kinds and is_there and (of_no_service or is_of_it))


@given(PATTERNS, PATTERNS, st.text("ab", max_size=8))
def test_patterns_that_match_one_name_can(one: str, other: str, name: str) -> None:
    assert can_match_one_name(one, other) == can_match_one_name(other, one)
    if matches(one, name) and matches(other, name):
        assert can_match_one_name(one, other)


@given(PATTERNS, PATTERNS)
def test_patterns_that_can_match_one_name_do(one: str, other: str) -> None:
    """The name is made of what each needs between the longest beginning and the longest end."""
    head = max(one.partition("*")[0], other.partition("*")[0], key=len)
    tail = max(one.rpartition("*")[2], other.rpartition("*")[2], key=len)
    middles = [part for each in (one, other) for part in each.split("*")[1:-1]]
    names = [head + "".join(middles) + tail, one, other]

    if can_match_one_name(one, other):
        assert any(matches(one, name) and matches(other, name) for name in names if "*" not in name)


def test_only_admins_approve_where_a_policy_says_so() -> None:
    policy = Policy(
        name="p",
        version=1,
        scope=Scope(("*",), ("*",)),
        kinds=frozenset({"config"}),
        approvals=1,
        of=frozenset({"admin"}),
        people_only=False,
        valid_for=None,
        rollback="free",
    )

    asked = requirements_of([policy], "config", "production", "billing")

    assert asked is not None
    assert asked.approver_right == Right.WRITE_POLICIES


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        (ClosedWindow(("sat", "sun"), "Europe/Berlin"), "2026-03-06T22:59:00", False),
        (ClosedWindow(("sat", "sun"), "Europe/Berlin"), "2026-03-06T23:00:00", True),
        (ClosedWindow(("sat", "sun"), "Europe/Berlin"), "2026-03-08T22:59:00", True),
        (ClosedWindow(("sat", "sun"), "Europe/Berlin"), "2026-03-08T23:00:00", False),
        # From Friday evening to Saturday morning.
        (ClosedWindow(("fri",), "UTC", time(18), time(6)), "2026-03-06T17:59:00", False),
        (ClosedWindow(("fri",), "UTC", time(18), time(6)), "2026-03-06T18:00:00", True),
        (ClosedWindow(("fri",), "UTC", time(18), time(6)), "2026-03-07T05:59:00", True),
        (ClosedWindow(("fri",), "UTC", time(18), time(6)), "2026-03-07T06:00:00", False),
        (ClosedWindow(("fri",), "UTC", time(9), time(17)), "2026-03-06T09:00:00", True),
        (ClosedWindow(("fri",), "UTC", time(9), time(17)), "2026-03-06T17:00:00", False),
        # An hour that the clocks of the zone skip, or show twice.
        (ClosedWindow(("sun",), "Europe/Berlin", time(2), time(3)), "2026-03-29T01:00:00", False),
        (ClosedWindow(("sun",), "Europe/Berlin", time(2), time(3)), "2026-10-25T00:30:00", True),
        (ClosedWindow(("sun",), "Europe/Berlin", time(2), time(3)), "2026-10-25T01:30:00", True),
    ],
)
def test_a_window_is_closed_by_the_clocks_of_its_zone(
    window: ClosedWindow,
    moment: str,
    expected: bool,  # noqa: FBT001
) -> None:
    assert window.contains(datetime.fromisoformat(moment).replace(tzinfo=UTC)) is expected
