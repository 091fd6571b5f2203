"""Self-preservation: when many fall silent at once, the network is likelier to blame than they."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from app.registry.rows import Counts

SHARE = 0.15
AT_LEAST = 5


@dataclass(frozen=True, slots=True)
class Protection:
    """Where nobody is evicted now: in some services, or everywhere."""

    services: frozenset[str] = frozenset()
    everywhere: bool = False

    def covers(self, service: str) -> bool:
        return self.everywhere or service in self.services


def protection(counts: Mapping[str, Counts]) -> Protection:
    """Decide by the instances that were silent for one ttl, or evicted within the last minute.

    Probes that fail do not count, nor does the death of a replica: it silences no instance.
    """
    return Protection(
        frozenset(name for name, found in counts.items() if is_too_many(found)),
        is_too_many(reduce(_sum, counts.values(), Counts(0, 0, 0))),
    )


def is_too_many(counts: Counts) -> bool:
    vanished = counts.overdue + counts.evicted
    return vanished >= AT_LEAST and vanished > SHARE * (counts.registered + counts.evicted)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.registered + other.registered,
        one.overdue + other.overdue,
        one.evicted + other.evicted,
    )
