"""How much is tried at random: `make check` tries a fifth of what `make test` does, `make faults`
five times as much.

The first two draw the same examples in every run, so that they fail for what was changed and not
by luck; `make faults` draws others each time.
"""

import os

from hypothesis import HealthCheck, settings

IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"
IS_QUICK = os.environ.get("PILOTHOUSE_TRIALS") == "few"


def trials(count: int) -> int:
    """Return how many examples to draw where `count` do for `make test`."""
    if IS_WHOLE:
        return 5 * count
    return max(1, count // 5) if IS_QUICK else count


def load_profile() -> None:
    """How long examples take says how busy the machine is, and nothing about what is tried."""
    settings.register_profile(
        "pilothouse",
        max_examples=trials(100),
        deadline=None,
        derandomize=not IS_WHOLE,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("pilothouse")
