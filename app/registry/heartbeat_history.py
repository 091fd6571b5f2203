"""Times during which this replica has received heartbeats.

Instances that seem silent to a replica without any heartbeats are most likely alive.
"""

from collections import deque
from collections.abc import Callable
from math import inf

_STEADY_SECONDS = 1.0  # heartbeats closer together form one stretch
_STRETCHES_KEPT = 1000  # the latest ones


class HeartbeatHistory:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # From the first to the last heartbeat of a stretch.
        self._stretches: deque[tuple[float, float]] = deque(maxlen=_STRETCHES_KEPT)

    def record(self) -> None:
        """Record that a heartbeat of an instance has just arrived."""
        now = self._clock()
        if self._stretches and now - self._stretches[-1][1] <= _STEADY_SECONDS:
            first, _ = self._stretches.pop()
            self._stretches.append((first, now))
        else:
            self._stretches.append((now, now))

    def seconds_back(self, heard_for: float, lease: float) -> float:
        """Return how many seconds ago a period began that has `heard_for` seconds with heartbeats.

        A pause between heartbeats counts up to one lease. `inf` if there were too few heartbeats.
        """
        now = later = self._clock()
        counted = 0.0
        for first, last in reversed(self._stretches):
            counted += min(later - last, lease)
            if counted >= heard_for:
                return now - last
            if counted + last - first >= heard_for:
                return now - last + heard_for - counted
            counted += last - first
            later = first
        return inf
