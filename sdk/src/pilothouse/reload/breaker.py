"""A circuit breaker: after some failures in a row a server is left alone for a while."""

from collections.abc import Callable
from time import monotonic


class Breaker:
    """Open after `failures` in a row; then one call in each `pause` (seconds) is let through."""

    def __init__(
        self, *, failures: int = 3, pause: float = 30.0, clock: Callable[[], float] = monotonic
    ) -> None:
        if failures < 1 or pause < 0:
            raise ValueError(
                "a breaker needs at least one failure, and a pause that is not negative"
            )
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._tried = float("-inf")

    @property
    def is_open(self) -> bool:
        return self._failures >= self._limit

    def lets_through(self) -> bool:
        """Tell whether to ask now. While open, asking is noted: a trial that is given up counts."""
        if not self.is_open:
            return True
        now = self._clock()
        if now - self._tried < self._pause:
            return False
        self._tried = now
        return True

    def record_success(self) -> None:
        self._failures = 0

    def record_failure(self) -> None:
        self._failures += 1
        self._tried = self._clock()
