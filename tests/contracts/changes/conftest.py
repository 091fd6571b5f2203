"""The adapters of a change log, each in its turn."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.contracts.changes.rig import Rig, embedded_rig, postgres


@pytest.fixture(
    params=[
        pytest.param(embedded_rig, id="embedded"),
        pytest.param(postgres, id="postgres", marks=pytest.mark.servers),
    ]
)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await request.param(request, stack)
