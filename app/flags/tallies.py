"""Evaluations as adapters keep them: one row for each environment, flag and variant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from app.flags.model import Usage


class Tally(NamedTuple):
    environment: str
    flag: str
    variant: str
    times: int


def tallies(used: Mapping[tuple[str, str], Mapping[str, int]]) -> list[Tally]:
    """Return a row for each variant, ordered, so that writers of the same rows take turns."""
    return sorted(
        Tally(environment, flag, variant, times)
        for (environment, flag), by_variant in used.items()
        for variant, times in by_variant.items()
    )


def usages(rows: Iterable[tuple[Tally, datetime]]) -> dict[str, Usage]:
    """Put the rows of one environment together, by flag."""
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    last: dict[str, datetime] = {}
    for tally, at in rows:
        counts[tally.flag][tally.variant] = tally.times
        last[tally.flag] = max(at, last.get(tally.flag, at))
    return {flag: Usage(counts[flag], at) for flag, at in last.items()}
