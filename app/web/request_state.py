"""Access of routes to the lifespan state, and the caller in the state of a request."""

from typing import Any, Protocol

from fastapi import Depends, Request
from starlette.types import Scope

CALLER = "caller"  # state key of the authenticated caller


class AuthenticatedCaller(Protocol):
    @property
    def is_known(self) -> bool: ...


def from_state(name: str) -> Any:
    """Return a dependency on one value of the lifespan state."""

    # Async although nothing is awaited: FastAPI runs a plain function in a thread.
    async def read(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(read)


def is_of_known_caller(scope: Scope) -> bool:
    """Whether a request has an authenticated caller."""
    caller: AuthenticatedCaller | None = scope.get("state", {}).get(CALLER)
    return caller is not None and caller.is_known
