"""Keeps full garbage collections short, however many objects the process holds.

A full collection examines every object that may be part of a cycle, and no request is served in
this time: 85 to 267 ms with 10,000 to 22,000 flags. Objects that survive a slow collection are
therefore exempt from later ones (`gc.freeze`), so that each examines only new objects.

An exempted object is still freed with its last reference, but not if it is part of a cycle, as
closed connections are. So all objects are examined again after a number of exemptions.
"""

import gc
from collections.abc import Callable, Mapping
from time import perf_counter

_FULL = 2  # the generation of a full collection
SLOW_SECONDS = 0.01
EXEMPTIONS = 64  # until exempted objects are collected again


class CollectionLimiter:
    """Exempts objects that survived a slow full collection from the next ones."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._started = 0.0
        self._exemptions = 0

    def start(self) -> None:
        """Exempt all current objects, and from now on those that survive slow collections."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self.observe)

    def stop(self) -> None:
        gc.callbacks.remove(self.observe)
        gc.unfreeze()

    def observe(self, phase: str, facts: Mapping[str, int]) -> None:
        """Observe the start or the stop of a collection; see `gc.callbacks`."""
        if facts["generation"] != _FULL:
            return
        if phase == "start":
            self._started = self._clock()
        elif self._clock() - self._started >= SLOW_SECONDS:
            self._exempt_survivors()

    def _exempt_survivors(self) -> None:
        self._exemptions += 1
        if self._exemptions > EXEMPTIONS:
            self._exemptions = 0
            gc.unfreeze()
        else:
            gc.freeze()
