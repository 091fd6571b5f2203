"""Rows of evaluation counts: one for each environment, flag and variant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from app.flags.model import FlagUsage


class UsageRow(NamedTuple):
    environment: str
    flag: str
    variant: str
    times: int


def usage_rows(used: Mapping[tuple[str, str], Mapping[str, int]]) -> list[UsageRow]:
    """Return a row for each variant, ordered, so that writers of the same rows take turns."""
    return sorted(
        UsageRow(environment, flag, variant, times)
        for (environment, flag), by_variant in used.items()
        for variant, times in by_variant.items()
    )


def usage_by_flag(rows: Iterable[tuple[UsageRow, datetime]]) -> dict[str, FlagUsage]:
    """Put the rows of one environment together, by flag."""
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    last: dict[str, datetime] = {}
    for tally, at in rows:
        counts[tally.flag][tally.variant] = tally.times
        last[tally.flag] = max(at, last.get(tally.flag, at))
    return {flag: FlagUsage(counts[flag], at) for flag, at in last.items()}
