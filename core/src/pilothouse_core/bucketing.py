"""Buckets of subjects, and the ranges of buckets that belong to variants.

A public contract: each hash is frozen by vectors (tests/core/vectors), and a later one gets a new
name. A *share* is counted in buckets; ranges are half open and lie on 0 to the total of the hash.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import mmh3

Subject = str | int
BucketOf = Callable[[Subject], int]
_LARGEST_TOTAL = 2**31 - 1
_ALL = 100.0
_CBOR_SHORT = 24  # smaller numbers are encoded in the first byte itself
_UNLEASH_VARIANT_SEED = 86028157


class Range(NamedTuple):
    """Buckets `start` up to, not including, `end` belong to `variant`."""

    start: int
    end: int
    variant: str


@dataclass(frozen=True, slots=True)
class Hash:
    """A way to place subjects. `total` is its number of buckets; None: the sum of the weights.

    With `needs_subject`, a context without a subject gets no share, not even of a whole, as in the
    system that the hash comes from: an imported flag means what it meant there.
    """

    name: str
    total: int | None
    bind: Callable[[str, int], BucketOf]  # salt, total
    needs_subject: bool = True

    def shares(self, weights: Mapping[str, float]) -> dict[str, int]:
        """Count the buckets of each variant; raises ValueError with the reason.

        Weights are percentages that add up to 100 and fall on whole buckets; where the hash has
        no total of its own they are whole numbers, relative to their sum.
        """
        if self.total is None:
            return _relative_shares(weights)
        counted = {name: self.share(weight) for name, weight in weights.items()}
        if sum(counted.values()) != self.total:
            raise ValueError("the weights do not add up to 100")
        return counted

    def share(self, percent: float) -> int:
        """Count the buckets of a percentage; raises ValueError with the reason."""
        total = self.total or 100_000
        if not 0 <= percent <= _ALL:
            raise ValueError("a percentage lies between 0 and 100")
        scaled = percent * total / 100
        counted = round(scaled)
        # The nearest decimal must be the one that was written: floats hold 12.345 inexactly.
        if counted * 100 / total != percent:
            raise ValueError(f"the smallest share here is {_decimal_text(100 / total)} percent")
        return counted


def _relative_shares(weights: Mapping[str, float]) -> dict[str, int]:
    counted = {}
    for name, weight in weights.items():
        if weight < 0 or weight != int(weight):
            raise ValueError("the weights of this hash are whole numbers")
        counted[name] = int(weight)
    if not 0 < sum(counted.values()) <= _LARGEST_TOTAL:
        raise ValueError(f"the weights add up to more than 0 and at most {_LARGEST_TOTAL}")
    return counted


def percent(share: int, total: int) -> float:
    """Return the percentage of a share, as it was written."""
    return share * 100 / total


def _decimal_text(number: float) -> str:
    return f"{number:f}".rstrip("0").rstrip(".")


def _murmur3_1(salt: str, total: int) -> BucketOf:
    """Return (murmur3_x86_32(salt ":" subject) * total) >> 32, in exact integers."""
    prefix = f"{salt}:"
    murmur3 = mmh3.mmh3_32_uintdigest

    def bucket(subject: Subject) -> int:
        try:
            return (murmur3((prefix + subject).encode()) * total) >> 32  # type: ignore[operator]
        except (TypeError, UnicodeEncodeError):  # an integer; half a surrogate pair
            return (_hash(f"{prefix}{subject}", 0) * total) >> 32

    return bucket


def _hash(text: str, seed: int) -> int:
    # mmh3 is given bytes: a text with half a surrogate pair, as JSON can spell it, crashes it.
    return mmh3.mmh3_32_uintdigest(text.encode("utf-8", "surrogatepass"), seed)


def _remainder(seed: int) -> Callable[[str, int], BucketOf]:
    """Unleash's normalised value less one: murmur3_x86_32(group ":" subject) modulo the total."""

    def bind(salt: str, total: int) -> BucketOf:
        def bucket(subject: Subject) -> int:
            return _hash(f"{salt}:{subject}", seed) % total

        return bucket

    return bind


def _flagd_1(salt: str, total: int) -> BucketOf:
    """flagd's `fractional` before its hash was CBOR: murmur3 of the salt and the subject, joined.

    The salt is the flag's key where it buckets by targeting key.
    """

    def bucket(subject: Subject) -> int:
        return (_hash(f"{salt}{subject}", 0) * total) >> 32

    return bucket


def _flagd_2(salt: str, total: int) -> BucketOf:
    """flagd's `fractional` by targeting key: murmur3 of the CBOR array [flag key, subject]."""
    head = b"\x82" + _cbor(salt)

    def bucket(subject: Subject) -> int:
        return (mmh3.hash(head + _cbor(subject), 0, signed=False) * total) >> 32

    return bucket


def _flagd_2_value(salt: str, total: int) -> BucketOf:
    """flagd's `fractional` by an expression: murmur3 of the CBOR of its value, salt in front."""

    def bucket(subject: Subject) -> int:
        value = f"{salt}{subject}" if salt else subject
        return (mmh3.hash(_cbor(value), 0, signed=False) * total) >> 32

    return bucket


def _cbor(value: Subject) -> bytes:
    """Encode a text or an integer of at most 64 bits as RFC 8949 asks, in the shortest form."""
    if isinstance(value, int):
        if not -(2**64) <= value < 2**64:
            return _cbor(str(value))
        return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
    encoded = value.encode("utf-8", "surrogatepass")
    return _cbor_head(3, len(encoded)) + encoded


def _cbor_head(major: int, number: int) -> bytes:
    if number < _CBOR_SHORT:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + number.to_bytes(size, "big")


HASHES: Mapping[str, Hash] = {
    made.name: made
    for made in (
        Hash("murmur3-1", 100_000, _murmur3_1, needs_subject=False),
        Hash("flagd-1", None, _flagd_1),
        Hash("flagd-2", None, _flagd_2),
        Hash("flagd-2-value", None, _flagd_2_value),
        Hash("unleash-1", 100, _remainder(0)),
        Hash("unleash-variants-1", None, _remainder(_UNLEASH_VARIANT_SEED)),
    )
}
DEFAULT_HASH = "murmur3-1"


def allocate_ranges(shares: Mapping[str, int]) -> tuple[Range, ...]:
    """Lay shares side by side, in their order."""
    ends = accumulate(shares.values())
    return tuple(
        Range(end - share, end, variant)
        for (variant, share), end in zip(shares.items(), ends, strict=True)
        if share
    )


def shares_of(ranges: Sequence[Range]) -> dict[str, int]:
    """Count the buckets of each variant."""
    counts: dict[str, int] = {}
    for start, end, variant in ranges:
        counts[variant] = counts.get(variant, 0) + end - start
    return counts


def reallocate_ranges(ranges: Sequence[Range], shares: Mapping[str, int]) -> tuple[Range, ...]:
    """Give each variant its new share, moving as few buckets as possible.

    Exactly half the sum of the absolute differences moves: who gains keeps all it had, who loses
    gets nothing. Both count the same total. Among variants the order of `shares` decides, so that
    neighbours stay neighbours: what goes to an earlier variant is taken at the low end.
    """
    before = shares_of(ranges)
    order = [*shares, *(name for name in before if name not in shares)]
    place = {name: number for number, name in enumerate(order)}
    owned = {name: [r for r in ranges if r.variant == name] for name in order}
    spare = {name: before.get(name, 0) - shares.get(name, 0) for name in order}
    givers = [name for name in order if spare[name] > 0]
    result = dict(owned)
    for taker in (name for name in order if spare[name] < 0):
        while spare[taker] < 0:
            giver = givers[0]
            count = min(spare[giver], -spare[taker])
            low = place[taker] < place[giver]
            result[giver], given = _split_off(result[giver], count, low=low)
            result[taker] = [*result[taker], *(Range(s, e, taker) for s, e, _ in given)]
            spare[giver] -= count
            spare[taker] += count
            if not spare[giver]:
                givers.pop(0)
    return _merge_adjacent(sorted(r for name in order for r in result[name]))


def _split_off(
    ranges: Sequence[Range], count: int, *, low: bool
) -> tuple[list[Range], list[Range]]:
    """Take `count` buckets off one end; returns (what stays, what is taken)."""
    stays, taken = sorted(ranges), []
    while count:
        start, end, variant = stays.pop(0 if low else -1)
        size = min(count, end - start)
        cut = start + size if low else end - size
        lower, upper = Range(start, cut, variant), Range(cut, end, variant)
        gone, rest = (lower, upper) if low else (upper, lower)
        taken.append(gone)
        if rest.start < rest.end:
            stays.insert(0 if low else len(stays), rest)
        count -= size
    return stays, taken


def _merge_adjacent(ranges: Sequence[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for span in ranges:
        if joined and joined[-1].variant == span.variant and joined[-1].end == span.start:
            joined[-1] = Range(joined[-1].start, span.end, span.variant)
        else:
            joined.append(span)
    return tuple(joined)


def range_lookup(ranges: Sequence[Range]) -> Callable[[int], int]:
    """Return a function from a bucket to the index of the range that holds it."""
    ends = [span.end for span in ranges]
    if len(ends) == 1:
        return lambda _: 0
    cut, *others = ends
    if len(others) == 1:
        return lambda bucket: bucket >= cut
    return lambda bucket: bisect_right(ends, bucket)
