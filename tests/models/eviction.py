"""D. Eviction with self-preservation that ends: four instances, two replicas, rows in Postgres.

Time passes in leases. A live instance sends one heartbeat in each, to any replica that it reaches;
what a replica receives is noted in the rows. Instances die for good, and the links between a
replica and the instances (not Postgres) are cut and healed. So a live instance is silent only while
no replica receives anything, and for the rest of the lease in which a link is healed.

Self-preservation: if at least MANY are silent at once, none is evicted, for BOUND leases at most.
The question is who counts these leases, and when; and what follows when most of the silent return:
the others have had no time to. It is assumed that at least MANY instances are alive: with fewer,
dead instances cannot be told from a broken network.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from tests.models.checker import Case, main

INSTANCES, MANY, BOUND = 4, 2, 4
Flags = tuple[bool, ...]
Counts = tuple[int, ...]
Step = tuple[str, "State"]
T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """What is decided otherwise in the cases.

    `counts` is what the bound counts. "row": leases since the last heartbeat of the instance;
    "now": the same, if the replica receives heartbeats now; "heard": only leases in which this
    replica received one. `counts_itself`: its own registration counts as one. `gives_grace`: those
    who were protected have one more whole lease when the protection ends.
    """

    counts: str = "heard"
    counts_itself: bool = False
    is_bounded: bool = True
    protects: bool = True
    gives_grace: bool = True
    deaths: int = 2
    cuts: int = 2
    leases: int = 9


class State(NamedTuple):
    alive: Flags = (True,) * INSTANCES
    kept: Flags = (True,) * INSTANCES  # still registered
    silent: Counts = (0,) * INSTANCES  # leases without a heartbeat, by the row
    beaten: Flags = (False,) * INSTANCES  # in this lease
    links: Flags = (True, True)
    was_cut: bool = False  # in this lease no replica could be reached for a while
    hears: Flags = (False, False)  # has received a heartbeat in this lease
    # By replica: leases in which it received a heartbeat, while the instance was silent.
    heard: tuple[Counts, ...] = ((0,) * INSTANCES,) * 2
    spared: int = 0  # leases to end before one is evicted that was protected
    deaths: int = 2
    cuts: int = 2
    leases: int = 9
    gone: int = 0  # leases since the deaths, in which the links were whole
    bad: str | None = None


def put(values: tuple[T, ...], at: int, value: T) -> tuple[T, ...]:
    return (*values[:at], value, *values[at + 1 :])


class Eviction:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def initial(self) -> State:
        return State(deaths=self.rules.deaths, cuts=self.rules.cuts, leases=self.rules.leases)

    def steps(self, state: State) -> Iterator[Step]:
        if state.bad:
            return
        if state.deaths:
            yield _deaths(state)
        for replica in (0, 1):
            yield from _link_steps(state, replica)
            for instance in range(INSTANCES):
                yield from _heartbeats(state, replica, instance)
                yield from self._evictions(state, replica, instance)
        if state.leases and all(_is_lease_over(state, instance) for instance in range(INSTANCES)):
            yield self._end_of_lease(state)

    def always(self, state: State) -> str | None:
        return state.bad

    def settled_flaw(self, state: State) -> str | None:
        # Heartbeats may be divided so that each replica receives one in every other lease only.
        is_dead_kept = any(
            kept and not alive for kept, alive in zip(state.kept, state.alive, strict=True)
        )
        if state.gone > 2 * BOUND and is_dead_kept:
            return "a dead instance stays registered for ever"
        return None

    def _evictions(self, state: State, replica: int, instance: int) -> Iterator[Step]:
        is_spared = self._protects_now(state) or (self.rules.gives_grace and state.spared)
        if not state.kept[instance] or state.silent[instance] < 2:
            return
        if is_spared and not self._is_given_up(state, replica, instance):
            return
        bad = None
        if state.alive[instance]:
            bad = f"the live instance {instance} was evicted by replica {replica}"
        kept = put(state.kept, instance, value=False)
        yield f"replica {replica} evicts {instance}", state._replace(kept=kept, bad=bad)

    def _protects_now(self, state: State) -> bool:
        silent = sum(
            kept and silent >= 1 for kept, silent in zip(state.kept, state.silent, strict=True)
        )
        return self.rules.protects and silent >= MANY

    def _is_given_up(self, state: State, replica: int, instance: int) -> bool:
        if not self.rules.is_bounded:
            return False
        if self.rules.counts == "heard":
            return state.heard[replica][instance] >= BOUND
        hears = self.rules.counts == "row" or state.hears[replica]
        return state.silent[instance] >= BOUND and hears

    def _end_of_lease(self, state: State) -> Step:
        silent = tuple(
            0 if state.beaten[instance] else min(BOUND + 1, state.silent[instance] + 1)
            for instance in range(INSTANCES)
        )
        heard = tuple(
            tuple(
                0
                if state.beaten[instance]
                else min(
                    BOUND,
                    state.heard[replica][instance]
                    + (state.hears[replica] or self.rules.counts_itself),
                )
                for instance in range(INSTANCES)
            )
            for replica in (0, 1)
        )
        is_whole = not state.was_cut and any(state.links)
        after = state._replace(
            silent=silent,
            heard=heard,
            hears=(False, False),
            beaten=(False,) * INSTANCES,
            was_cut=not any(state.links),
            leases=state.leases - 1,
            gone=state.gone + (not all(state.alive) and is_whole),
        )
        spared = 2 if self._protects_now(after) else max(0, state.spared - 1)
        return "!a lease passes", after._replace(spared=spared)


def _deaths(state: State) -> Step:
    """Let instances die together, as those of one machine do."""
    alive = tuple(
        alive and instance < INSTANCES - state.deaths for instance, alive in enumerate(state.alive)
    )
    return f"!{state.deaths} instances die", state._replace(alive=alive, deaths=0)


def _link_steps(state: State, replica: int) -> Iterator[Step]:
    if state.links[replica] and state.cuts and not any(state.beaten):
        links = put(state.links, replica, value=False)
        was_cut = state.was_cut or not any(links)
        cut = state._replace(links=links, cuts=state.cuts - 1, was_cut=was_cut)
        yield f"!replica {replica} is cut off", cut
    if not state.links[replica]:
        healed = state._replace(links=put(state.links, replica, value=True))
        yield f"!replica {replica} is reached again", healed


def _heartbeats(state: State, replica: int, instance: int) -> Iterator[Step]:
    is_live = state.alive[instance] and state.kept[instance]
    if state.links[replica] and is_live and not state.beaten[instance]:
        after = state._replace(
            beaten=put(state.beaten, instance, value=True),
            silent=put(state.silent, instance, 0),
            heard=tuple(put(counts, instance, 0) for counts in state.heard),
            hears=put(state.hears, replica, value=True),
        )
        yield f"!replica {replica} takes a heartbeat of {instance}", after


def _is_lease_over(state: State, instance: int) -> bool:
    """Whether an instance has sent its heartbeat; or could not, as no replica was reachable."""
    is_expected = state.alive[instance] and state.kept[instance]
    is_reachable = not state.was_cut and any(state.links)
    return state.beaten[instance] or not is_expected or not is_reachable


def with_rules(**changes: object) -> Callable[[], Eviction]:
    return lambda: Eviction(replace(Rules(), **changes))  # type: ignore[arg-type]  # of each field


RUNS = {
    "design": Case(
        "violation",
        "the text as it was: protection without an end",
        with_rules(is_bounded=False, cuts=0, leases=10),
    ),
    "ablate-protection": Case(
        "violation",
        "no protection at all: replicas that are cut off evict everybody",
        with_rules(protects=False),
    ),
    "ablate-own": Case(
        "violation",
        "a replica's own registration counts as a heartbeat",
        with_rules(counts_itself=True),
    ),
    "ablate-while": Case(
        "violation",
        "the bound is counted by the row, and asks only whether heartbeats are received now",
        with_rules(counts="now"),
    ),
    "seeded": Case(
        "violation",
        "SEEDED BUG: the bound is counted by the row alone: a replica that is cut off empties"
        " discovery",
        with_rules(counts="row"),
    ),
    "ablate-grace": Case(
        "violation",
        "those who have not returned yet are evicted as soon as most have",
        with_rules(gives_grace=False),
    ),
    "bounded": Case(
        "pass",
        "an outage of all replicas, seven leases: no live instance is evicted",
        with_rules(deaths=0, leases=7),
    ),
    "bounded-deaths": Case(
        "pass", "the same with two deaths at once, over nine leases", with_rules()
    ),
    "ends": Case(
        "pass",
        "two deaths at once, no cut, ten leases: the dead go, whichever replica hears the living",
        with_rules(cuts=0, leases=10),
    ),
}

if __name__ == "__main__":
    sys.exit(main("D. eviction", RUNS, sys.argv[1:]))
