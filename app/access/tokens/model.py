"""Tokens of machines: their text form, and what they allow. Pure."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Final, Literal, get_args
from zlib import crc32

from app.access.model import (
    CLIENT_RIGHTS,
    RIGHTS_OF_ROLE,
    SERVICE_RIGHTS,
    Grant,
    Principal,
    Right,
    Role,
    TokenClass,
)
from pilothouse_core.name_patterns import matches

TokenState = Literal["live", "expired", "revoked"]
CLASSES: Final[tuple[TokenClass, ...]] = get_args(TokenClass)
ROLES_OF_CLASS: Final[dict[TokenClass, frozenset[Role]]] = {
    "service": frozenset({"secrets:reveal"}),
    "client": frozenset(),
    "operator": frozenset({"viewer", "editor", "publisher", "secrets:reveal", "change:bypass"}),
    "admin": frozenset({"admin", "secrets:reveal", "change:bypass"}),
}
PREFIX: Final = "plh_"
# Neither `_` nor `-`: a double click selects a whole token, and the parts are unambiguous.
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_BITS, _ID_LENGTH = 95, 16
_SECRET_BITS, _SECRET_LENGTH = 256, 43
_CHECKSUM_LENGTH: Final = 6
_SHAPE: Final = re.compile(
    rf"plh_({'|'.join(CLASSES)})_([0-9A-Za-z]{{{_ID_LENGTH}}})"
    rf"_[0-9A-Za-z]{{{_SECRET_LENGTH}}}_([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})",
    re.ASCII,
)
_ID: Final = re.compile(rf"[0-9A-Za-z]{{{_ID_LENGTH}}}", re.ASCII)
LONGEST: Final = (
    len(PREFIX) + max(map(len, CLASSES)) + _ID_LENGTH + _SECRET_LENGTH + _CHECKSUM_LENGTH + 3
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored: everything but its secret.

    `environments` and `services` are patterns; `digest` is `token_digest(key, text)` of the whole
    text; `revision` is that of its newest change. `created_by_id` is the identity of its maker,
    None of tokens that an earlier release has made.
    """

    id: str
    name: str
    token_class: TokenClass
    environments: tuple[str, ...]
    services: tuple[str, ...]
    roles: tuple[Role, ...]
    created_at: datetime
    created_by: str
    digest: bytes = field(repr=False)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    revision: int = 0
    created_by_id: str | None = None

    @property
    def expires(self) -> float:
        """Seconds since the epoch, infinite if it never expires."""
        return inf if self.expires_at is None else self.expires_at.timestamp()

    def is_live(self, now: float) -> bool:
        """Tell whether it may be used at `now`, in seconds since the epoch."""
        return self.state(now) == "live"

    def state(self, now: float) -> TokenState:
        if self.revoked_at is not None:
            return "revoked"
        return "live" if now < self.expires else "expired"


def generate_token(token_class: TokenClass) -> tuple[str, str]:
    """Return the id and the text of a new token."""
    token_id = _to_base62(secrets.randbits(_ID_BITS), _ID_LENGTH)
    secret = _to_base62(secrets.randbits(_SECRET_BITS), _SECRET_LENGTH)
    body = f"{PREFIX}{token_class}_{token_id}_{secret}"
    return token_id, f"{body}_{_checksum(body)}"


def is_token_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def parse_token_id(text: str) -> str | None:
    """Return the id in a token, None if `text` is not a token: mistyped, truncated or invented.

    No store is needed, so that scanners for leaked tokens can do the same.
    """
    if len(text) > LONGEST or (match := _SHAPE.fullmatch(text)) is None:
        return None
    body, checksum = text[: -_CHECKSUM_LENGTH - 1], match[3]
    return match[2] if checksum == _checksum(body) else None


def _checksum(body: str) -> str:
    """Return the CRC-32, which detects every single wrong character."""
    return _to_base62(crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def _to_base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def token_digest(key: bytes, text: str) -> bytes:
    """Return the stored digest: HMAC-SHA-256 under a key derived from the pepper."""
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)


def grants_of(token: Token) -> tuple[Grant, ...]:
    """Return what a token allows."""
    rights = _RIGHTS_OF_CLASS[token.token_class].union(
        *(RIGHTS_OF_ROLE[role] for role in token.roles)
    )
    return (Grant(rights, token.environments, token.services),)


_RIGHTS_OF_CLASS: Final[dict[TokenClass, frozenset[Right]]] = {
    "service": SERVICE_RIGHTS,
    "client": CLIENT_RIGHTS,
    "operator": frozenset(),
    "admin": RIGHTS_OF_ROLE["admin"],
}


def audit_facts(token: Token) -> dict[str, object]:
    """Return the facts that the audit records when a token is created."""
    return {
        "name": token.name,
        "class": token.token_class,
        "environments": list(token.environments),
        "services": list(token.services),
        "roles": list(token.roles),
        "expires_at": token.expires_at and token.expires_at.isoformat(),
    }


def principal_of(token: Token, protected: tuple[str, ...]) -> Principal:
    """Return the principal of a token; `protected` are the environments of publishers."""
    return Principal(
        name=f"token:{token.name}",
        grants=grants_of(token),
        protected=protected,
        token_class=token.token_class,
        token_id=token.id,
        expires_at=token.expires,
    )


def missing_grant(giver: Principal, given: tuple[Grant, ...]) -> Grant | None:
    """Return the part of the first given grant that exceeds the giver's own, None if none does.

    Every right must be held by a single grant of the giver in all environments and services of the
    given one. A pattern lies within another if that one matches it as if it were a name: no name
    contains `*`, so each of its stars then falls into a star of the other.
    """
    for grant in given:
        held = {
            right
            for own in giver.grants
            if _are_within(grant.environments, own.environments)
            and _are_within(grant.services, own.services)
            for right in own.rights
        }
        if not grant.rights <= held:
            return replace(grant, rights=grant.rights - held)
    return None


def _are_within(narrow: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    return all(any(matches(pattern, text) for pattern in wide) for text in narrow)
