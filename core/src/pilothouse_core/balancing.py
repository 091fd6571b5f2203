"""Which instance of a service is next: pure, so that the service and its clients agree.

First `pool` decides who takes part and with which share, then a strategy picks one of them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, log

import mmh3

PANIC_THRESHOLD = 0.5  # of the instances; Envoy's default
_ENOUGH = 0.5  # of what an even spread over the zones would give each of them
_UNUSED_BITS = 12  # of the hash
_FINE = 1000  # parts of a weight, so that shares are whole numbers while an instance warms up


@dataclass(frozen=True, slots=True)
class Candidate:
    """What balancing asks of an instance; `age` is in seconds since it was registered."""

    id: str
    weight: int = 100
    zone: str | None = None
    is_healthy: bool = True
    age: float = inf
    warmup_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Who takes part, by id in ascending order; a share is relative to the others and above 0."""

    shares: Mapping[str, int]
    panicked: bool = False  # too few are healthy: the unhealthy take part as well
    is_local: bool = False  # only those of the zone that was asked for


def pool(
    candidates: Iterable[Candidate],
    *,
    zone: str | None = None,
    panic_threshold: float = PANIC_THRESHOLD,
) -> Pool:
    """Choose who takes part; a weight of 0 keeps an instance out in any case.

    With less than `panic_threshold` (0 to 1) of them healthy all are used, of every zone: the few
    would only be overrun. Else the healthy ones of `zone`, if they hold enough, or all healthy.
    """
    used = [candidate for candidate in candidates if candidate.weight > 0]
    healthy = [candidate for candidate in used if candidate.is_healthy]
    if len(healthy) < panic_threshold * len(used):
        return Pool(_shares(used), panicked=True)
    local = [candidate for candidate in healthy if candidate.zone == zone]
    if zone is not None and _is_enough(local, healthy):
        return Pool(_shares(local), is_local=True)
    return Pool(_shares(healthy))


def _is_enough(local: Iterable[Candidate], healthy: Iterable[Candidate]) -> bool:
    """Tell whether a zone can bear its callers, who are taken to be spread evenly over zones."""
    shares = _shares(healthy)
    own = sum(shares.get(candidate.id, 0) for candidate in local)
    zones = {candidate.zone for candidate in healthy}
    return own > 0 and own * len(zones) >= _ENOUGH * sum(shares.values())


def _shares(candidates: Iterable[Candidate]) -> dict[str, int]:
    """Count by warmth; where all are so new that nobody has a share yet, by weight alone."""
    ordered = sorted(candidates, key=lambda candidate: candidate.id)
    warm = {candidate.id: share(candidate) for candidate in ordered}
    shares = {id_: count for id_, count in warm.items() if count}
    return shares or {candidate.id: candidate.weight * _FINE for candidate in ordered}


def share(candidate: Candidate) -> int:
    """Count the thousandths of a weight that are due: they grow linearly over the warm-up."""
    age = max(0.0, candidate.age)  # another clock may have registered it in our future
    if age >= candidate.warmup_seconds:
        return candidate.weight * _FINE
    return int(candidate.weight * _FINE * (age / candidate.warmup_seconds))


class RoundRobin:
    """Smooth weighted round robin, as nginx does it: heavy ones are spread out, not in a row.

    Keeps the state of one series of picks: one for each service and zone.
    """

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        self._alike: Mapping[str, int] = {}  # the last shares, if all were the same
        self._order: list[str] = []
        self._place = 0
        self._last = ""

    def next(self, shares: Mapping[str, int]) -> str | None:
        """Return whose turn it is, None if there is nobody; `shares` are not changed afterwards.

        Over any run of `sum(shares)` picks (divided by what all shares have in common) everybody
        gets exactly the own share.
        """
        if not shares:
            return None
        if shares is self._alike or self._are_alike(shares):
            self._last = self._order[self._place]
            self._place = (self._place + 1) % len(self._order)
            return self._last
        self._last = self._weighted(shares)
        return self._last

    def _are_alike(self, shares: Mapping[str, int]) -> bool:
        """Prepare to go round, after who was last: what the general rule does with equal shares."""
        if len(set(shares.values())) > 1:
            self._alike = {}
            return False
        self._alike, self._turns = shares, {}
        self._order = sorted(shares)
        self._place = bisect_right(self._order, self._last) % len(self._order)
        return True

    def _weighted(self, shares: Mapping[str, int]) -> str:
        turns = {id_: self._turns.get(id_, 0) + count for id_, count in shares.items()}
        # Those who left took credit or debt along; a newcomer must not wait for it to level out.
        excess = (sum(turns.values()) - sum(shares.values())) // len(turns)
        turns = {id_: turn - excess for id_, turn in turns.items()}
        chosen = max(turns, key=turns.__getitem__)
        turns[chosen] -= sum(shares.values())
        self._turns = turns
        return chosen


class LeastRecent:
    """Whoever was not picked for the longest time; those who never were come first.

    Shares do not matter beyond taking part. One for each service and zone.
    """

    def __init__(self) -> None:
        self._picks = 0
        self._picked: dict[str, int] = {}

    def next(self, shares: Mapping[str, int]) -> str | None:
        """Return whose turn it is, None if there is nobody."""
        if not shares:
            return None
        chosen = min(shares, key=lambda id_: self._picked.get(id_, 0))
        self._picks += 1
        self._picked = {id_: n for id_, n in self._picked.items() if id_ in shares}
        self._picked[chosen] = self._picks
        return chosen


def at_random(shares: Mapping[str, int], drawn: float) -> str | None:
    """Return who owns `drawn`, a number in [0, 1), where the shares lie side by side, by id."""
    point = drawn * sum(shares.values())
    for id_, count in sorted(shares.items()):
        if point < count:
            return id_
        point -= count
    return max(shares, default=None)  # floats may round up to the very end


def by_key(shares: Mapping[str, int], key: str) -> str | None:
    """Return the owner of `key` by weighted rendezvous hashing, None if there is nobody.

    When an instance comes, goes or changes its share, no key moves but to it or away from it: with
    equal shares about one in n. Frozen by vectors: the score is -share / ln((hash + 0.5) / 2^52),
    hash being the upper 52 of the first 64 bits of murmur3_x64_128 of id, NUL and key. Source:
    Schindelhauer and Schomaker, Weighted Distributed Hash Tables (2005).
    """
    if len(set(shares.values())) <= 1:  # the score rises with the hash: no need to count it
        return max(shares, key=lambda id_: _placed(id_, key), default=None)
    return max(shares, key=lambda id_: _score(_placed(id_, key), shares[id_]))


def _placed(id_: str, key: str) -> int:
    # mmh3 is given bytes: a text with half a surrogate pair crashes it.
    text = f"{id_}\0{key}".encode("utf-8", "surrogatepass")
    placed: int = mmh3.hash64(text, 0, x64arch=True, signed=False)[0]
    return placed >> _UNUSED_BITS


def _score(placed: int, count: int) -> float:
    # As many bits as a double holds beside the half: with more, the quotient could round up to 1,
    # whose logarithm is 0.
    return -count / log((placed + 0.5) / 2**52)
