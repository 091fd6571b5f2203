"""Counts of evaluations, kept in memory and reported to the service from time to time."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count

from pilothouse.errors import OutcomeUnknown, PilothouseError, Refused
from pilothouse.forks import ForkLock
from pilothouse.timeouts import run_with_timeout
from pilothouse.transport import Transport

PATH = "/api/v1/flag-usage"
REPORT_EVERY = 30.0  # seconds
_MOST_COUNTS = 10_000  # of one report: the service takes no more
_CLOSING = 2.0  # seconds for the last report
Counts = dict[str, dict[str, int]]
_log = logging.getLogger("pilothouse")


@dataclass(slots=True)
class _Counter:
    """`tick` counts one; `reads` are the reader's own ticks, `sent` is what the service knows."""

    tick: Callable[[], int]
    reads: int = 0
    sent: int = 0

    def total(self) -> int:
        total = self.tick() - self.reads
        self.reads += 1
        return total


class UsageCounts:
    """Counts by flag and variant, from any number of threads without a lock.

    The next number of an `itertools.count` is one step of the interpreter: no count is lost, and
    no evaluation waits for another one.
    """

    def __init__(self) -> None:
        self._ticks: dict[str, dict[str, Callable[[], int]]] = {}
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._lock = ForkLock()

    def add(self, flag: str, variant: str) -> None:
        try:
            self._ticks[flag][variant]()
        except KeyError:
            self._begin(flag, variant)()

    def _begin(self, flag: str, variant: str) -> Callable[[], int]:
        with self._lock.lock:
            key = (flag, variant)
            if key not in self._counters:
                self._counters[key] = _Counter(count().__next__)
            tick = self._counters[key].tick
            self._ticks[flag] = {**self._ticks.get(flag, {}), variant: tick}
            return tick

    def unsent(self, without: Collection[str] = ()) -> Iterator[tuple[_Counter, str, str, int]]:
        """Yield (counter, flag, variant, times); those of flags in `without` are never sent."""
        with self._lock.lock:
            counters = list(self._counters.items())
        for (flag, variant), counter in counters:
            total = counter.total()
            if flag in without:
                counter.sent = total
            elif total > counter.sent:
                yield counter, flag, variant, total - counter.sent

    def forget(self) -> None:
        """Treat all counts as sent: a forked process has those that its parent will send."""
        for counter in self._counters.values():
            counter.sent = counter.total()


class UsageReporter:
    """Sends what was counted; `overridden` names flags that are not reported."""

    def __init__(
        self,
        counts: UsageCounts,
        environment: str,
        transport: Callable[[], Transport],
        overridden: Callable[[], Collection[str]] = tuple,
        every: float = REPORT_EVERY,
    ) -> None:
        self._counts = counts
        self._environment = environment
        self._transport = transport
        self._overridden = overridden
        self._every = every
        self._pid = os.getpid()

    async def keep(self) -> None:
        """Report periodically, at most once in `every` seconds."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._counts.forget()
        while True:
            await asyncio.sleep(self._every * random.uniform(1.0, 1.1))  # noqa: S311 - jitter
            await self.report()

    async def finish(self) -> None:
        """Report for the last time, and not for long."""
        try:
            await run_with_timeout(_CLOSING, self.report())
        except TimeoutError:
            _log.debug("the last counts of evaluations are lost")

    async def report(self) -> None:
        """Send what was counted; what could not be sent is kept for the next time."""
        unsent = list(self._counts.unsent(self._overridden()))
        for start in range(0, len(unsent), _MOST_COUNTS):
            part = unsent[start : start + _MOST_COUNTS]
            evaluations: Counts = {}
            for _, flag, variant, times in part:
                evaluations.setdefault(flag, {})[variant] = times
            body = {"environment": self._environment, "evaluations": evaluations}
            try:
                await self._transport().request("POST", PATH, body=body)
            except (OutcomeUnknown, Refused) as error:
                _log.debug("counts of evaluations may be lost: %s", error)
            except PilothouseError as error:
                _log.debug("counts of evaluations are sent later: %s", error)
                return
            for counter, _, _, times in part:
                counter.sent += times
