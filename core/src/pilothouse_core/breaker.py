"""A circuit breaker: after consecutive failures, calls are skipped except for trials."""

from collections.abc import Callable
from time import monotonic


class Breaker:
    """Open after `failures` in a row; then one call in each `pause` (seconds) is let through."""

    def __init__(
        self, *, failures: int = 3, pause: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """`clock` returns seconds. Raises ValueError for bounds without a meaning."""
        if failures < 1 or pause < 0:
            raise ValueError(
                "a breaker needs at least one failure, and a pause that is not negative"
            )
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

    def try_call(self) -> bool:
        """Tell whether to make a call now; while open that is one caller in each pause."""
        if not self.is_due:
            return False
        self.record_trial()
        return True

    def record_trial(self) -> None:
        """Begin a new pause: a call is made in any case, and spares the next caller the trial."""
        # Noted now and not when it ends: a trial that is given up must not block the next one.
        self._tried = self._clock()

    def record_success(self) -> None:
        self._failures = 0

    def record_failure(self, began: float) -> None:
        """Count a failure of a call that began then; those under way together count as one.

        Otherwise many concurrent callers, or a pause of this process, would look like repeated
        failures of the server.
        """
        if began < self._failed:
            return
        self._failed = self._clock()
        self._failures += 1
        if self._failures == self._limit:
            self._tried = self._failed
