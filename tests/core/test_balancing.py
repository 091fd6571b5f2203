"""Shares, zones, warm-up, panic, and the strategies that pick by them."""

from collections import Counter
from collections.abc import Mapping
from math import gcd, log, sqrt

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.balancing import (
    Candidate,
    LeastRecent,
    Lottery,
    Rendezvous,
    RoundRobin,
    choose_pool,
    effective_share,
)
from tests.trials import trials

quick = settings(max_examples=trials(60))
ids = st.sampled_from([f"i-{number}" for number in range(12)])
shares = st.dictionaries(ids, st.integers(1, 12), min_size=1, max_size=6)
candidates = st.lists(
    st.builds(
        Candidate,
        ids,
        st.sampled_from([0, 1, 50, 100, 1000]),
        st.sampled_from([None, "a", "b"]),
        st.booleans(),
        st.sampled_from([0.0, 1.0, 5.0, 60.0]),
        st.sampled_from([0.0, 10.0]),
    ),
    unique_by=lambda candidate: candidate.id,
    max_size=12,
)
# Also what a second implementation of the hash, written out in Python, found.
VECTORS = ["7c1e" if first == "7" else first for first in "7ü77üüü777ü7777"]
VECTORS_OF_TEN = [f"i-{digit}" for digit in "988606061043115"]
KEYS = [f"customer-{number}" for number in range(10_000)]


def of(count: int, **facts: object) -> list[Candidate]:
    return [Candidate(f"{facts}-{number}", **facts) for number in range(count)]  # type: ignore[arg-type]


def by_key(among: Mapping[str, int], key: str) -> str | None:
    return Rendezvous(among).owner(key)


def series(turns: RoundRobin | LeastRecent, among: Mapping[str, int], picks: int) -> list[str]:
    return [turns.next(among) or "" for _ in range(picks)]


@quick
@given(candidates, st.sampled_from([None, "a", "b", "elsewhere"]), st.floats(0, 1))
def test_a_pool_holds_some_of_those_that_may_be_used(
    drawn: list[Candidate], zone: str | None, threshold: float
) -> None:
    used = {one.id: one for one in drawn if one.weight}
    healthy = {one.id for one in used.values() if one.is_healthy}

    chosen = choose_pool(drawn, zone=zone, panic_threshold=threshold)

    assert list(chosen.shares) == sorted(chosen.shares)
    assert all(count > 0 for count in chosen.shares.values())
    assert chosen.panicked == (len(healthy) < threshold * len(used))
    assert chosen.shares.keys() <= (used.keys() if chosen.panicked else healthy)
    assert bool(chosen.shares) == bool(used if chosen.panicked else healthy)
    if chosen.is_local:
        assert {used[id_].zone for id_ in chosen.shares} == {zone}


@pytest.mark.parametrize(("healthy", "panicked"), [(0, True), (4, True), (5, False), (10, False)])
def test_below_half_healthy_all_are_used(healthy: int, panicked: bool) -> None:  # noqa: FBT001
    chosen = choose_pool([*of(healthy), *of(10 - healthy, is_healthy=False)], zone="a")

    assert chosen.panicked == panicked
    assert len(chosen.shares) == (10 if panicked else healthy)


def test_a_weight_of_zero_keeps_an_instance_out_even_in_panic() -> None:
    chosen = choose_pool([*of(1, weight=0), *of(2, is_healthy=False)])

    assert chosen.panicked
    assert len(chosen.shares) == 2


@pytest.mark.parametrize(
    ("local", "is_local"), [(0, False), (1, False), (2, False), (3, True), (10, True)]
)
def test_a_zone_keeps_its_callers_if_it_holds_half_of_an_even_share(
    local: int,
    is_local: bool,  # noqa: FBT001
) -> None:
    chosen = choose_pool([*of(local, zone="a"), *of(8, zone="b")], zone="a")

    assert chosen.is_local == is_local
    assert len(chosen.shares) == (local if is_local else local + 8)


def test_a_zone_that_is_mostly_ill_sends_its_callers_elsewhere() -> None:
    ill = [*of(1, zone="a"), *of(3, zone="a", is_healthy=False)]

    assert not choose_pool([*ill, *of(4, zone="b")], zone="a").is_local


@quick
@given(st.integers(1, 1000), st.floats(0.001, 3600), st.lists(st.floats(0, 2), min_size=2))
def test_a_share_grows_linearly_over_the_warm_up(
    weight: int, warmup: float, ages: list[float]
) -> None:
    found = [
        effective_share(Candidate("i", weight, age=age * warmup, warmup_seconds=warmup))
        for age in ages
    ]

    for age, count in zip(ages, found, strict=True):
        assert count == pytest.approx(weight * 1000 * min(1, age), abs=2)
        assert count <= weight * 1000


def test_instances_that_all_just_began_are_used_by_weight() -> None:
    chosen = choose_pool([Candidate("a", 10, age=0, warmup_seconds=9), Candidate("b", 30, age=-1)])

    assert chosen.shares == {"b": 30_000}
    new = [Candidate(id_, 10, age=0, warmup_seconds=9) for id_ in "ab"]
    assert choose_pool(new).shares == {"a": 10_000, "b": 10_000}


@quick
@given(shares, st.integers(0, 40))
def test_round_robin_gives_exactly_the_shares_over_every_cycle(
    among: dict[str, int], offset: int
) -> None:
    common = gcd(*among.values())
    cycle = sum(among.values()) // common
    picks = series(RoundRobin(), among, offset + cycle)

    assert Counter(picks[offset:]) == {id_: count // common for id_, count in among.items()}


def test_round_robin_spreads_the_heavy_one_out() -> None:
    assert "".join(series(RoundRobin(), {"a": 5, "b": 1, "c": 1}, 7)) == "abaaaca"


@quick
@given(shares)
def test_in_round_robin_nobody_is_far_ahead_or_behind(among: dict[str, int]) -> None:
    total = sum(among.values())
    picks = series(RoundRobin(), among, 2 * total)

    for id_, count in among.items():
        for length in range(len(picks)):
            assert abs(picks[:length].count(id_) - length * count / total) < 2


@quick
@given(shares)
def test_turns_go_on_where_they_were_when_equal_shares_are_told_anew(
    among: dict[str, int],
) -> None:
    turns, picks = RoundRobin(), 2 * sum(among.values())

    assert [turns.next({**among}) for _ in range(picks)] == series(RoundRobin(), among, picks)


@quick
@given(st.lists(st.tuples(shares, st.integers(1, 9)), min_size=1, max_size=20), shares)
def test_whoever_came_and_went_before_round_robin_is_soon_exact_again(
    past: list[tuple[dict[str, int], int]], among: dict[str, int]
) -> None:
    turns = RoundRobin()
    for former, picks in past:
        series(turns, former, picks)
    total = sum(among.values())

    found = Counter(series(turns, among, 20 * total))

    for id_, count in among.items():
        assert abs(found[id_] - 20 * count) <= 15


@quick
@given(shares)
def test_the_least_recent_comes_next(among: dict[str, int]) -> None:
    turns = LeastRecent()
    picks = series(turns, among, 3 * len(among))

    assert picks[: len(among)] == list(among)
    assert picks == picks[: len(among)] * 3
    assert turns.next({**among, "new": 1}) == "new"


@quick
@given(st.lists(st.tuples(shares, st.integers(1, 9)), min_size=1, max_size=20))
def test_who_waits_longest_is_next_whoever_comes_and_goes(
    past: list[tuple[dict[str, int], int]],
) -> None:
    turns = LeastRecent()
    picked: dict[str, int] = {}
    for among, picks in past:
        picked = {id_: when for id_, when in picked.items() if id_ in among}
        for chosen in series(turns, among, picks):
            assert chosen == min(among, key=lambda id_: picked.get(id_, 0))
            picked[chosen] = max(picked.values(), default=0) + 1


@quick
@given(shares)
def test_a_random_draw_falls_into_each_share_as_often_as_it_is_wide(among: dict[str, int]) -> None:
    total = sum(among.values())
    lottery = Lottery(among)
    drawn = [lottery.owner((number + 0.5) / total) for number in range(total)]

    assert Counter(drawn) == among
    assert lottery.owner(1 - 2**-53) == max(among)
    assert lottery.owner(1.0) == max(among)


def test_where_nobody_is_nobody_is_chosen() -> None:
    assert RoundRobin().next({}) is None
    assert LeastRecent().next({}) is None
    assert Lottery({}).owner(0.5) is None
    assert by_key({}, "key") is None


@quick
@given(shares, ids, st.integers(1, 12), st.lists(st.text(st.characters()), min_size=1))
def test_a_new_share_takes_keys_and_moves_no_others(
    among: dict[str, int], id_: str, count: int, keys: list[str]
) -> None:
    after = {**among, id_: among.get(id_, 0) + count}

    for key in keys:
        before, now = by_key(among, key), by_key(after, key)
        assert before in among
        assert now in {before, id_}
        assert now == by_key(dict(reversed(after.items())), key)


@pytest.mark.parametrize("count", [2, 10, 50])
def test_one_instance_less_moves_one_key_in_n(count: int) -> None:
    among = {f"i-{number}": 100_000 for number in range(count)}
    left = {id_: share for id_, share in among.items() if id_ != "i-1"}

    before, after = Rendezvous(among), Rendezvous(left)
    moved = sum(before.owner(key) != after.owner(key) for key in KEYS)

    assert moved / len(KEYS) == pytest.approx(1 / count, abs=4 * sqrt(1 / count / len(KEYS)))


def test_keys_spread_by_share() -> None:
    among = {"a": 1, "b": 2, "c": 7}
    found = Counter(map(Rendezvous(among).owner, KEYS))

    for id_, count in among.items():
        assert found[id_] == pytest.approx(count * 1000, abs=4 * sqrt(count * 1000))


@quick
@given(shares, st.lists(st.text(st.characters()), min_size=1))
def test_the_owner_of_a_key_has_the_highest_score(among: dict[str, int], keys: list[str]) -> None:
    def score(id_: str, key: str) -> float:
        seed = mmh3.mmh3_32_uintdigest(key.encode("utf-8", "surrogatepass"))
        placed = int.from_bytes(mmh3.mmh3_32_digest(id_.encode(), seed))
        return -among[id_] / log((placed + 0.5) / 2**32)

    for key in keys:
        owner = by_key(among, key)
        assert owner is not None
        assert score(owner, key) == max(score(id_, key) for id_ in among)


def test_keys_without_end_keep_their_owners() -> None:
    among = Rendezvous({"a": 1, "b": 1, "c": 2})

    first = [among.owner(key) for key in KEYS]

    assert [among.owner(key) for key in KEYS] == first


def test_the_owners_of_keys_are_those_of_the_vectors() -> None:
    among = {"7c1e": 100_000, "a": 50_000, "ü": 75_000}
    ten = {f"i-{number}": 100_000 for number in range(10)}
    keys = ("", *(f"customer-{number}" for number in range(12)), "straße", "\ud800")

    assert [by_key(among, key) for key in keys] == VECTORS
    assert [by_key(ten, key) for key in keys] == VECTORS_OF_TEN
