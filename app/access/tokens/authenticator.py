"""Authenticates callers by their tokens: of machines, or of people if there is an issuer."""

from collections.abc import Iterable, Mapping
from time import time
from typing import NamedTuple

from app.access.errors import CredentialsContradict, TokenMissing, TokenRefused
from app.access.limits import RateLimiter
from app.access.model import Principal
from app.access.oidc.authenticator import OidcAuthenticator
from app.access.tickets import StreamTickets
from app.access.tokens.cache import TokenCache
from app.access.tokens.model import principal_of

_MOST_CACHED = 10_000
_PERSON_SECONDS = 60.0  # before the signature of a person's token is checked again
_CARRIERS = frozenset({b"authorization", b"x-api-key"})
_SCHEME = "bearer"
_StatedHeaders = tuple[bytes | None, bytes | None]


class _CachedPrincipal(NamedTuple):
    principal: Principal
    generation: int  # of the token cache
    until: float


class TokenAuthenticator:
    """Accepts tokens of the store, and people's tokens that the issuer has signed."""

    def __init__(
        self,
        cache: TokenCache,
        people: OidcAuthenticator | None,
        tickets: StreamTickets,
        rates: RateLimiter,
        protected: tuple[str, ...],
    ) -> None:
        """Use these tokens; `protected` are the environments that only publishers change."""
        self._cache = cache
        self._people = people
        self._tickets = tickets
        self._rates = rates
        self._protected = protected
        # By the stated headers: a lookup costs a tenth of hashing the token again.
        self._remembered: dict[_StatedHeaders, _CachedPrincipal] = {}

    def authenticate_from_cache(self, headers: Mapping[bytes, bytes]) -> Principal | None:
        stated = headers.get(b"authorization"), headers.get(b"x-api-key")
        entry = self._remembered.get(stated)
        if entry is None or entry.generation != self._cache.generation or entry.until <= time():
            return None
        if not self._rates.try_acquire(entry.principal):
            return None  # `authenticate` raises it
        self._cache.record_use(entry.principal.token_id or "")
        return entry.principal

    async def authenticate(
        self, headers: Iterable[tuple[bytes, bytes]], *, is_counted: bool = False
    ) -> Principal:
        stated = _stated_headers(headers)
        credential = _stated_token(stated)
        generation = self._cache.generation
        principal = await self._principal_of(credential)
        until = principal.expires_at
        if principal.token_id is None:
            until = min(until, time() + _PERSON_SECONDS)
        if _is_cacheable(stated, credential):
            if len(self._remembered) >= _MOST_CACHED:
                self._remembered.clear()
            self._remembered[stated] = _CachedPrincipal(principal, generation, until)
        if not is_counted:
            self._rates.demand(principal)
        return principal

    async def _principal_of(self, credential: str) -> Principal:
        token = self._cache.authenticate(credential)
        if token is not None:
            return principal_of(token, self._protected)
        if self._people is None:
            raise TokenRefused
        return await self._people.authenticate(credential)

    def is_still_valid(self, principal: Principal) -> bool:
        token_id = principal.token_id
        is_live = token_id is None or self._cache.is_live(token_id)
        return is_live and time() < principal.expires_at

    def issue_ticket(self, principal: Principal, environment: str) -> str | None:
        return self._tickets.issue(principal, environment)

    def authenticate_ticket(self, ticket: str) -> Principal:
        principal = self._tickets.verify(ticket)
        if not self.is_still_valid(principal):
            raise TokenRefused
        self._rates.demand(principal)
        return principal


def _stated_headers(headers: Iterable[tuple[bytes, bytes]]) -> _StatedHeaders:
    """Return the two headers that may carry a token; raises CredentialsContradict."""
    carriers: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _CARRIERS and carriers.setdefault(name, value) != value:
            raise CredentialsContradict
    return carriers.get(b"authorization"), carriers.get(b"x-api-key")


def _stated_token(stated: _StatedHeaders) -> str:
    """Return the stated token; raises TokenMissing or CredentialsContradict."""
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


def _is_cacheable(stated: _StatedHeaders, credential: str) -> bool:
    """Tell whether the headers hold nothing but the token, so that they can be cached.

    A token with blanks around it has any number of spellings, of up to 64 KiB each.
    """
    authorization, key = stated
    bare = len(credential)
    return (authorization is None or len(authorization) == len(_SCHEME) + 1 + bare) and (
        key is None or len(key) == bare
    )
