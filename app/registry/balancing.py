"""One instance for a caller: the strategies of the core, over what is known of a service."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import time
from typing import Literal, TypeVar

from app.registry.view import DISCOVERED, Seen, ServiceView
from pilothouse_core.balancing import Candidate, LeastRecent, Pool, RoundRobin, pool

Strategy = Literal["round_robin", "random", "least_recent", "hash"]
_POOLS_AT_MOST = 100  # of one service; who asks can invent any number of zones
_WARMER_SECONDS = 0.5  # until the shares of those that warm up are counted again
_NOBODY = Pool({})
_S = TypeVar("_S", RoundRobin, LeastRecent)


@dataclass(frozen=True, slots=True)
class Choice:
    seen: Seen
    pool: Pool


class Balancer:
    """Keeps whose turn it is, for each service and zone."""

    def __init__(self, series_at_most: int = 10_000) -> None:
        self._at_most = series_at_most  # of each strategy
        self._turns: dict[tuple[str, str | None], RoundRobin] = {}
        self._recent: dict[tuple[str, str | None], LeastRecent] = {}

    def choose(
        self, service: ServiceView, strategy: Strategy, zone: str | None, key: str | None
    ) -> Choice | None:
        """Return one of a service, None if there is nobody to be used."""
        found = pooled(service, zone)
        series = service.name, zone if found.is_local else None
        chosen = self._next(strategy, series, found, key or "")
        instance = None if chosen is None else service.instance(chosen)
        return None if instance is None else Choice(instance, found)

    def _next(
        self,
        strategy: Strategy,
        series: tuple[str, str | None],
        among: Pool,
        key: str,
    ) -> str | None:
        if not among.shares:
            return None
        match strategy:
            case "round_robin":
                return self._kept(self._turns, series, RoundRobin).next(among.shares)
            case "least_recent":
                return self._kept(self._recent, series, LeastRecent).next(among.shares)
            case "random":
                return among.lottery.owner(random.random())  # noqa: S311 - spreads load
            case "hash":
                return among.rendezvous.owner(key)

    def _kept(
        self,
        series: dict[tuple[str, str | None], _S],
        of: tuple[str, str | None],
        make: Callable[[], _S],
    ) -> _S:
        if of not in series and len(series) >= self._at_most:
            series.pop(next(iter(series)))  # services come and go; the oldest series begins anew
        return series.setdefault(of, make())


def pooled(service: ServiceView, zone: str | None) -> Pool:
    """Choose who takes part; those that drain never do."""
    now = time()
    until, known = service.pools.get(zone, (0.0, _NOBODY))
    if now < until:
        return known
    candidates = [_candidate(one, now) for one in service.seen if one.status != "draining"]
    found = pool(candidates, zone=zone)
    if zone is not None and not found.is_local:
        found = pooled(service, None)  # the same one: taking turns begins anew with other shares
    warms = any(one.age < one.warmup_seconds for one in candidates)
    if len(service.pools) < _POOLS_AT_MOST:
        service.pools[zone] = now + _WARMER_SECONDS if warms else inf, found
    return found


def _candidate(seen: Seen, now: float) -> Candidate:
    if seen.instance is None:
        return Candidate(seen.id, is_healthy=seen.status in DISCOVERED)
    return Candidate(
        seen.id,
        weight=seen.instance.weight,
        zone=seen.instance.zone,
        is_healthy=seen.status in DISCOVERED,
        age=now - registered_at(seen, now),
        warmup_seconds=seen.instance.warmup_seconds,
    )


def registered_at(seen: Seen, default: float) -> float:
    """Return when an instance was registered, in seconds since 1970."""
    if seen.row is not None:
        return seen.row.registered_at.timestamp()
    if seen.found is not None and seen.found.registered_at is not None:
        return seen.found.registered_at / 1000
    return default
