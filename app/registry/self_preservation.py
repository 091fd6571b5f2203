"""Self-preservation: if many instances fall silent at once, the network is the likely cause.

This module decides by counts which services are protected. The time for which an instance is
protected is decided at eviction: see `heartbeat_history` and docs/protocols.md, part D.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.registry.model import ServiceCounts

SHARE = 0.15
AT_LEAST = 5


@dataclass(frozen=True, slots=True)
class Protection:
    """Services whose silent instances are kept, and the number of these instances."""

    services: frozenset[str] = frozenset()
    silent: int = field(default=0, compare=False)

    def covers(self, service: str) -> bool:
        return service in self.services


def protection(counts: Mapping[str, ServiceCounts]) -> Protection:
    """Return the protection by the instances silent for one ttl or evicted in the last minute.

    Instances replaced by new ones do not count as missing. Failed probes do not count, nor does the
    loss of a replica: it silences no instance. Services that lost instances at the same time are
    also evaluated together: a network failure affects many at once.
    """
    protected = {name for name, one in counts.items() if is_too_many(one)}
    expected = sum(map(count_expected, counts.values()))
    for names in _simultaneous(counts):
        if _is_too_many(sum(count_missing(counts[name]) for name in names), expected):
            protected.update(names)
    silent = sum(counts[name].overdue for name in protected)
    return Protection(frozenset(protected), silent)


def is_too_many(counts: ServiceCounts) -> bool:
    return _is_too_many(count_missing(counts), count_expected(counts))


def _is_too_many(missing: int, expected: int) -> bool:
    return missing >= AT_LEAST and missing > SHARE * expected


def count_missing(counts: ServiceCounts) -> int:
    return max(0, counts.overdue + counts.evicted - counts.newcomers)


def count_expected(counts: ServiceCounts) -> int:
    """Return the number of instances before any vanished, plus later ones that replace none."""
    replaced = min(counts.newcomers, counts.overdue + counts.evicted)
    return counts.registered + counts.evicted - replaced


def _simultaneous(counts: Mapping[str, ServiceCounts]) -> Iterator[Sequence[str]]:
    """Group services with missing instances whose times of loss overlap."""
    missing = [name for name, one in counts.items() if count_missing(one)]
    group: list[str] = []
    newest = 0.0
    for name in sorted(missing, key=lambda name: -counts[name].first_seconds):
        one = counts[name]
        if group and one.first_seconds < newest:
            yield group
            group = []
        newest = min(newest, one.last_seconds) if group else one.last_seconds
        group.append(name)
    if group:
        yield group
