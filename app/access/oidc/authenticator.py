"""Authenticates people by access tokens of an OpenID Connect issuer."""

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
# Media types of access tokens in a header (RFC 9068), and those that name no kind.
_HEADER_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
# Some issuers state the kind as a claim: Keycloak as `typ` (ID, Refresh, Logout), Cognito as
# `token_use`.
_ACCESS_TOKEN_TYPES = frozenset({"bearer", "jwt", "at+jwt", "at", "access", "access_token"})
_TYPE_CLAIMS = ("typ", "token_use")
# Claims of other kinds: logout and security event tokens, and what an ID token hashes.
_OTHER_TOKEN_CLAIMS = ("events", "at_hash", "c_hash")
_LONGEST = 8192
# Numbers beyond any float and brackets without end among them.
_DECODING_ERRORS = (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError)
_LONGEST_NAME = 120


class KeySource(Protocol):
    """The issuer's public keys."""

    async def keys(self, key_id: object) -> Sequence[Key]:
        """Return the keys that may have signed: the one of this id, or each if none is stated.

        Raises IssuerUnavailable if the issuer was never reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """A value of the roles claim, and the role that it grants."""

    value: str
    role: Role
    environments: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)

    @property
    def grant(self) -> Grant:
        return Grant(RIGHTS_OF_ROLE[self.role], self.environments, self.services)


@dataclass(frozen=True, slots=True)
class OidcAuthenticator:
    """Reads the access tokens of one issuer, meant for one audience.

    `clients` are those that may have requested the token; empty: any client.
    """

    keys: KeySource
    issuer: str
    audience: str
    name_claim: str
    roles_claim: str
    roles: Sequence[RoleMapping]
    protected: tuple[str, ...] = ()
    clients: frozenset[str] = frozenset()

    async def authenticate(self, text: str) -> Principal:
        """Return the principal of the token; raises TokenRefused or IssuerUnavailable."""
        if len(text) > _LONGEST:
            raise TokenRefused
        try:
            header = jws.extract_compact(text.encode("ascii")).headers()
            if not _is_allowed_type(header.get("typ"), _HEADER_TYPES):
                raise TokenRefused
            for key in await self.keys.keys(header.get("kid")):
                with suppress(JoseError):
                    return self._principal(jwt.decode(text, key, algorithms=ALGORITHMS).claims)
        except _DECODING_ERRORS as error:
            raise TokenRefused from error
        raise TokenRefused

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        expires = self._check_claims(claims)
        self._check_kind(claims)
        name = claims.get(self.name_claim)
        if type(name) is not str or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise TokenRefused
        values = _claim_values(claims, self.roles_claim)
        grants = tuple(mapping.grant for mapping in self.roles if mapping.value in values)
        subject = claims.get("sub")
        return Principal(
            f"user:{name}",
            grants,
            self.protected,
            expires_at=expires,
            issuer=self.issuer,
            subject=subject if type(subject) is str and subject else None,
        )

    def _check_claims(self, claims: Mapping[str, Any]) -> float:
        """Check the claims of every token, and return when it expires; raises TokenRefused."""
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
            or not _is_not_in_future(not_before, now)
            or not _is_not_in_future(issued, now)
        ):
            raise TokenRefused
        return float(expires) + LEEWAY_SECONDS

    def _check_kind(self, claims: Mapping[str, Any]) -> None:
        """Raise TokenRefused unless this is an access token, requested by one of the clients.

        An issuer signs ID and logout tokens with the same keys, often for the same audience.
        """
        if any(name in claims for name in _OTHER_TOKEN_CLAIMS):
            raise TokenRefused
        if not all(
            _is_allowed_type(claims.get(name), _ACCESS_TOKEN_TYPES) for name in _TYPE_CLAIMS
        ):
            raise TokenRefused
        if self.clients:
            # RFC 9068 calls `client_id` what OpenID Connect calls `azp`.
            client = claims.get("azp", claims.get("client_id"))
            if type(client) is not str or client not in self.clients:
                raise TokenRefused


_NUMBERS = (int, float)


def _is_allowed_type(stated: Any, known: frozenset[str]) -> bool:
    return stated is None or (type(stated) is str and stated.lower() in known)


def _is_not_in_future(moment: Any, now: float) -> bool:
    return moment is None or (type(moment) in _NUMBERS and moment <= now + LEEWAY_SECONDS)


def _claim_values(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the texts at a dotted path into the claims, be it one or a list of them."""
    member: Any = claims
    for step in path.split("."):
        member = member.get(step) if isinstance(member, Mapping) else None
    several = member if isinstance(member, list) else [member]
    return frozenset(value for value in several if isinstance(value, str))
