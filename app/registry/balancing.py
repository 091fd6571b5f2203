"""Load balancing: chooses one instance of a service for a caller."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import time
from typing import Literal, TypeVar

from app.registry.view import DISCOVERABLE, InstanceView, ServiceView
from pilothouse_core.balancing import Candidate, LeastRecent, Pool, RoundRobin, choose_pool

Strategy = Literal["round_robin", "random", "least_recent", "hash"]
_POOLS_AT_MOST = 100  # for each service; callers can send any number of zones
_WARMER_SECONDS = 0.5  # until the shares of instances in warm-up are computed again
_EMPTY_POOL = Pool({})
_S = TypeVar("_S", RoundRobin, LeastRecent)
_Series = tuple[str, str | None, str | None]  # service, zone and environment


@dataclass(frozen=True, slots=True)
class Choice:
    instance: InstanceView
    pool: Pool


class Balancer:
    """Keeps the state of each strategy by service, zone and environment."""

    def __init__(self, series_at_most: int = 10_000) -> None:
        self._at_most = series_at_most  # of each strategy
        self._turns: dict[_Series, RoundRobin] = {}
        self._recent: dict[_Series, LeastRecent] = {}

    def choose(
        self,
        service: ServiceView,
        strategy: Strategy,
        zone: str | None,
        key: str | None,
        environment: str | None = None,
    ) -> Choice | None:
        """Return one instance of a service, None if there is no usable one."""
        pool = candidate_pool(service, zone, environment)
        series = service.name, zone if pool.is_local else None, environment
        chosen = self._next(strategy, series, pool, key or "")
        instance = None if chosen is None else service.instance(chosen)
        return None if instance is None else Choice(instance, pool)

    def _next(
        self,
        strategy: Strategy,
        series: _Series,
        among: Pool,
        key: str,
    ) -> str | None:
        if not among.shares:
            return None
        match strategy:
            case "round_robin":
                return self._series_state(self._turns, series, RoundRobin).next(among.shares)
            case "least_recent":
                return self._series_state(self._recent, series, LeastRecent).next(among.shares)
            case "random":
                return among.lottery.owner(random.random())  # noqa: S311 - spreads load
            case "hash":
                return among.rendezvous.owner(key)

    def _series_state(
        self,
        series: dict[_Series, _S],
        of: _Series,
        make: Callable[[], _S],
    ) -> _S:
        if of not in series and len(series) >= self._at_most:
            series.pop(next(iter(series)))  # bounded: the oldest series is dropped
        return series.setdefault(of, make())


def candidate_pool(service: ServiceView, zone: str | None, environment: str | None = None) -> Pool:
    """Return the candidates; draining instances and those of other environments are excluded."""
    now, key = time(), (zone, environment)
    until, known = service.pools.get(key, (0.0, _EMPTY_POOL))
    if now < until:
        return known
    candidates = [
        _candidate(one, now)
        for one in service.instances
        if one.status != "draining" and environment in {None, one.environment}
    ]
    pool = choose_pool(candidates, zone=zone)
    if zone is not None and not pool.is_local:
        pool = candidate_pool(
            service, None, environment
        )  # the same object: a new pool would restart the round robin
    warms = any(one.age < one.warmup_seconds for one in candidates)
    if len(service.pools) < _POOLS_AT_MOST:
        service.pools[key] = now + _WARMER_SECONDS if warms else inf, pool
    return pool


def _candidate(seen: InstanceView, now: float) -> Candidate:
    if seen.instance is None:
        return Candidate(seen.id, is_healthy=seen.status in DISCOVERABLE)
    return Candidate(
        seen.id,
        weight=seen.instance.weight,
        zone=seen.instance.zone,
        is_healthy=seen.status in DISCOVERABLE,
        age=now - registered_at(seen, now),
        warmup_seconds=seen.instance.warmup_seconds,
    )


def registered_at(seen: InstanceView, default: float) -> float:
    """Return when an instance was registered, in seconds since 1970."""
    if seen.row is not None:
        return seen.row.registered_at.timestamp()
    if seen.node is not None and seen.node.registered_at is not None:
        return seen.node.registered_at / 1000
    return default
