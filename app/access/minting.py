"""New tokens: what may be asked of one. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.access.errors import BadToken
from app.access.model import Role, TokenClass
from app.access.tokens import ROLES_OF_CLASS, Token, digest, mint
from pilothouse_core.names import is_name

MOST_PATTERNS: Final = 100
_NEEDS_ROLES: Final[frozenset[TokenClass]] = frozenset({"operator"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new token shall be."""

    name: str
    token_class: TokenClass
    environments: Sequence[str]
    services: Sequence[str]
    roles: Sequence[Role] = ()
    expires_at: datetime | None = None


def made(wanted: Wanted, key: bytes, by: str, now: datetime) -> tuple[Token, str]:
    """Return a new token and its text, which is nowhere else; raises BadToken."""
    _check(wanted, now)
    token_id, text = mint(wanted.token_class)
    token = Token(
        id=token_id,
        name=wanted.name,
        token_class=wanted.token_class,
        environments=tuple(dict.fromkeys(wanted.environments)),
        services=tuple(dict.fromkeys(wanted.services)),
        roles=tuple(dict.fromkeys(wanted.roles)),
        created_at=now.astimezone(UTC),
        created_by=by,
        digest=digest(key, text),
        expires_at=wanted.expires_at and wanted.expires_at.astimezone(UTC),
    )
    return token, text


def _check(wanted: Wanted, now: datetime) -> None:
    if not is_name(wanted.name):
        raise BadToken("/name", "is outside the grammar of names", "bad_name")
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
        # Any letter instead of a star leaves a name, if the pattern can mean one at all.
        if not is_name(pattern.replace("*", "x")):
            raise BadToken(
                f"/{member}/{place}", "is no name with `*` for any characters", "bad_pattern"
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
