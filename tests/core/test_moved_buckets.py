"""How many buckets move between two definitions, against a loop over all of them."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.bucketing import HASHES
from pilothouse_core.evaluation import EMPTY, share_over_time
from pilothouse_core.flags.model import Fixed, Flag, Rollout, Serve
from pilothouse_core.flags.moved_buckets import BucketMoves, moved_buckets
from pilothouse_core.flags.reading import read_flag
from tests.core.drawn import MOMENTS, boolean, definitions, flags, rollout
from tests.trials import trials

Json = Any
NOW = 1767300000.5
few = settings(max_examples=trials(25))


def owners(serve: Serve | str | None, total: int, now: float) -> list[str | None]:
    """Return the variant of every bucket, by a loop over all of them."""
    match serve:
        case Fixed(variant):
            return [variant] * total
        case Rollout():
            return [span.variant for span in serve.ranges for _ in range(span.start, span.end)]
        case None | str():
            return [serve] * total
    share = share_over_time(serve)(now)
    return [serve.variant if bucket < share else serve.otherwise for bucket in range(total)]


def serve_of(flag: Flag, now: float) -> Serve | str | None:
    if not flag.enabled:
        return flag.off_variant
    rules = [each for each in flag.rules if each.when is None and each.active is None]
    return rules[0].serve if rules else flag.default_variant


def counts_of(before: Serve | str | None, after: Serve | str | None, now: float) -> dict[Any, int]:
    total = 100_000
    pairs = zip(owners(before, total, now), owners(after, total, now), strict=True)
    return {pair: count for pair, count in Counter(pairs).items() if pair[0] != pair[1]}


@few
@given(flags, flags, st.sampled_from(MOMENTS))
def test_the_counts_are_those_of_a_loop_over_all_buckets(
    one: Flag, other: Flag, now: float
) -> None:
    before, after = (
        replace(flag, rules=tuple(replace(rule, active=None) for rule in flag.rules))
        for flag in (one, other)
    )

    moves = moved_buckets(before, after, now)

    if moves.overall.is_exact:
        assert moves.overall.total == 100_000
        assert dict(moves.overall.moves) == counts_of(
            serve_of(before, now), serve_of(after, now), now
        )
    by_id = {rule.id: rule.serve for rule in before.rules}
    changed = {rule.id for rule in after.rules if by_id.get(rule.id, rule.serve) != rule.serve}
    assert moves.rules.keys() == changed
    for rule in after.rules:
        if rule.id in changed and moves.rules[rule.id].is_exact:
            expected = counts_of(by_id[rule.id], rule.serve, now)
            assert dict(moves.rules[rule.id].moves) == expected


@few
@given(definitions(), st.integers(0, 100), st.integers(0, 100))
def test_a_change_of_a_share_moves_half_the_differences(
    definition: dict[str, Json], first: int, last: int
) -> None:
    definition = {**definition, "enabled": True, "rules": []}
    weights = {"on": first, "off": 100 - first}
    rule: Json = {"id": "share", "serve": {"rollout": {"weights": weights}}}
    before = read_flag({**definition, "rules": [rule]})
    wider = {"id": "share", "serve": {"rollout": {"weights": {"on": last, "off": 100 - last}}}}
    after = read_flag({**definition, "rules": [wider]}, before)

    moves = moved_buckets(before, after, NOW)

    assert moves.overall.count == abs(last - first) * 1000


@pytest.mark.parametrize(
    ("first", "second", "moved"),
    [
        (boolean(rollout(30)), boolean(rollout(30), enabled=False), 30_000),
        (boolean(), boolean(default_variant="on"), 100_000),
        (boolean(rollout(30)), boolean(), 30_000),
        (boolean(rollout(100)), boolean(default_variant="on"), 0),
        (boolean(off_variant=None, enabled=False), boolean(enabled=False), 100_000),
        (boolean(rollout(30, hash="unleash-1")), boolean(), 30),
    ],
)
def test_turning_off_and_defaults_move_buckets_too(first: Json, second: Json, moved: int) -> None:
    moves = moved_buckets(read_flag(first), read_flag(second), NOW)

    assert moves.overall.is_exact
    assert moves.overall.count == moved


def test_another_salt_draws_again_and_the_counts_are_expected_ones() -> None:
    before, after = (read_flag(boolean(rollout(30, salt=salt))) for salt in ("a", "b"))

    moves = moved_buckets(before, after, NOW).overall

    assert moves == BucketMoves(
        100_000, {("on", "off"): 21_000, ("off", "on"): 21_000}, is_exact=False
    )
    sets = [EMPTY.with_changes([(flag.name, flag, 1)]) for flag in (before, after)]
    users = [{"user_id": f"user-{number}"} for number in range(5000)]
    changed = sum(
        len({each.evaluate("new-checkout", user, NOW).variant for each in sets}) > 1
        for user in users
    )
    assert abs(changed / 5000 - 0.42) < 0.03


def test_the_share_of_users_that_get_another_variant_is_that_of_the_buckets() -> None:
    before, after = read_flag(boolean(rollout(20))), read_flag(boolean(rollout(55)))
    bucket_of = HASHES["murmur3-1"].bind("new-checkout", 100_000)
    users = [f"user-{number}" for number in range(5000)]
    between = sum(20_000 <= bucket_of(user) < 55_000 for user in users)
    sets = [EMPTY.with_changes([(flag.name, flag, 1)]) for flag in (before, after)]

    changed = sum(
        len({each.evaluate("new-checkout", {"user_id": user}, NOW).variant for each in sets}) > 1
        for user in users
    )

    assert changed == between
    assert moved_buckets(before, after, NOW).overall.count == 35_000
