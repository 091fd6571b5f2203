"""Whose turn it is: the strategies of the core over the instances that are known here. No I/O."""

import random
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Literal, TypeVar

from pilothouse.forks import ForkLock
from pilothouse.registry.instances import DiscoveredInstance
from pilothouse_core.balancing import Candidate, LeastRecent, Pool, RoundRobin, choose_pool
from pilothouse_core.suggestions import did_you_mean

Strategy = Literal["round_robin", "random", "least_recent", "hash"]
STRATEGIES = ("round_robin", "random", "least_recent", "hash")
_WARMER_SECONDS = 0.5  # until the shares of those that warm up are counted again
_ZONES_AT_MOST = 100  # callers may pass any number of them
_Series = TypeVar("_Series", RoundRobin, LeastRecent)
_Selection = tuple[str | None, str | None]  # zone and environment
_guard = ForkLock()  # of every pick: they take microseconds


class Balancer:
    """Chooses instances of one service in turn; safe to use from every thread."""

    def __init__(self) -> None:
        self._instances: dict[str, DiscoveredInstance] = {}
        self._pools: dict[_Selection, tuple[float, Pool]] = {}
        self._turns: dict[_Selection, RoundRobin] = {}
        self._recent: dict[_Selection, LeastRecent] = {}

    def swap(self, instances: Sequence[DiscoveredInstance]) -> None:
        with _guard.lock:
            self._instances = {one.instance_id: one for one in instances}
            self._pools = {}

    def choose(
        self,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        zone: str | None = None,
        without: Collection[str] = (),
        environment: str | None = None,
    ) -> DiscoveredInstance | None:
        """Return one instance, None if there is none; never one of the ids in `without`.

        With a zone its own instances come first, if they can bear it; with an environment only
        those that state it take part. Raises ValueError for a
        strategy that there is not, and for `hash` without a key.
        """
        if strategy not in STRATEGIES:
            listed = ", ".join(STRATEGIES)
            suggestion = did_you_mean(strategy, STRATEGIES)
            raise ValueError(f"{strategy!r} is not one of {listed}{suggestion}")
        if strategy == "hash" and key is None:
            raise ValueError("the strategy `hash` needs `key`: equal keys go to the same instance")
        with _guard.lock:
            chosen = (
                self._other(strategy, key, (zone, environment), without)
                if without
                else self._next(strategy, key, (zone, environment))
            )
            return None if chosen is None else self._instances[chosen]

    def _next(self, strategy: Strategy, key: str | None, selection: _Selection) -> str | None:
        pool = self._current_pool(selection)
        series = selection if pool.is_local else (None, selection[1])
        match strategy:
            case "round_robin":
                return _series_of(self._turns, series, RoundRobin).next(pool.shares)
            case "least_recent":
                return _series_of(self._recent, series, LeastRecent).next(pool.shares)
            case "random":
                return pool.lottery.owner(random.random())  # noqa: S311 - spreads load
            case "hash":
                return pool.rendezvous.owner(key or "")

    def _other(
        self, strategy: Strategy, key: str | None, selection: _Selection, without: Collection[str]
    ) -> str | None:
        """Choose among the remaining instances, without advancing the turns."""
        zone, environment = selection
        pool = choose_pool(self._candidates(time.time(), environment, without), zone=zone)
        if strategy == "hash":
            return pool.rendezvous.owner(key or "")
        return pool.lottery.owner(random.random())  # noqa: S311 - spreads load

    def _candidates(
        self, now: float, environment: str | None, without: Collection[str] = ()
    ) -> list[Candidate]:
        return [
            one.candidate(now)
            for id_, one in self._instances.items()
            if id_ not in without and environment in {None, one.environment}
        ]

    def _current_pool(self, selection: _Selection) -> Pool:
        """Return the pool of candidates; the same one until instances change or warm up."""
        now = time.time()
        zone, environment = selection
        until, known = self._pools.get(selection, (0.0, None))
        if known is not None and now < until:
            return known
        candidates = self._candidates(now, environment)
        pool = choose_pool(candidates, zone=zone)
        if zone is not None and not pool.is_local:
            pool = self._current_pool(
                (None, environment)
            )  # the same object: other shares would reset the turns
        warms = any(one.age < one.warmup_seconds for one in candidates)
        if len(self._pools) < _ZONES_AT_MOST:
            self._pools[selection] = now + _WARMER_SECONDS if warms else inf, pool
        return pool


def _series_of(
    series: dict[_Selection, _Series], of: _Selection, make: Callable[[], _Series]
) -> _Series:
    if of not in series and len(series) >= _ZONES_AT_MOST:
        series.pop(next(iter(series)))  # the oldest starts again
    return series.setdefault(of, make())
