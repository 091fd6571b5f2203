"""Who is asking: from what a request states to a principal."""

from collections.abc import Iterable, Mapping
from time import time
from typing import NamedTuple, Protocol

from app.access.errors import CredentialsContradict, TokenMissing, TokenRefused
from app.access.known import KnownTokens
from app.access.limits import Rates
from app.access.model import ANYBODY, Principal
from app.access.people import People
from app.access.tickets import Tickets
from app.access.tokens import principal_of

_REMEMBERED = 10_000
_PERSON_SECONDS = 60.0  # so long a signature that was checked is not checked again
_CARRIERS = frozenset({b"authorization", b"x-api-key"})
_SCHEME = "bearer"
_Stated = tuple[bytes | None, bytes | None]


class Gate(Protocol):
    """Tells who asks."""

    def at_once(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        """Return who asks, or None where only `principal` can tell. `headers` come once each."""
        ...

    async def principal(
        self, headers: Iterable[tuple[bytes, bytes]], *, is_counted: bool = False
    ) -> Principal:
        """Return who asks; raises an Unauthenticated, TooManyRequests or an Unavailable.

        A request for which `at_once` has returned somebody `is_counted` already.
        """
        ...

    def is_still_let_in(self, principal: Principal) -> bool:
        """Tell whether who was let in has neither expired nor been revoked since."""
        ...

    def ticket(self, principal: Principal, environment: str) -> str | None:
        """Return what lets the URL of a stream be opened without a header, None if all may."""
        ...

    def holder(self, ticket: str) -> Principal:
        """Return who opens a stream with a ticket; raises TokenRefused."""
        ...


class OpenGate:
    """Lets everybody in, as nobody in particular."""

    def at_once(self, headers: Mapping[bytes, bytes]) -> Principal | None:  # noqa: ARG002
        return ANYBODY

    async def principal(
        self,
        headers: Iterable[tuple[bytes, bytes]],  # noqa: ARG002
        *,
        is_counted: bool = False,  # noqa: ARG002
    ) -> Principal:
        return ANYBODY

    def is_still_let_in(self, principal: Principal) -> bool:  # noqa: ARG002
        return True

    def ticket(self, principal: Principal, environment: str) -> str | None:  # noqa: ARG002
        return None

    def holder(self, ticket: str) -> Principal:  # noqa: ARG002
        return ANYBODY


class _Remembered(NamedTuple):
    principal: Principal
    generation: int  # of the known tokens
    until: float


class GuardedGate:
    """Lets in who shows a token that is known here, or a person's that its issuer has signed."""

    def __init__(
        self,
        known: KnownTokens,
        people: People | None,
        tickets: Tickets,
        rates: Rates,
        protected: tuple[str, ...],
    ) -> None:
        """Guard with what is known; `protected` are the environments of publishers."""
        self._known = known
        self._people = people
        self._tickets = tickets
        self._rates = rates
        self._protected = protected
        # By what was stated: to look that up costs a tenth of hashing it again.
        self._remembered: dict[_Stated, _Remembered] = {}

    def at_once(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        stated = headers.get(b"authorization"), headers.get(b"x-api-key")
        found = self._remembered.get(stated)
        if found is None or found.generation != self._known.generation or found.until <= time():
            return None
        if not self._rates.admits(found.principal):
            return None  # told by `principal`
        self._known.note(found.principal.token_id or "")
        return found.principal

    async def principal(
        self, headers: Iterable[tuple[bytes, bytes]], *, is_counted: bool = False
    ) -> Principal:
        stated = _stated(headers)
        credential = _credential(stated)
        generation = self._known.generation
        principal = await self._found(credential)
        until = principal.expires_at
        if principal.token_id is None:
            until = min(until, time() + _PERSON_SECONDS)
        if _is_bare(stated, credential):
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[stated] = _Remembered(principal, generation, until)
        if not is_counted:
            self._rates.demand(principal)
        return principal

    async def _found(self, credential: str) -> Principal:
        token = self._known.find(credential)
        if token is not None:
            return principal_of(token, self._protected)
        if self._people is None:
            raise TokenRefused
        return await self._people.principal(credential)

    def is_still_let_in(self, principal: Principal) -> bool:
        token_id = principal.token_id
        is_live = token_id is None or self._known.is_live(token_id)
        return is_live and time() < principal.expires_at

    def ticket(self, principal: Principal, environment: str) -> str | None:
        return self._tickets.issued(principal, environment)

    def holder(self, ticket: str) -> Principal:
        principal = self._tickets.holder(ticket)
        if not self.is_still_let_in(principal):
            raise TokenRefused
        self._rates.demand(principal)
        return principal


def _stated(headers: Iterable[tuple[bytes, bytes]]) -> _Stated:
    """Return the two headers that may carry a token; raises CredentialsContradict."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _CARRIERS and found.setdefault(name, value) != value:
            raise CredentialsContradict
    return found.get(b"authorization"), found.get(b"x-api-key")


def _credential(stated: _Stated) -> str:
    """Return the token that is stated; raises TokenMissing or CredentialsContradict."""
    authorization, key = (None if text is None else text.decode("latin-1") for text in stated)
    credentials = set() if key is None else {key.strip()}
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != _SCHEME:
            raise TokenMissing
        credentials.add(token.strip())
    if not credentials:
        raise TokenMissing
    if len(credentials) > 1:
        raise CredentialsContradict
    return credentials.pop()


def _is_bare(stated: _Stated, credential: str) -> bool:
    """Tell whether nothing but the token was stated, and could be remembered as it stands.

    One token with blanks around it can be written in any number of ways, each of 64 KiB.
    """
    authorization, key = stated
    bare = len(credential)
    return (authorization is None or len(authorization) == len(_SCHEME) + 1 + bare) and (
        key is None or len(key) == bare
    )
