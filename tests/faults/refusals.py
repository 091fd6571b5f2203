"""How long calls take that a server does not answer."""

from collections.abc import Awaitable
from time import monotonic

import pytest


async def seconds_until_raised(error: type[Exception], call: Awaitable[object]) -> float:
    began = monotonic()
    with pytest.raises(error):
        await call
    return monotonic() - began
