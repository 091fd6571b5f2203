"""A full collection goes through what is new, and now and then through everything."""

import gc
from collections.abc import Iterator

import pytest

from app.garbage_collection import EXEMPTIONS, SLOW_SECONDS, CollectionLimiter

SLOW, SHORT = 2 * SLOW_SECONDS, SLOW_SECONDS / 2


class Clock:
    """Shows what it was set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Iterator[CollectionLimiter]:
    enabled = gc.isenabled()
    gc.disable()  # the only collections are those of the test
    limiter = CollectionLimiter(clock)
    limiter.start()
    yield limiter
    limiter.stop()
    if enabled:
        gc.enable()


def pass_collection(limiter: CollectionLimiter, clock: Clock, seconds: float, of: int = 2) -> None:
    limiter.observe("start", {"generation": of})
    clock.now += seconds
    limiter.observe("stop", {"generation": of})


def test_what_the_process_holds_at_start_is_exempted(limiter: CollectionLimiter) -> None:
    assert gc.get_freeze_count() > 10_000
    assert limiter.observe in gc.callbacks


def test_what_survives_a_slow_full_collection_is_exempted(
    limiter: CollectionLimiter, clock: Clock
) -> None:
    before = gc.get_freeze_count()
    held = [[] for _ in range(1000)]  # type: ignore[var-annotated]

    pass_collection(limiter, clock, SLOW)

    assert gc.get_freeze_count() >= before + len(held)


@pytest.mark.parametrize(("seconds", "generation"), [(SHORT, 2), (SLOW, 1)])
def test_what_survives_a_short_one_is_looked_at_again(
    limiter: CollectionLimiter, clock: Clock, seconds: float, generation: int
) -> None:
    before = gc.get_freeze_count()

    pass_collection(limiter, clock, seconds, generation)

    assert gc.get_freeze_count() <= before


def test_cycles_that_were_exempted_are_freed_in_the_end(
    limiter: CollectionLimiter, clock: Clock
) -> None:
    class Node:
        freed = False

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            Node.freed = True

    node = Node()
    pass_collection(limiter, clock, SLOW)
    del node
    gc.collect()
    assert not Node.freed

    for _ in range(EXEMPTIONS):
        pass_collection(limiter, clock, SLOW)
    gc.collect()

    assert Node.freed
