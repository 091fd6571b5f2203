"""How often flags are evaluated, and when last: counted in memory, handed on from time to time."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from app.flags.evaluating import Evaluator
from app.flags.model import Usage
from app.flags.port import FlagStore
from app.telemetry import EVALUATIONS, VARIANT_EVALUATIONS

FLUSH_SECONDS = 2.0
REFRESH_ROUNDS = 5  # of flushes, until the counts of other replicas are read
NO_VARIANT = "_none"  # the caller's own default, or an error
_SERIES_AT_MOST = 1000  # flags with variants in /metrics; all others are counted as one
_OTHERS = ("_other", "_other", "_other")


class UsageCounter:
    def __init__(self, store: FlagStore, evaluator: Evaluator) -> None:
        self._store = store
        self._evaluator = evaluator
        self._pending: dict[tuple[str, str], dict[str, int]] = {}
        self._known: dict[str, Mapping[str, Usage]] = {}
        self._own: dict[tuple[str, str], datetime] = {}
        self._series: set[tuple[str, str, str]] = set()

    def add(self, environment: str, flag: str, variant: str | None, times: int) -> None:
        """Count evaluations of a flag that exists."""
        name = NO_VARIANT if variant is None else variant
        counts = self._pending.setdefault((environment, flag), {})
        counts[name] = counts.get(name, 0) + times
        self._own[environment, flag] = datetime.now(UTC)
        series = (environment, flag, name)
        if series not in self._series and len(self._series) < _SERIES_AT_MOST:
            self._series.add(series)
        VARIANT_EVALUATIONS.labels(*(series if series in self._series else _OTHERS)).inc(times)

    def collect(self) -> None:
        """Take over what the evaluator has counted; metrics show it from now on."""
        for counted in self._evaluator.drained():
            EVALUATIONS.labels(counted.environment, counted.reason).inc(counted.times)
            self.add(counted.environment, counted.flag, counted.variant, counted.times)

    def last_evaluated_at(self, environment: str, flag: str) -> datetime | None:
        """Return when a flag was last evaluated, by this replica or as far as others have told."""
        self.collect()
        known = self._known.get(environment, {}).get(flag)
        moments = [known.last_evaluated_at] if known is not None else []
        own = self._own.get((environment, flag))
        return max([*moments, own] if own is not None else moments, default=None)

    async def usage(self, environment: str) -> Mapping[str, Usage]:
        """Return the counts of all replicas; raises FlagsUnavailable."""
        await self.flush()
        found = self._known[environment] = await self._store.usage(environment)
        return found

    async def flush(self) -> None:
        """Hand the counts to the store; raises FlagsUnavailable and keeps them then."""
        self.collect()
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

    async def keep(self) -> None:
        """Flush for ever, and read what others have counted."""
        rounds = 0
        while True:
            if rounds % REFRESH_ROUNDS == 0:
                for environment in list(self._evaluator.sets.environments):
                    self._known[environment] = await self._store.usage(environment)
            rounds += 1
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
