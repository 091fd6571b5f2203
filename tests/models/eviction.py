"""D. Eviction with self-preservation that ends: four instances, two replicas, rows in Postgres.

Time moves in leases. A live instance sends one heartbeat in each, to any replica that it reaches; what a replica hears is noted in
the rows. Instances die for good, and the links between a replica and the instances (not Postgres) are cut and healed. So a live
instance is silent only while no replica hears anybody, and for the rest of the lease in which a link is healed.

Self-preservation: where at least MANY are silent at once, nobody is evicted, for BOUND leases at most. What is asked here is who
counts these leases, and when; and what follows when most of the silent return: the others have had no time to. It is assumed that at least MANY instances are alive: of fewer, nobody can tell a network from them.
"""
import sys
from typing import NamedTuple

from checker import main

INSTANCES, MANY, BOUND = 4, 2, 4

# by: what the bound counts. "row": leases since the instance was heard; "now": the same, if the replica hears anybody now;
# "heard": only leases in which this replica heard somebody. own: whether its own registration counts as somebody.
# grace: whether those who were protected have one more whole lease to be heard when the protection ends.
RULES = dict(by="heard", own=False, bounded=True, protects=True, grace=True)


class S(NamedTuple):
    alive: tuple = (True,) * INSTANCES
    kept: tuple = (True,) * INSTANCES        # still registered
    silent: tuple = (0,) * INSTANCES         # leases without a heartbeat, by the row
    beaten: tuple = (False,) * INSTANCES     # in this lease
    links: tuple = (True, True)
    cut: bool = False                        # in this lease no replica could be reached for a while
    hears: tuple = (False, False)            # has heard somebody in this lease
    heard: tuple = ((0,) * INSTANCES,) * 2   # by replica: leases in which it heard somebody, while the instance was silent
    spared: int = 0                          # leases to end before anybody is evicted who was protected
    deaths: int = 2
    cuts: int = 2
    ticks: int = 9
    gone: int = 0                            # leases since somebody died, in which the links were whole
    bad: object = None


def put(values, at, value):
    return (*values[:at], value, *values[at + 1:])


class Eviction:
    def __init__(self, deaths=2, cuts=2, ticks=9, **rules):
        self.start = S(deaths=deaths, cuts=cuts, ticks=ticks)
        self.__dict__.update(rules)

    def initial(self):
        return self.start

    def protects_now(self, s):
        return self.protects and sum(kept and silent >= 1 for kept, silent in zip(s.kept, s.silent)) >= MANY

    def is_given_up(self, s, r, i):
        if not self.bounded:
            return False
        if self.by == "heard":
            return s.heard[r][i] >= BOUND
        return s.silent[i] >= BOUND and (self.by == "row" or s.hears[r])

    def steps(self, s):
        out = []
        if s.bad:
            return out
        if s.deaths:  # together, as those of one machine do
            dead = tuple(i >= INSTANCES - s.deaths for i in range(INSTANCES))
            out.append((f"!{s.deaths} instances die", s._replace(alive=tuple(a and not d for a, d in zip(s.alive, dead)), deaths=0)))
        for r in (0, 1):
            if s.links[r] and s.cuts and not any(s.beaten):
                links = put(s.links, r, False)
                out.append((f"!replica {r} is cut off", s._replace(links=links, cuts=s.cuts - 1, cut=s.cut or not any(links))))
            if not s.links[r]:
                out.append((f"!replica {r} is reached again", s._replace(links=put(s.links, r, True))))
            for i in range(INSTANCES):
                if s.links[r] and s.alive[i] and s.kept[i] and not s.beaten[i]:
                    heard = tuple(put(counts, i, 0) for counts in s.heard)
                    out.append((f"!replica {r} takes a heartbeat of {i}", s._replace(
                        beaten=put(s.beaten, i, True), silent=put(s.silent, i, 0), heard=heard, hears=put(s.hears, r, True))))
                is_spared = self.protects_now(s) or (self.grace and s.spared)
                if s.kept[i] and s.silent[i] >= 2 and (not is_spared or self.is_given_up(s, r, i)):
                    bad = f"the live instance {i} was evicted by replica {r}" if s.alive[i] else None
                    out.append((f"replica {r} evicts {i}", s._replace(kept=put(s.kept, i, False), bad=bad)))
        # A lease ends when each live instance was heard in it; or could not be, for nobody was to be reached.
        if s.ticks and all(s.beaten[i] or not s.alive[i] or not s.kept[i] or s.cut or not any(s.links) for i in range(INSTANCES)):
            silent = tuple(0 if s.beaten[i] else min(BOUND + 1, s.silent[i] + 1) for i in range(INSTANCES))
            counts = tuple(
                tuple(0 if s.beaten[i] else min(BOUND, s.heard[r][i] + (s.hears[r] or self.own)) for i in range(INSTANCES)) for r in (0, 1))
            died, whole = not all(s.alive), not s.cut and any(s.links)
            after = s._replace(
                silent=silent, heard=counts, hears=(False, False), beaten=(False,) * INSTANCES, cut=not any(s.links),
                ticks=s.ticks - 1, gone=s.gone + (died and whole))
            spared = 2 if self.protects_now(after) else max(0, s.spared - 1)
            out.append(("!a lease passes", after._replace(spared=spared)))
        return out

    def always(self, s):
        return s.bad

    def settled(self, s):
        # Heartbeats may be shared out so that each replica hears somebody in every other lease only.
        if s.gone > 2 * BOUND and any(k and not a for k, a in zip(s.kept, s.alive)):
            return "a dead instance stays registered for ever"


def rules(**change):
    return lambda: Eviction(**{**RULES, **change})


RUNS = {
    "design": ("violation", "the text as it was: protection without an end", rules(bounded=False, cuts=0, ticks=10)),
    "ablate-protection": ("violation", "no protection at all: replicas that are cut off evict everybody", rules(protects=False)),
    "ablate-own": ("violation", "a replica's own registration counts as somebody it hears", rules(own=True)),
    "ablate-while": ("violation", "the bound is counted by the row, and asks only whether somebody is heard now", rules(by="now")),
    "seeded": ("violation", "SEEDED BUG: the bound is counted by the row alone: a replica that is cut off empties discovery", rules(by="row")),
    "ablate-grace": ("violation", "those who have not returned yet are evicted as soon as most have", rules(grace=False)),
    "bounded": ("pass", "an outage of all replicas, seven leases: no live instance is evicted", rules(deaths=0, ticks=7)),
    "bounded-deaths": ("pass", "the same with two deaths at once, over nine leases", rules()),
    "ends": ("pass", "two deaths at once, no cut, ten leases: the dead go, whoever hears the living", rules(cuts=0, ticks=10)),
}

if __name__ == "__main__":
    sys.exit(main("D. eviction", RUNS, sys.argv[1:]))
