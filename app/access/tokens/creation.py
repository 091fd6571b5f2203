"""Creation of tokens, and the rules for them. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.access.errors import BadToken
from app.access.identity import Maker
from app.access.model import Role, TokenClass
from app.access.tokens.model import ROLES_OF_CLASS, Token, generate_token, token_digest
from pilothouse_core.names import NAME_GRAMMAR, is_name

MOST_PATTERNS: Final = 100
# Other actors of the audit and the change log; reserved in any case, or a token could be taken for
# one of them.
RESERVED_NAMES: Final = frozenset({"admin", "anonymous", "system"})
RESERVED_PREFIX: Final = "token:"
_NEEDS_ROLES: Final[frozenset[TokenClass]] = frozenset({"operator"})


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The properties of a new token."""

    name: str
    token_class: TokenClass
    environments: Sequence[str]
    services: Sequence[str]
    roles: Sequence[Role] = ()
    expires_at: datetime | None = None


def create_token(
    wanted: TokenRequest, key: bytes, maker: Maker, now: datetime
) -> tuple[Token, str]:
    """Return a new token and its text, which is not stored anywhere; raises BadToken."""
    _check_request(wanted, now)
    token_id, text = generate_token(wanted.token_class)
    token = Token(
        id=token_id,
        name=wanted.name,
        token_class=wanted.token_class,
        environments=tuple(dict.fromkeys(wanted.environments)),
        services=tuple(dict.fromkeys(wanted.services)),
        roles=tuple(dict.fromkeys(wanted.roles)),
        created_at=now.astimezone(UTC),
        created_by=maker.name,
        created_by_id=maker.identity,
        digest=token_digest(key, text),
        expires_at=wanted.expires_at and wanted.expires_at.astimezone(UTC),
    )
    return token, text


def _check_request(wanted: TokenRequest, now: datetime) -> None:
    name = wanted.name.casefold()
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIX):
        raise BadToken(
            "/name",
            f"is reserved, as are {', '.join(sorted(RESERVED_NAMES))} and all that begins with"
            f" `{RESERVED_PREFIX}`",
            "reserved_name",
        )
    if not is_name(wanted.name):
        raise BadToken("/name", f"is not a valid name: {NAME_GRAMMAR}", "bad_name")
    _check_patterns("environments", wanted.environments)
    _check_patterns("services", wanted.services)
    if wanted.token_class == "service" and (  # noqa: S105 - no secret
        len(set(wanted.environments)) > 1 or "*" in wanted.environments[0]
    ):
        raise BadToken(
            "/environments", "a token of class service has exactly one", "several_environments"
        )
    _check_roles(wanted.token_class, wanted.roles)
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise BadToken("/expires_at", "is not in the future", "past")


def _check_patterns(member: str, patterns: Collection[str]) -> None:
    if not 1 <= len(patterns) <= MOST_PATTERNS:
        raise BadToken(f"/{member}", f"needs 1 to {MOST_PATTERNS} patterns", "bad_length")
    for place, pattern in enumerate(patterns):
        # A pattern that can match a name becomes one when its stars are replaced by a character.
        if not is_name(pattern.replace("*", "x")):
            raise BadToken(
                f"/{member}/{place}",
                f"is not a valid pattern: a name in which `*` matches any characters; a name is "
                f"{NAME_GRAMMAR}",
                "bad_pattern",
            )


def _check_roles(token_class: TokenClass, roles: Sequence[Role]) -> None:
    allowed = ROLES_OF_CLASS[token_class]
    for place, role in enumerate(roles):
        if role not in allowed:
            raise BadToken(
                f"/roles/{place}", f"a token of class {token_class} has no such role", "bad_role"
            )
    if token_class in _NEEDS_ROLES and not roles:
        raise BadToken("/roles", "an operator without a role may do nothing", "no_role")
