"""The port: finds out who sends a request.

Implementations: `OpenAccess` here, and `TokenAuthenticator` in `tokens/authenticator.py`.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from app.access.model import ANYBODY, Principal


class Authenticator(Protocol):
    """Finds the principal of a request."""

    def authenticate_from_cache(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Return the principal if it is cached, else None. `headers` have each name once."""
        ...

    async def authenticate(
        self, headers: Iterable[tuple[bytes, bytes]], *, is_counted: bool = False
    ) -> Principal:
        """Return the principal; raises an Unauthenticated, TooManyRequests or an Unavailable.

        A request that `authenticate_from_cache` has counted already `is_counted`.
        """
        ...

    def is_still_valid(self, principal: Principal) -> bool:
        """Tell whether a principal has neither expired nor been revoked since."""
        ...

    def issue_ticket(self, principal: Principal, environment: str) -> str | None:
        """Return a ticket that opens a stream by its URL alone, None where access is open."""
        ...

    def authenticate_ticket(self, ticket: str) -> Principal:
        """Return the principal of a ticket; raises TokenRefused."""
        ...


class OpenAccess:
    """Accepts every request, anonymously."""

    def authenticate_from_cache(self, headers: Mapping[bytes, bytes]) -> Principal | None:  # noqa: ARG002
        return ANYBODY

    async def authenticate(
        self,
        headers: Iterable[tuple[bytes, bytes]],  # noqa: ARG002
        *,
        is_counted: bool = False,  # noqa: ARG002
    ) -> Principal:
        return ANYBODY

    def is_still_valid(self, principal: Principal) -> bool:  # noqa: ARG002
        return True

    def issue_ticket(self, principal: Principal, environment: str) -> str | None:  # noqa: ARG002
        return None

    def authenticate_ticket(self, ticket: str) -> Principal:  # noqa: ARG002
        return ANYBODY
