"""How many buckets another definition of a flag moves from one variant to another."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pilothouse_core.bucketing import HASHES
from pilothouse_core.evaluation import share_over_time
from pilothouse_core.flags.model import Fixed, Flag, Progressive, Rollout, Rule, Serve, Window
from pilothouse_core.times import seconds_of

TOTAL = 100_000  # of the hash of this service, and where no bucket decides
Move = tuple[str | None, str | None]  # from one variant to another; None: the caller's default


@dataclass(frozen=True, slots=True)
class BucketMoves:
    """`moves` counts the buckets by their variants before and after, of `total`.

    Not `is_exact`: salt, hash, attribute or number of buckets differ, so that every subject is
    placed again; the counts are the expected ones then.
    """

    total: int
    moves: Mapping[Move, int]
    is_exact: bool = True

    @property
    def count(self) -> int:
        return sum(self.moves.values())


@dataclass(frozen=True, slots=True)
class FlagMoves:
    """The buckets that move for those whom no condition concerns, and in each changed rule.

    `overall`: subjects that get what the first active rule without a condition serves, else the
    default variant, or the off variant of a flag that is off. `rules`: by id, those rules of both
    definitions that serve something else now.
    """

    overall: BucketMoves
    rules: Mapping[str, BucketMoves]


class _Span(NamedTuple):
    start: int
    end: int
    variant: str | None


@dataclass(frozen=True, slots=True)
class _Placement:
    """Who gets which bucket (None: each subject all of them), and whose each bucket is."""

    basis: tuple[str, str, str, int] | None
    spans: Sequence[_Span]

    @property
    def total(self) -> int:
        return self.spans[-1].end


def moved_buckets(before: Flag, after: Flag, now: float) -> FlagMoves:
    """Compare two definitions of a flag; shares that move with time are those at `now`.

    `now` is in seconds since 1970. Prerequisites are left out, and so are values: a variant that
    gets another value moves no bucket.
    """
    former = {rule.id: rule for rule in before.rules}
    rules = {
        rule.id: _compare(_placement(former[rule.id].serve, now), _placement(rule.serve, now))
        for rule in after.rules
        if rule.id in former and rule.serve != former[rule.id].serve
    }
    return FlagMoves(
        _compare(_placement_of_flag(before, now), _placement_of_flag(after, now)), rules
    )


def _placement_of_flag(flag: Flag, now: float) -> _Placement:
    if not flag.enabled:
        return _constant(flag.off_variant)
    rule = next((each for each in flag.rules if _is_unconditional(each, now)), None)
    return _constant(flag.default_variant) if rule is None else _placement(rule.serve, now)


def _is_unconditional(rule: Rule, now: float) -> bool:
    return rule.when is None and (rule.active is None or _is_active(rule.active, now))


def _is_active(window: Window, now: float) -> bool:
    start = None if window.start is None else seconds_of(window.start)
    until = None if window.until is None else seconds_of(window.until)
    return (start is None or start <= now) and (until is None or now < until)


def _constant(variant: str | None) -> _Placement:
    return _Placement(None, (_Span(0, TOTAL, variant),))


def _placement(serve: Serve, now: float) -> _Placement:
    match serve:
        case Fixed(variant):
            return _constant(variant)
        case Rollout(by, salt, method):
            spans = [_Span(*span) for span in serve.ranges]
            return _Placement((by, salt, method, serve.total), spans)
        case Progressive(by, salt, method, variant, otherwise):
            share, total = share_over_time(serve)(now), HASHES[method].total or TOTAL
            spans = [_Span(0, share, variant), _Span(share, total, otherwise)]
            return _Placement(
                (by, salt, method, total), [one for one in spans if one.end > one.start]
            )


def _compare(before: _Placement, after: _Placement) -> BucketMoves:
    if before.basis is None or after.basis is None or before.basis == after.basis:
        total = after.total if before.basis is None else before.total
        spans = _spans_over(before, total), _spans_over(after, total)
        return BucketMoves(total, _differences(_overlaps(*spans)))
    return BucketMoves(TOTAL, _differences(_expected_overlaps(before, after)), is_exact=False)


def _spans_over(placement: _Placement, total: int) -> Sequence[_Span]:
    """Return the spans over `total` buckets; a variant for all subjects has any total."""
    if placement.basis is None:
        return (_Span(0, total, placement.spans[0].variant),)
    return placement.spans


def _overlaps(one: Sequence[_Span], other: Sequence[_Span]) -> Iterator[tuple[Move, int]]:
    """Yield how many buckets each pair of spans has in common."""
    first = second = start = 0
    while first < len(one) and second < len(other):
        end = min(one[first].end, other[second].end)
        yield (one[first].variant, other[second].variant), end - start
        first += one[first].end == end
        second += other[second].end == end
        start = end


def _expected_overlaps(one: _Placement, other: _Placement) -> Iterator[tuple[Move, int]]:
    """The same for placements that are independent, of TOTAL buckets."""
    for first in one.spans:
        for second in other.spans:
            pairs = (first.end - first.start) * (second.end - second.start)
            yield (first.variant, second.variant), round(TOTAL * pairs / (one.total * other.total))


def _differences(overlaps: Iterator[tuple[Move, int]]) -> Mapping[Move, int]:
    counts: Counter[Move] = Counter()
    for (former, latter), count in overlaps:
        if former != latter and count:
            counts[former, latter] += count
    return dict(counts)
