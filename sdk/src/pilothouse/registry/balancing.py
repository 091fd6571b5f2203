"""Whose turn it is: the strategies of the core over the instances that are known here. No I/O."""

import os
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Literal, TypeVar

from pilothouse.registry.instances import DiscoveredInstance
from pilothouse_core.balancing import LeastRecent, Pool, RoundRobin, pool

Strategy = Literal["round_robin", "random", "least_recent", "hash"]
STRATEGIES = ("round_robin", "random", "least_recent", "hash")
_WARMER_SECONDS = 0.5  # until the shares of those that warm up are counted again
_ZONES_AT_MOST = 100  # who asks may invent any number of them
_Series = TypeVar("_Series", RoundRobin, LeastRecent)
_guard = threading.Lock()  # of every pick: they take microseconds


def _renew_guard() -> None:
    """In a fork whoever held the lock may not have come along."""
    global _guard  # noqa: PLW0603 - a lock cannot be told that it is free
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


class Balancer:
    """Keeps whose turn it is, for one service; may be asked on any thread."""

    def __init__(self) -> None:
        self._instances: dict[str, DiscoveredInstance] = {}
        self._pools: dict[str | None, tuple[float, Pool]] = {}
        self._turns: dict[str | None, RoundRobin] = {}
        self._recent: dict[str | None, LeastRecent] = {}

    def swap(self, instances: Sequence[DiscoveredInstance]) -> None:
        with _guard:
            self._instances = {one.instance_id: one for one in instances}
            self._pools = {}

    def choose(
        self,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        zone: str | None = None,
        without: Collection[str] = (),
    ) -> DiscoveredInstance | None:
        """Return one instance, None if there is nobody; never one of the ids in `without`.

        With a zone its own instances come first, if they can bear it. Raises ValueError for a
        strategy that there is not, and for `hash` without a key.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"{strategy!r} is none of {', '.join(STRATEGIES)}")
        if strategy == "hash" and key is None:
            raise ValueError("the strategy `hash` needs `key`: what shall stay with one instance")
        with _guard:
            chosen = (
                self._other(strategy, key, zone, without)
                if without
                else self._next(strategy, key, zone)
            )
            return None if chosen is None else self._instances[chosen]

    def _next(self, strategy: Strategy, key: str | None, zone: str | None) -> str | None:
        found = self._pooled(zone)
        series = zone if found.is_local else None
        match strategy:
            case "round_robin":
                return _kept(self._turns, series, RoundRobin).next(found.shares)
            case "least_recent":
                return _kept(self._recent, series, LeastRecent).next(found.shares)
            case "random":
                return found.lottery.owner(random.random())  # noqa: S311 - spreads load
            case "hash":
                return found.rendezvous.owner(key or "")

    def _other(
        self, strategy: Strategy, key: str | None, zone: str | None, without: Collection[str]
    ) -> str | None:
        """Choose among the rest, nobody's turn being moved by it."""
        now = time.time()
        rest = [one for id_, one in self._instances.items() if id_ not in without]
        found = pool([one.candidate(now) for one in rest], zone=zone)
        if strategy == "hash":
            return found.rendezvous.owner(key or "")
        return found.lottery.owner(random.random())  # noqa: S311 - spreads load

    def _pooled(self, zone: str | None) -> Pool:
        """Choose who takes part; the same pool again until somebody comes, goes or gets warmer."""
        now = time.time()
        until, known = self._pools.get(zone, (0.0, None))
        if known is not None and now < until:
            return known
        candidates = [one.candidate(now) for one in self._instances.values()]
        found = pool(candidates, zone=zone)
        if zone is not None and not found.is_local:
            found = self._pooled(None)  # the very same: with other shares, turns begin anew
        warms = any(one.age < one.warmup_seconds for one in candidates)
        if len(self._pools) < _ZONES_AT_MOST:
            self._pools[zone] = now + _WARMER_SECONDS if warms else inf, found
        return found


def _kept(
    series: dict[str | None, _Series], of: str | None, make: Callable[[], _Series]
) -> _Series:
    if of not in series and len(series) >= _ZONES_AT_MOST:
        series.pop(next(iter(series)))  # the oldest begins anew
    return series.setdefault(of, make())
