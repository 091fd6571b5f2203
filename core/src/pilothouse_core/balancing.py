"""Which instance of a service is next: pure, so that the service and its clients agree.

First `choose_pool` selects the candidates and their shares, then a strategy picks one of them.
Everything that depends on the shares alone is computed once, so picking is cheap for any number.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from math import inf, log
from operator import add

import mmh3

PANIC_THRESHOLD = 0.5  # of the instances; Envoy's default
_ENOUGH = 0.5  # of what an even spread over the zones would give each of them
_FINE = 1000  # parts of a weight, so that shares are whole numbers while an instance warms up
_OWNERS_KEPT = 1024  # of keys; then all are forgotten


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance as balancing sees it; `age` is in seconds since it was registered."""

    id: str
    weight: int = 100
    zone: str | None = None
    is_healthy: bool = True
    age: float = inf
    warmup_seconds: float = 0.0


@dataclass(frozen=True)
class Pool:
    """The selected candidates by id, ascending; a share is relative to the others and above 0."""

    shares: Mapping[str, int]
    panicked: bool = False  # too few are healthy: the unhealthy take part as well
    is_local: bool = False  # only those of the zone that was asked for

    @cached_property
    def lottery(self) -> "Lottery":
        return Lottery(self.shares)

    @cached_property
    def rendezvous(self) -> "Rendezvous":
        return Rendezvous(self.shares)


def choose_pool(
    candidates: Iterable[Candidate],
    *,
    zone: str | None = None,
    panic_threshold: float = PANIC_THRESHOLD,
) -> Pool:
    """Select the candidates to balance over; a weight of 0 always excludes an instance.

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
    """Tell whether a zone can serve its callers, assumed to be spread evenly over zones."""
    shares = _shares(healthy)
    own = sum(shares.get(candidate.id, 0) for candidate in local)
    zones = {candidate.zone for candidate in healthy}
    return own > 0 and own * len(zones) >= _ENOUGH * sum(shares.values())


def _shares(candidates: Iterable[Candidate]) -> dict[str, int]:
    """Return shares by warm-up progress; if all are 0, by weight alone."""
    ordered = sorted(candidates, key=lambda candidate: candidate.id)
    warm = {candidate.id: effective_share(candidate) for candidate in ordered}
    shares = {id_: count for id_, count in warm.items() if count}
    return shares or {candidate.id: candidate.weight * _FINE for candidate in ordered}


def effective_share(candidate: Candidate) -> int:
    """Count the thousandths of a weight that are due: they grow linearly over the warm-up."""
    age = max(0.0, candidate.age)  # another clock may have registered it in our future
    if age >= candidate.warmup_seconds:
        return candidate.weight * _FINE
    return int(candidate.weight * _FINE * (age / candidate.warmup_seconds))


class RoundRobin:
    """Smooth weighted round robin, as nginx does it: heavy ones are spread out, not in a row.

    Between those who have the same share it is a plain one, so that a turn costs as much as there
    are different shares. Keeps the state of one series of picks: one for each service and zone.
    """

    def __init__(self) -> None:
        self._shares: Mapping[str, int] = {}
        self._total = 0
        # Those who are alike, side by side: who is next is first; what all of them have together,
        # and how much of it they have to their credit.
        self._alike: list[deque[str]] = []
        self._counts: list[int] = []
        self._credits: list[int] = []

    def next(self, shares: Mapping[str, int]) -> str | None:
        """Return the next candidate, None if there is none; `shares` must not change afterwards.

        Over any run of `sum(shares)` picks (divided by the common divisor of all shares) each
        candidate gets exactly its share.
        """
        if not shares:
            return None
        if shares is not self._shares:
            self._begin(shares)
        alike = self._alike[0 if len(self._alike) == 1 else self._heaviest()]
        chosen = alike[0]
        alike.rotate(-1)
        return chosen

    def _heaviest(self) -> int:
        self._credits = list(map(add, self._credits, self._counts))
        chosen = self._credits.index(max(self._credits))
        self._credits[chosen] -= self._total
        return chosen

    def _begin(self, shares: Mapping[str, int]) -> None:
        """Adopt new shares; a candidate keeps the turns it is due."""
        before = self._turns_due()
        waited = {id_: before.get(id_, 0.0) for id_ in shares}
        # Those who left took credit or debt along; a newcomer must not wait for it to level out.
        excess = sum(waited.values()) / len(waited)
        self._shares, self._total = shares, sum(shares.values())
        self._alike, self._counts, self._credits = [], [], []
        for count, ids in _group_by_share(shares):
            self._alike.append(deque(sorted(ids, key=lambda id_: -waited[id_])))
            self._counts.append(count * len(ids))
            of_them = sum(waited[id_] - excess for id_ in ids)
            self._credits.append(round(of_them * self._total))

    def _turns_due(self) -> dict[str, float]:
        """Return how many turns each is due; those with equal shares queue for theirs."""
        return {
            id_: (credit / self._total + (len(alike) - 1) / 2 - place) / len(alike)
            for alike, credit in zip(self._alike, self._credits, strict=True)
            for place, id_ in enumerate(alike)
        }


class LeastRecent:
    """Picks the candidate not picked for the longest time; those never picked come first.

    Shares do not matter beyond taking part. One for each service and zone.
    """

    def __init__(self) -> None:
        self._shares: Mapping[str, int] = {}
        self._line: deque[str] = deque()
        self._picked: set[str] = set()

    def next(self, shares: Mapping[str, int]) -> str | None:
        """Return the next candidate, None if there is none; `shares` must not change afterwards."""
        if not shares:
            return None
        if shares is not self._shares:
            self._shares = shares
            picked = [id_ for id_ in self._line if id_ in self._picked and id_ in shares]
            self._picked = set(picked)
            self._line = deque([id_ for id_ in shares if id_ not in self._picked] + picked)
        chosen = self._line[0]
        self._line.rotate(-1)
        self._picked.add(chosen)
        return chosen


class Lottery:
    """The shares side by side, by id."""

    def __init__(self, shares: Mapping[str, int]) -> None:
        self._ids = sorted(shares)
        self._ends = list(accumulate(shares[id_] for id_ in self._ids))

    def owner(self, drawn: float) -> str | None:
        """Return the candidate whose share contains `drawn`, in [0, 1); None if there is none."""
        if not self._ids:
            return None
        place = bisect_right(self._ends, drawn * self._ends[-1])
        return self._ids[min(place, len(self._ids) - 1)]  # floats may round up to the very end


class Rendezvous:
    """Weighted rendezvous hashing.

    When an instance is added, removed or changes its share, keys move only to it or from it: with
    equal shares about one in n. Frozen by vectors: the score is -share / ln((hash + 0.5) / 2^32),
    hash being murmur3_x86_32 of the id, seeded with that of the key, with its bytes in reverse; of
    equal scores the least share wins, then the least id. Source: Schindelhauer and Schomaker,
    Weighted Distributed Hash Tables (2005).
    """

    def __init__(self, shares: Mapping[str, int]) -> None:
        alike = _group_by_share(shares)
        # Those who have the same share side by side: of them only the highest hash can win.
        self._ids = [id_ for _, ids in alike for id_ in ids]
        self._names = [_bytes(id_) for id_ in self._ids]
        self._shares = [share for share, _ in alike]
        ends = list(accumulate(len(ids) for _, ids in alike))
        self._parts = list(map(slice, [0, *ends], ends))
        self._known: dict[int, str] = {}

    def owner(self, key: str) -> str | None:
        """Return the owner of `key`, None if there is no candidate."""
        if not self._ids:
            return None
        seed = mmh3.mmh3_32_uintdigest(_bytes(key))
        owner = self._known.get(seed)
        if owner is None:
            if len(self._known) >= _OWNERS_KEPT:
                self._known.clear()
            owner = self._known[seed] = self._owner(seed)
        return owner

    def _owner(self, seed: int) -> str:
        hashes = list(map(mmh3.mmh3_32_digest, self._names, repeat(seed)))
        highest = [max(hashes[part]) for part in self._parts]
        scores = [
            share / log((int.from_bytes(hash_, "big") + 0.5) / 2**32)  # below 0, and the least wins
            for share, hash_ in zip(self._shares, highest, strict=True)
        ]
        best = scores.index(min(scores))
        return self._ids[hashes.index(highest[best], self._parts[best].start)]


def _bytes(text: str) -> bytes:
    # mmh3 is given bytes: a text with half a surrogate pair crashes it.
    return text.encode("utf-8", "surrogatepass")


def _group_by_share(shares: Mapping[str, int]) -> list[tuple[int, list[str]]]:
    """Group ids by share; shares and ids ascend."""
    ids: dict[int, list[str]] = {}
    for id_ in sorted(shares):
        ids.setdefault(shares[id_], []).append(id_)
    return sorted(ids.items())
