"""How much is tried at random: `make faults` tries five times what `make test` does."""

import os

IS_WHOLE = os.environ.get("PILOTHOUSE_FAULTS") == "whole"


def trials(count: int) -> int:
    """Return how many examples to draw where `count` do for `make test`."""
    return 5 * count if IS_WHOLE else count
