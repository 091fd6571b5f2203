"""How a route reaches what the lifespan opened."""

from typing import Any

from fastapi import Depends, Request


def from_state(name: str) -> Any:
    """Depend on one value that `app.main` put in the lifespan state."""

    # Async although nothing is awaited: FastAPI sends a plain function through a thread.
    async def read(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(read)
