"""A client for the small `app` that each test file here builds for itself."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send


@pytest.fixture
def state() -> dict[str, object]:
    """What a lifespan would have opened."""
    return {}


@pytest.fixture
async def client(app: ASGIApp, state: dict[str, object]) -> AsyncIterator[httpx.AsyncClient]:
    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
