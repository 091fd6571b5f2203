"""People: who an OpenID Connect issuer says they are, and which roles that gives them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key

from app.access.errors import TokenRefused
from app.access.model import RIGHTS_OF_ROLE, Grant, Principal, Role

# No `none`, and nothing symmetric: a public key must never be taken for a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519")
LEEWAY_SECONDS = 30
_LONGEST = 8192
# Numbers beyond any float and brackets without end among them.
_UNREADABLE = (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
_LONGEST_NAME = 120


class KeySource(Protocol):
    """Where the issuer's public keys come from."""

    async def keys(self, key_id: object) -> Sequence[Key]:
        """Return the keys that may have signed: the one of this id, or each if none is stated.

        Raises IssuerUnavailable if the issuer was never reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """A value of the claim that tells roles, and the role that it gives."""

    value: str
    role: Role
    environments: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)

    @property
    def grant(self) -> Grant:
        return Grant(RIGHTS_OF_ROLE[self.role], self.environments, self.services)


@dataclass(frozen=True, slots=True)
class People:
    """Reads JSON Web Tokens of one issuer, meant for one audience."""

    keys: KeySource
    issuer: str
    audience: str
    name_claim: str
    roles_claim: str
    roles: Sequence[RoleMapping]
    protected: tuple[str, ...] = ()

    async def principal(self, text: str) -> Principal:
        """Return who the token is about; raises TokenRefused or IssuerUnavailable."""
        if len(text) > _LONGEST:
            raise TokenRefused
        try:
            header = jws.extract_compact(text.encode("ascii")).headers()
            for key in await self.keys.keys(header.get("kid")):
                with suppress(JoseError):
                    return self._principal(jwt.decode(text, key, algorithms=ALGORITHMS).claims)
        except _UNREADABLE as error:
            raise TokenRefused from error
        raise TokenRefused

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        expires = self._checked(claims)
        name = claims.get(self.name_claim)
        if type(name) is not str or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise TokenRefused
        values = _values(claims, self.roles_claim)
        grants = tuple(mapping.grant for mapping in self.roles if mapping.value in values)
        return Principal(f"user:{name}", grants, self.protected, expires_at=expires)

    def _checked(self, claims: Mapping[str, Any]) -> float:
        """Check what every token must say, and return when it expires; raises TokenRefused."""
        now = time()
        expires: Any
        audience = claims.get("aud")
        audiences = audience if type(audience) is list else [audience]
        expires, not_before, issued = (claims.get(name) for name in ("exp", "nbf", "iat"))
        if type(expires) not in _NUMBERS:
            raise TokenRefused
        if (
            claims.get("iss") != self.issuer
            or self.audience not in audiences
            or not now < float(expires) + LEEWAY_SECONDS
            or not _is_past(not_before, now)
            or not _is_past(issued, now)
        ):
            raise TokenRefused
        return float(expires) + LEEWAY_SECONDS


_NUMBERS = (int, float)


def _is_past(moment: Any, now: float) -> bool:
    return moment is None or (type(moment) in _NUMBERS and moment <= now + LEEWAY_SECONDS)


def _values(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the texts at a dotted path into the claims, be it one or a list of them."""
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    several = found if isinstance(found, list) else [found]
    return frozenset(value for value in several if isinstance(value, str))
