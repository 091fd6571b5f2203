from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.bucketing import HASHES
from pilothouse_core.durations import duration_text, seconds_of
from pilothouse_core.releases.arms import TOTAL, arm_of, bucket_of, pick_members
from pilothouse_core.releases.control import (
    HOLD,
    ArmHealth,
    Decision,
    Observations,
    Progress,
    State,
    next_action,
)
from pilothouse_core.releases.plan import BadPlan, Plan, Prometheus, plan_json, read_plan
from tests.trials import trials

quick = settings(max_examples=trials(60))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUERY = {"kind": "prometheus", "query": "errors", "above": 0.05, "for": "2m"}
HEALTH = {"kind": "health", "worse_by": 0.2, "instances": 5}
REFUSED = {"kind": "refused", "at_least": 1}
SIGNAL = Prometheus("errors", 0.05, 120)


def raw(**changes: Any) -> dict[str, Any]:
    steps = [{"share": 5, "hold": "10m"}, {"share": 50, "hold": "30m"}]
    return {"steps": steps, "bake": "30m"} | changes


def progress(state: State = "running", step: int = 0, age: float = 0, **changes: Any) -> Progress:
    return Progress(read_plan(raw(**changes)), state, step, NOW - timedelta(seconds=age))


# Arms


def test_an_arm_is_the_bucket_of_a_flag_with_the_release_as_its_salt() -> None:
    assert bucket_of("r-1", "pod-7") == HASHES["murmur3-1"].bind("r-1", 100_000)("pod-7")


@quick
@given(st.text(), st.text(), st.integers(0, TOTAL), st.integers(0, TOTAL))
def test_a_larger_share_only_adds_instances(release: str, instance: str, a: int, b: int) -> None:
    small, large = sorted((a, b))

    if arm_of(release, instance, small) == "candidate":
        assert arm_of(release, instance, large) == "candidate"


def test_nobody_has_the_candidate_at_no_share_and_everybody_at_the_whole() -> None:
    instances = [f"pod-{number}" for number in range(500)]

    assert {arm_of("r-1", each, 0) for each in instances} == {"stable"}
    assert {arm_of("r-1", each, TOTAL) for each in instances} == {"candidate"}


@pytest.mark.parametrize("share", [5, 50])
def test_a_thousand_instances_come_within_two_points_of_the_share(share: int) -> None:
    releases = [f"r-{number:04}" for number in range(100)]

    shares = [
        sum(bucket_of(each, f"pod-{n}") < share * 1000 for n in range(1000)) / 10
        for each in releases
    ]

    deviation = 100 * sqrt(share / 100 * (1 - share / 100) / 1000)
    assert abs(sum(shares) / 100 - share) < 4 * deviation / 10
    assert max(abs(each - share) for each in shares) < 4.5 * deviation


@quick
@given(
    st.sets(st.text(min_size=1), max_size=8),
    st.sets(st.text(min_size=1), max_size=8),
    st.integers(1, 8),
)
def test_a_member_stays_while_it_is_registered(
    members: set[str], registered: set[str], count: int
) -> None:
    picked = pick_members("r-1", members, registered, count)

    assert set(picked) >= members & registered
    assert set(picked) <= registered
    staying = len(members & registered)
    assert len(picked) == max(staying, min(count, len(registered)))


# Plans


def test_a_plan_is_read_and_written() -> None:
    stated = raw(pick="share", no_data="abort", signals=[REFUSED, HEALTH, QUERY])

    plan = read_plan(stated)

    assert plan_json(plan) == stated
    assert [plan.share(step) for step in range(3)] == [5_000, 50_000, 100_000]
    assert [plan.hold(step) for step in range(3)] == [600, 1800, 1800]
    assert plan.last_step == 2


def test_a_plan_without_a_bake_ends_with_its_last_step() -> None:
    assert read_plan({"steps": [{"share": 0.001, "hold": "0s"}]}).last_step == 0


def test_a_plan_of_counts() -> None:
    plan = read_plan({"pick": "count", "steps": [{"count": 2, "hold": "1m"}]})

    assert plan.steps[0].size == 2
    assert plan_json(plan)["steps"] == [{"count": 2, "hold": "1m"}]


@pytest.mark.parametrize(
    ("stated", "pointer"),
    [
        ([], ""),
        (raw(stepz=1), "/stepz"),
        (raw(steps=[]), "/steps"),
        (raw(steps=[{"share": 5}]), "/steps/0"),
        (raw(steps=[{"count": 5, "hold": "1m"}]), "/steps/0"),
        (raw(steps=[{"share": 0, "hold": "1m"}]), "/steps/0/share"),
        (raw(steps=[{"share": True, "hold": "1m"}]), "/steps/0/share"),
        (raw(steps=[{"share": 101, "hold": "1m"}]), "/steps/0/share"),
        (raw(steps=[{"share": 0.0001, "hold": "1m"}]), "/steps/0/share"),
        (raw(steps=[{"share": 5, "hold": "1w"}]), "/steps/0"),
        (raw(steps=[{"share": n, "hold": "1m"} for n in (5, 5)]), "/steps/1/share"),
        (raw(steps=[{"share": n, "hold": "1m"} for n in (50, 5)]), "/steps/1/share"),
        (raw(bake="31d"), "/bake"),
        (raw(bake=30), "/bake"),
        (raw(pick="random"), "/pick"),
        (raw(no_data=["hold"]), "/no_data"),
        (raw(signals=[REFUSED] * 11), "/signals"),
        (raw(signals=["refused"]), "/signals/0/kind"),
        (raw(signals=[{"kind": "refused", "at_least": 0}]), "/signals/0/at_least"),
        (raw(signals=[HEALTH | {"worse_by": 1.1}]), "/signals/0/worse_by"),
        (raw(signals=[REFUSED, HEALTH | {"instances": 1.5}]), "/signals/1/instances"),
        (raw(signals=[QUERY | {"query": ""}]), "/signals/0/query"),
        (raw(signals=[QUERY | {"above": float("nan")}]), "/signals/0/above"),
        (raw(signals=[QUERY | {"for": "soon"}]), "/signals/0/for"),
        (raw(signals=[QUERY | {"url": "http://localhost"}]), "/signals/0"),
    ],
)
def test_a_flaw_is_named_with_its_place(stated: Any, pointer: str) -> None:
    with pytest.raises(BadPlan) as bad:
        read_plan(stated)

    assert bad.value.pointer == pointer


@quick
@given(st.integers(0, 30 * 86_400))
def test_a_duration_is_read_as_it_is_written(seconds: int) -> None:
    assert seconds_of(duration_text(seconds), at_most=30 * 86_400) == seconds


# What comes next


@pytest.mark.parametrize(
    ("step", "age", "action"),
    [
        (0, 599, "hold"),
        (0, 600, "advance"),
        (1, 1799, "hold"),
        (1, 1800, "advance"),
        (2, 1799, "hold"),
        (2, 1800, "finish"),
    ],
)
def test_a_step_is_taken_when_its_time_is_over(step: int, age: float, action: str) -> None:
    assert next_action(progress(step=step, age=age), NOW, Observations()).action == action


def test_without_a_bake_the_last_step_ends_the_release() -> None:
    assert next_action(progress(step=1, age=1800, bake="0s"), NOW, Observations()).action == (
        "finish"
    )


@pytest.mark.parametrize("state", ["running", "held"])
def test_one_refusal_aborts_at_any_time(state: State) -> None:
    release = progress(state, signals=[REFUSED])

    assert next_action(release, NOW, Observations(refusals=0)) == HOLD
    assert next_action(release, NOW, Observations(refusals=1)) == Decision("abort", "refused")


@pytest.mark.parametrize("state", ["done", "aborted"])
def test_a_release_that_has_ended_does_nothing(state: State) -> None:
    release = progress(state, age=10_000, signals=[REFUSED])

    assert next_action(release, NOW, Observations(refusals=9)) == HOLD


def test_a_release_that_finishes_is_not_aborted_any_more() -> None:
    release = progress("finishing", signals=[REFUSED])

    assert next_action(release, NOW, Observations(refusals=9)) == Decision("finish")


def test_a_release_that_is_held_waits_for_ever() -> None:
    assert next_action(progress("held", age=1e8), NOW, Observations()) == HOLD


@pytest.mark.parametrize(
    ("candidate", "stable", "action"),
    [
        (ArmHealth(5, 1), ArmHealth(100, 0), "abort"),
        (ArmHealth(5, 1), ArmHealth(100, 1), "advance"),
        (ArmHealth(10, 10), None, "abort"),
        (ArmHealth(4, 4), ArmHealth(100, 0), "hold"),  # too few to judge
        (None, None, "hold"),
    ],
)
def test_the_candidate_is_compared_with_the_stable_arm(
    candidate: ArmHealth | None, stable: ArmHealth | None, action: str
) -> None:
    observed = Observations(candidate=candidate, stable=stable)

    decision = next_action(progress(age=600, signals=[HEALTH]), NOW, observed)

    assert decision.action == action


@pytest.mark.parametrize(
    ("above", "age", "action"),
    [
        ({SIGNAL: True}, 0, "abort"),
        ({SIGNAL: False}, 599, "hold"),
        ({SIGNAL: False}, 600, "advance"),
        ({}, 600, "hold"),
    ],
)
def test_a_query_above_its_limit_aborts(
    above: dict[Prometheus, bool], age: float, action: str
) -> None:
    decision = next_action(progress(age=age, signals=[QUERY]), NOW, Observations(queries=above))

    assert decision.action == action


@pytest.mark.parametrize(
    ("no_data", "expected"),
    [
        ("hold", Decision("hold", "prometheus")),
        ("abort", Decision("abort", "no_data")),
        ("go_on", Decision("advance")),
    ],
)
def test_the_plan_says_what_happens_without_data(no_data: str, expected: Decision) -> None:
    release = progress(age=600, signals=[QUERY], no_data=no_data)

    assert next_action(release, NOW, Observations()) == expected
    early = progress(age=599, signals=[QUERY], no_data=no_data)
    assert next_action(early, NOW, Observations()) == HOLD


@quick
@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 12))
def test_steps_come_one_after_the_other_and_end_once(gaps: list[int], refused_at: int) -> None:
    """Ask at any times, and refuse at one of them: the share only grows until the end."""
    release, now, shares = progress(signals=[REFUSED]), NOW, [5_000]
    for place, gap in enumerate(gaps):
        now += timedelta(seconds=gap)
        decision = next_action(release, now, Observations(refusals=place >= refused_at))
        if decision.action == "advance":
            release = Progress(release.plan, "running", release.step + 1, now)
            shares.append(release.plan.share(release.step))
        elif decision.action == "abort":
            assert place >= refused_at
            return
        elif decision.action == "finish":
            assert release.step == release.plan.last_step
            break

    assert all(before < after for before, after in pairwise(shares))


def test_the_plan_is_a_plain_value() -> None:
    assert read_plan(raw()) == read_plan(raw())
    assert isinstance(hash(read_plan(raw())), int)
    assert isinstance(read_plan(raw()), Plan)
