"""A breaker: after some failures in a row nobody waits for a server again until it is tried."""

from collections.abc import Callable
from time import monotonic

_FAILURES = 3
_PAUSE_SECONDS = 1.0


class Breaker:
    def __init__(
        self,
        *,
        failures: int = _FAILURES,
        pause: float = _PAUSE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._failed = self._tried = float("-inf")

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    @property
    def is_due(self) -> bool:
        """Whether the next call would be let through."""
        return not self.is_open or self._clock() - self._tried >= self._pause

    def lets_through(self) -> bool:
        """Tell whether to ask now; while open that is one caller in each pause."""
        if not self.is_due:
            return False
        self.note_trial()
        return True

    def note_trial(self) -> None:
        """Take note that somebody asks in any case, and spare the next caller the trial."""
        # Noted now and not when it ends: a trial that is given up must not block the next one.
        self._tried = self._clock()

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, began: float) -> None:
        """Count a failure of a call that began then; those under way together count as one.

        A crowd of callers, or a moment in which this process did not get to run, would else look
        like a server that fails again and again.
        """
        if began < self._failed:
            return
        self._failed = self._clock()
        self._failures += 1
        if self._failures == self._limit:
            self._tried = self._failed
