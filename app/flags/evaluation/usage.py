"""Counts of evaluations by flag and variant, kept in memory and flushed periodically."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice

from app.flags.cache import EnvironmentFlags
from app.flags.evaluation.evaluator import EvaluationCount, FlagEvaluator
from app.flags.model import FlagUsage
from app.flags.store.port import FlagStore
from app.telemetry import EVALUATIONS, VARIANT_EVALUATIONS

FLUSH_SECONDS = 2.0
_AT_ONCE = 500  # ways in which flags came out: some milliseconds
REFRESH_ROUNDS = 5  # of flushes, until the counts of other replicas are read
NO_VARIANT = "_none"  # the caller's own default, or an error
_SERIES_AT_MOST = 1000  # flags with variants in /metrics; all others are counted as one
_OTHERS = ("_other", "_other", "_other")


class UsageCounter:
    def __init__(self, store: FlagStore, evaluator: FlagEvaluator) -> None:
        self._store = store
        self._evaluator = evaluator
        self._pending: dict[tuple[str, str], dict[str, int]] = {}
        self._known: dict[str, Mapping[str, FlagUsage]] = {}
        self._own: dict[tuple[str, str], datetime] = {}
        self._series: set[tuple[str, str, str]] = set()

    def add(self, environment: str, flags: Iterable[tuple[str, str | None, int]]) -> None:
        """Count evaluations of flags that exist: their names, variants and how many."""
        now = datetime.now(UTC)
        # Thousands of flags are counted at once, and a series costs as much as ten flags do.
        metrics: Counter[tuple[str, str, str]] = Counter()
        for flag, variant, times in flags:
            name = NO_VARIANT if variant is None else variant
            counts = self._pending.setdefault((environment, flag), {})
            counts[name] = counts.get(name, 0) + times
            self._own[environment, flag] = now
            series = (environment, flag, name)
            if series not in self._series and len(self._series) < _SERIES_AT_MOST:
                self._series.add(series)
            metrics[series if series in self._series else _OTHERS] += times
        for labels, times in metrics.items():
            VARIANT_EVALUATIONS.labels(*labels).inc(times)

    def add_reported(
        self, flags: EnvironmentFlags, counts: Mapping[str, Mapping[str, int]]
    ) -> None:
        """Add a client's own evaluations; flags and variants that do not exist are ignored."""
        evaluated = [
            (name, variant, times)
            for name, variants in counts.items()
            if (flag := flags.flag(name)) is not None
            for variant, times in variants.items()
            if variant in flag.variants and times > 0
        ]
        self.add(flags.name, evaluated)

    def collect(self) -> None:
        """Add the evaluator's counts to the pending ones and to the metrics."""
        self._add_counts(self._evaluator.pop_counts())

    async def _collect_in_slices(self) -> None:
        drained = self._evaluator.pop_counts()
        while counts := list(islice(drained, _AT_ONCE)):
            self._add_counts(counts)
            await asyncio.sleep(0)

    def _add_counts(self, counts: Iterable[EvaluationCount]) -> None:
        reasons: Counter[tuple[str, str]] = Counter()
        flags: defaultdict[str, list[tuple[str, str | None, int]]] = defaultdict(list)
        for counted in counts:
            reasons[counted.environment, counted.reason] += counted.times
            flags[counted.environment].append((counted.flag, counted.variant, counted.times))
        for labels, times in reasons.items():
            EVALUATIONS.labels(*labels).inc(times)
        for environment, evaluated in flags.items():
            self.add(environment, evaluated)

    def last_evaluated_at(self, environment: str, flag: str) -> datetime | None:
        """Return when a flag was last evaluated, by this replica or by others as far as is known.

        As far as `collect` has taken it over: that looks at every flag there is.
        """
        known = self._known.get(environment, {}).get(flag)
        moments = [known.last_evaluated_at] if known is not None else []
        own = self._own.get((environment, flag))
        return max([*moments, own] if own is not None else moments, default=None)

    async def usage(self, environment: str) -> Mapping[str, FlagUsage]:
        """Return the counts of all replicas; raises FlagsUnavailable."""
        await self.flush()
        counts = self._known[environment] = await self._store.usage(environment)
        return counts

    async def flush(self) -> None:
        """Hand the counts to the store; raises FlagsUnavailable and keeps them then."""
        await self._collect_in_slices()
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        try:
            await self._store.count(pending, datetime.now(UTC))
        except BaseException:
            for (environment, flag), variants in pending.items():
                kept = self._pending.setdefault((environment, flag), {})
                for variant, times in variants.items():
                    kept[variant] = kept.get(variant, 0) + times
            raise

    async def flush_periodically(self) -> None:
        """Flush periodically, and read the counts of other replicas."""
        rounds = 0
        while True:
            if rounds % REFRESH_ROUNDS == 0:
                for environment in list(self._evaluator.sets.environments):
                    self._known[environment] = await self._store.usage(environment)
            rounds += 1
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
