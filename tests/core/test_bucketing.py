import json
from functools import cache
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import fmean

import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse_core.bucketing import (
    DEFAULT_HASH,
    HASHES,
    Range,
    allocate_ranges,
    percent,
    range_lookup,
    reallocate_ranges,
    shares_of,
)
from pilothouse_core.evaluation import EMPTY
from pilothouse_core.flags.model import Flag, Rollout, with_name
from pilothouse_core.flags.reading import read_flag
from pilothouse_core.flags.serialization import flag_json
from tests.core.drawn import VARIANTS, boolean, rollout, texts, weights
from tests.trials import trials

quick = settings(max_examples=trials(60))
VECTORS = json.loads(Path(__file__).with_name("vectors").joinpath("bucketing.json").read_text())
HASH = HASHES[DEFAULT_HASH]
SUBJECTS = [f"user-{number}" for number in range(100_000)]


@cache
def buckets(salt: str) -> list[int]:
    return list(map(HASH.bind(salt, 100_000), SUBJECTS))


def ranges_of(flag: Flag) -> tuple[Range, ...]:
    serve = flag.rules[0].serve
    assert isinstance(serve, Rollout)
    return serve.ranges


def buckets_of(ranges: tuple[Range, ...], variant: str) -> set[int]:
    return {bucket for r in ranges if r.variant == variant for bucket in range(r.start, r.end)}


def assert_a_partition(ranges: tuple[Range, ...], total: int) -> None:
    assert ranges[0].start == 0
    assert ranges[-1].end == total
    assert all(before.end == after.start for before, after in pairwise(ranges))
    assert all(before.variant != after.variant for before, after in pairwise(ranges))
    assert all(found.start < found.end for found in ranges)


def test_every_bucket_is_the_one_of_the_vectors() -> None:
    hashing = HASHES[VECTORS["hash"]]

    assert hashing.total == VECTORS["buckets"]
    assert len(VECTORS["cases"]) >= 100
    for case in VECTORS["cases"]:
        bucket = hashing.bind(case["salt"], VECTORS["buckets"])
        assert bucket(case["subject"]) == case["bucket"], case


@quick
@given(texts, texts | st.integers(-(10**80), 10**80), st.sampled_from(sorted(HASHES)))
def test_a_bucket_lies_on_the_scale_and_is_always_the_same(
    salt: str, subject: str | int, method: str
) -> None:
    total = HASHES[method].total or 7
    bucket = HASHES[method].bind(salt, total)(subject)

    assert 0 <= bucket < total
    assert bucket == HASHES[method].bind(salt, total)(subject)


@quick
@given(st.integers(-(10**80), 10**80))
def test_an_integer_falls_where_its_decimals_fall(number: int) -> None:
    for name in (DEFAULT_HASH, "unleash-1", "unleash-variants-1"):
        bucket = HASHES[name].bind("salt", 100_000)
        assert bucket(number) == bucket(str(number))


def test_half_a_surrogate_pair_has_a_bucket_of_its_own() -> None:
    bucket = HASH.bind("salt", 100_000)
    expected = mmh3.hash(b"salt:\xed\xa0\x80", 0, signed=False) * 100_000 >> 32

    assert bucket("\ud800") == expected != bucket("\udfff")


@pytest.mark.parametrize(
    ("value", "cbor"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65_536, "1a00010000"),
        (2**32, "1b0000000100000000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-1, "20"),
        (-(2**64), "3bffffffffffffffff"),
        (2**64, "743138343436373434303733373039353531363136"),
        ("", "60"),
        ("ü", "62c3bc"),
        ("x" * 24, "7818" + "78" * 24),
    ],
)
def test_flagd_hashes_the_shortest_cbor_of_a_value(value: str | int, cbor: str) -> None:
    by_value = mmh3.hash(bytes.fromhex(cbor), 0, signed=False) * 1000 >> 32
    by_key = mmh3.hash(bytes.fromhex("826166" + cbor), 0, signed=False) * 1000 >> 32

    assert HASHES["flagd-2-value"].bind("", 1000)(value) == by_value
    assert HASHES["flagd-2"].bind("f", 1000)(value) == by_key


def test_every_percentage_of_three_decimals_is_a_whole_number_of_buckets() -> None:
    for share in range(100_001):
        assert HASH.share(float(f"{share // 1000}.{share % 1000:03}")) == share
        assert HASH.share(percent(share, 100_000)) == share


@quick
@given(st.integers(0, 999_999).filter(lambda number: number % 10))
def test_a_fourth_decimal_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=r"the smallest share here is 0\.001 percent"):
        HASH.share(number / 10_000)


@pytest.mark.parametrize("value", [-0.001, 100.001, float("nan"), float("inf"), 10**400])
def test_a_percentage_outside_of_0_to_100_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        HASH.share(value)


@quick
@given(weights(), st.integers(0, 99_999))
def test_a_bucket_belongs_to_the_range_that_holds_it(drawn: dict[str, float], bucket: int) -> None:
    ranges = allocate_ranges(HASH.shares(drawn))

    found = ranges[range_lookup(ranges)(bucket)]

    assert found.start <= bucket < found.end
    assert_a_partition(ranges, 100_000)


@pytest.mark.parametrize("variants", [VARIANTS[:1], VARIANTS[:2], VARIANTS])
def test_both_ends_of_every_range_are_its_own(variants: tuple[str, ...]) -> None:
    ranges = allocate_ranges(dict.fromkeys(variants, 10))

    for number, found in enumerate(ranges):
        assert range_lookup(ranges)(found.start) == range_lookup(ranges)(found.end - 1) == number


@quick
@given(st.lists(weights(), min_size=2, max_size=6))
def test_editing_weights_moves_exactly_the_least(edits: list[dict[str, float]]) -> None:
    ranges = allocate_ranges(HASH.shares(edits[0]))
    for edit in edits[1:]:
        shares, former = HASH.shares(edit), shares_of(ranges)

        after = reallocate_ranges(ranges, shares)

        assert_a_partition(after, 100_000)
        assert shares_of(after) == {name: share for name, share in shares.items() if share}
        differences = sum(abs(shares[name] - former.get(name, 0)) for name in shares)
        kept = sum(overlap(ranges, after, name) for name in shares)
        assert 100_000 - kept == differences / 2
        for name in shares:  # who gains keeps all, who loses gets nothing
            assert overlap(ranges, after, name) == min(shares[name], former.get(name, 0))
        ranges = after


def overlap(before: tuple[Range, ...], after: tuple[Range, ...], variant: str) -> int:
    return sum(
        max(0, min(one.end, other.end) - max(one.start, other.start))
        for one in before
        for other in after
        if one.variant == other.variant == variant
    )


@quick
@given(weights())
def test_weights_that_stay_move_nobody(drawn: dict[str, float]) -> None:
    ranges = allocate_ranges(HASH.shares(drawn))

    assert reallocate_ranges(ranges, HASH.shares(drawn)) == ranges


def test_a_variant_that_is_gone_leaves_its_buckets_to_the_others() -> None:
    ranges = allocate_ranges({"a": 30, "b": 30, "c": 40})

    assert reallocate_ranges(ranges, {"a": 50, "c": 50}) == (Range(0, 50, "a"), Range(50, 100, "c"))


@quick
@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=6))
def test_raising_a_percentage_takes_nobody_out_and_lowering_lets_nobody_in(
    shares: list[int],
) -> None:
    flag = None
    inside: set[int] = set()
    for share in shares:
        flag = read_flag(boolean(rollout(share / 1000)), flag)
        now_inside = buckets_of(ranges_of(flag), "on")

        assert len(now_inside) == share
        assert inside <= now_inside or now_inside <= inside
        inside = now_inside


@quick
@given(st.lists(weights(), min_size=2, max_size=4), st.integers(0, 3))
def test_edits_of_a_stored_flag_move_the_least(edits: list[dict[str, float]], raised: int) -> None:
    members = {"type": "string", "variants": {name: name for name in VARIANTS}}
    members |= {"default_variant": "off"}
    variant = VARIANTS[raised]
    flag = None
    for edit in edits:
        rule = {"id": "share", "serve": {"rollout": {"weights": edit}}}
        after = read_flag(boolean(rule, **members), flag)
        if flag is not None:
            before_ranges, ranges = ranges_of(flag), ranges_of(after)
            share = HASH.shares(edit)[variant]
            expected = min(share, shares_of(before_ranges).get(variant, 0))
            assert overlap(before_ranges, ranges, variant) == expected
            assert_a_partition(ranges, 100_000)
        # As it comes back from where it is stored.
        flag = read_flag(flag_json(after))
        assert flag == after


def test_ranges_follow_the_order_in_which_variants_are_declared() -> None:
    flag = read_flag(boolean({"serve": {"rollout": {"weights": {"off": 60, "on": 40}}}}))

    assert ranges_of(flag) == (Range(0, 40_000, "on"), Range(40_000, 100_000, "off"))


@pytest.mark.parametrize(
    "members",
    [{"salt": "other"}, {"by": "org"}, {"hash": "unleash-1"}, {"hash": "flagd-2"}],
)
def test_another_way_to_place_subjects_starts_afresh(members: dict[str, str]) -> None:
    once = read_flag(boolean(rollout(10)), read_flag(boolean(rollout(60))))
    edited = read_flag(boolean(rollout(60)), once)

    afresh = read_flag(boolean(rollout(20, **members)), edited)

    assert ranges_of(afresh) == ranges_of(read_flag(boolean(rollout(20, **members))))


@pytest.mark.parametrize("share", [0.5, 12.345, 50.0])
def test_a_share_of_the_subjects_is_what_the_percentage_says(share: float) -> None:
    """One flag strays as chance does (at 50 %: 0.16 points); ten flags together hardly do."""
    limit = HASH.share(share)
    found = [sum(bucket < limit for bucket in buckets(f"flag-{n}")) / 1000 for n in range(10)]
    deviation = sqrt(share * (100 - share) / len(SUBJECTS))

    assert abs(fmean(found) - share) <= 0.2
    assert all(abs(one - share) <= 4 * deviation for one in found)


@pytest.mark.parametrize("share", [0.5, 12.345, 50.0])
def test_an_evaluation_serves_the_variant_that_owns_the_bucket(share: float) -> None:
    flags = EMPTY.with_changes([("new-checkout", read_flag(boolean(rollout(share))), 1)])

    for subject, bucket in zip(SUBJECTS[:2000], buckets("new-checkout"), strict=False):
        answer = flags.evaluate("new-checkout", {"user_id": subject}, 0)

        assert answer.bucket == bucket
        assert answer.value is (bucket < HASH.share(share))


def test_who_is_in_one_flag_says_nothing_about_another() -> None:
    cells = [[0] * 10 for _ in range(10)]
    for one, other in zip(buckets("new-checkout"), buckets("new-checkout-2"), strict=True):
        cells[one // 10_000][other // 10_000] += 1

    expected = len(SUBJECTS) / 100
    chi_square = sum((found - expected) ** 2 / expected for row in cells for found in row)

    assert chi_square < 148.2  # one in 100,000 at 99 degrees of freedom is above


def test_a_rename_changes_nobodys_bucket() -> None:
    flag = read_flag(boolean(rollout(50)))
    other = with_name(flag, "checkout")
    edited = read_flag({**flag_json(other), "description": "edited"}, other)

    flags = EMPTY.with_changes([("new-checkout", flag, 1), ("checkout", edited, 1)])

    for subject in SUBJECTS[:500]:
        before = flags.evaluate("new-checkout", {"user_id": subject}, 0)
        after = flags.evaluate("checkout", {"user_id": subject}, 0)
        assert (before.variant, before.bucket) == (after.variant, after.bucket)
        assert after.flag == "checkout"
