"""Principals, their grants, and the rights that routes demand. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final, Literal

from app.access.errors import Denied, TokenRefused
from app.access.identity import token_identity
from app.actors import stored_actor
from pilothouse_core.name_patterns import matches

TokenClass = Literal["service", "client", "operator", "admin"]
Role = Literal["viewer", "editor", "publisher", "admin", "secrets:reveal", "change:bypass"]


class Right(StrEnum):
    """A right that routes demand; the values appear in the audit and in problem details."""

    READ_CONFIGS = "config:read"
    WRITE_CONFIGS = "config:write"
    PUBLISH_CONFIGS = "config:publish"
    REVEAL = "secrets:reveal"
    EVALUATE = "flag:evaluate"
    READ_FLAGS = "flag:read"
    WRITE_FLAGS = "flag:write"
    PUBLISH_FLAGS = "flag:publish"
    DISCOVER = "registry:read"
    REGISTER = "registry:write"
    READ_STATS = "stats:read"
    READ_AUDIT = "audit:read"
    MANAGE_TOKENS = "token:manage"
    WRITE_RULES = "rules:write"
    PROPOSE_CHANGES = "change:propose"
    APPROVE_CHANGES = "change:approve"
    APPLY_CHANGES = "change:apply"
    BYPASS_POLICIES = "change:bypass"
    WRITE_POLICIES = "policy:write"
    WRITE_WEBHOOKS = "webhook:write"
    REPORT_RELEASES = "release:report"


_VIEW: Final = frozenset(
    {Right.READ_CONFIGS, Right.READ_FLAGS, Right.EVALUATE, Right.DISCOVER, Right.READ_STATS}
)
_EDIT: Final = _VIEW | {
    Right.WRITE_CONFIGS,
    Right.WRITE_FLAGS,
    Right.REGISTER,
    Right.PROPOSE_CHANGES,
}
_PUBLISH: Final = _EDIT | {
    Right.PUBLISH_CONFIGS,
    Right.PUBLISH_FLAGS,
    Right.WRITE_RULES,
    Right.APPROVE_CHANGES,
    Right.APPLY_CHANGES,
}
_ADMINISTER: Final = _PUBLISH | {
    Right.READ_AUDIT,
    Right.MANAGE_TOKENS,
    Right.WRITE_POLICIES,
    Right.WRITE_WEBHOOKS,
    Right.REPORT_RELEASES,  # or they could not give it to services
}
RIGHTS_OF_ROLE: Final[dict[Role, frozenset[Right]]] = {
    "viewer": _VIEW,
    "editor": _EDIT,
    "publisher": _PUBLISH,
    "admin": _ADMINISTER,
    "secrets:reveal": frozenset({Right.REVEAL}),
    "change:bypass": frozenset({Right.BYPASS_POLICIES}),
}
SERVICE_RIGHTS: Final = frozenset(
    {
        Right.READ_CONFIGS,
        Right.READ_FLAGS,
        Right.EVALUATE,
        Right.DISCOVER,
        Right.REGISTER,
        Right.REPORT_RELEASES,
    }
)
CLIENT_RIGHTS: Final = frozenset({Right.EVALUATE})
EVERY_RIGHT: Final = frozenset(Right)

# Rights over what belongs to no service are tested by the environment alone. Those over instances
# are tested by the service, and by the environment where an instance states one.
_OF_ENVIRONMENTS: Final = frozenset(
    {Right.EVALUATE, Right.READ_FLAGS, Right.WRITE_FLAGS, Right.PUBLISH_FLAGS}
)
_OF_SERVICES: Final = frozenset({Right.REGISTER})
# Changes may be of flags, which belong to no service: then the environment alone is tested.
_OF_CHANGES: Final = frozenset(
    {
        Right.PROPOSE_CHANGES,
        Right.APPROVE_CHANGES,
        Right.APPLY_CHANGES,
        Right.BYPASS_POLICIES,
    }
)
# Every caller who may discover sees the addresses of all services: a client of `payments` need not
# be allowed to read its configuration.
_OF_NEITHER: Final = frozenset({Right.DISCOVER, Right.READ_STATS, Right.MANAGE_TOKENS})


def is_protected(patterns: Iterable[str], environment: str) -> bool:
    """Tell whether a pattern matches an environment, ignoring case: `Production` is production."""
    name = environment.lower()
    return any(matches(pattern.lower(), name) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights in the environments and over the services that the patterns match."""

    rights: frozenset[Right]
    environments: tuple[str, ...]
    services: tuple[str, ...]

    def covers(self, right: Right, environment: str, service: str) -> bool:
        """Tell whether this grant includes `right` over (environment, service)."""
        if right not in self.rights:
            return False
        if right in _OF_NEITHER:
            return True
        is_of_none = not environment and right in _OF_SERVICES
        is_there = is_of_none or _is_meant(self.environments, environment)
        is_of_no_service = right in _OF_ENVIRONMENTS or (not service and right in _OF_CHANGES)
        return is_there and (is_of_no_service or _is_meant(self.services, service))


def _is_meant(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated token or person, with their grants.

    `name` is the actor of their changes, None where access is open; `protected` are the
    environments that only a publisher changes; `expires_at` is in seconds since the epoch.
    `issuer` and `subject` are those of a person's token, which no other person shares.
    """

    name: str | None
    grants: tuple[Grant, ...]
    protected: tuple[str, ...] = ()
    token_class: TokenClass | None = None
    token_id: str | None = None
    expires_at: float = inf
    issuer: str | None = None
    subject: str | None = None
    _decided: dict[tuple[Right, str, str], bool] = field(
        default_factory=dict, repr=False, compare=False
    )

    def may(self, right: Right, environment: str = "", service: str = "") -> bool:
        """Tell whether they have the right there; everything that is not granted is denied."""
        key = right, environment, service
        try:
            return self._decided[key]
        except KeyError:
            required = self.required_right(right, environment)
            may = any(grant.covers(required, environment, service) for grant in self.grants)
            if len(environment) + len(service) <= _LONGEST_KEPT:  # no name is longer
                if len(self._decided) >= _DECISIONS_KEPT:
                    self._decided.clear()
                self._decided[key] = may
            return may

    @property
    def actor(self) -> str | None:
        """The actor in the log and the audit; tokens of one name differ by their ids."""
        return None if self.name is None else stored_actor(self.name, self.token_id)

    @property
    def identity(self) -> str | None:
        """Return what distinguishes this principal from every other, None if that is not known.

        `token:ID` of a token, `person:ISSUER#SUBJECT` of a person; see `identity.py`.
        """
        if self.token_id is not None:
            return token_identity(self.token_id)
        if self.issuer is None or self.subject is None:
            return None
        return f"person:{self.issuer}#{self.subject}"

    @property
    def only_environment(self) -> str | None:
        """The only environment of the principal, None if there are several."""
        patterns = {pattern for grant in self.grants for pattern in grant.environments}
        return patterns.pop() if len(patterns) == 1 and "*" not in "".join(patterns) else None

    def required_right(self, right: Right, environment: str) -> Right:
        """Return the right that a change needs there: in protected environments, to publish."""
        if right in _PUBLISHED and is_protected(self.protected, environment):
            return _PUBLISHED[right]
        return right


_DECISIONS_KEPT: Final = 1000
_LONGEST_KEPT: Final = 200
_PUBLISHED: Final = {
    Right.WRITE_CONFIGS: Right.PUBLISH_CONFIGS,
    Right.WRITE_FLAGS: Right.PUBLISH_FLAGS,
}
_OF_POLICIES: Final = frozenset(
    {
        Right.WRITE_CONFIGS,
        Right.WRITE_FLAGS,
        Right.WRITE_RULES,
        Right.WRITE_POLICIES,
        Right.WRITE_WEBHOOKS,
    }
)
ANYBODY: Final = Principal(None, (Grant(EVERY_RIGHT, ("*",), ("*",)),))


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of one request, which came from the address `source`.

    Code that has waited since the authentication calls `is_still_valid`. With a `bypass_reason`,
    they make changes although a policy asks for a proposal.
    """

    principal: Principal
    request_id: str
    source: str = ""
    bypass_reason: str | None = None
    is_still_valid: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)

    def actor(self, remark: str | None = None) -> str:
        """Return the actor for the log: the caller, else the name in the request."""
        return self.principal.actor or remark or "anonymous"

    @property
    def is_known(self) -> bool:
        """Whether the caller is authenticated; with open access, no caller is."""
        return self.principal.name is not None

    def may(self, right: Right, environment: str = "", service: str = "") -> bool:
        return self.principal.may(right, environment, service)

    def has_right_anywhere(self, right: Right) -> bool:
        """Tell whether the caller has this right anywhere at all."""
        return any(right in grant.rights for grant in self.principal.grants)

    def demand(self, right: Right, environment: str = "", service: str = "") -> None:
        """Raise Denied unless the caller may do it there.

        A change with a reason to bypass policies needs that right there, too.
        """
        if not self.may(right, environment, service):
            raise Denied(self.principal.required_right(right, environment), environment, service)
        if self.bypass_reason is not None and right in _OF_POLICIES:
            self.demand(Right.BYPASS_POLICIES, environment, service)

    def require_still_valid(self) -> None:
        """Raise TokenRefused if the token has expired or was revoked since the authentication."""
        if not self.is_still_valid():
            raise TokenRefused

    def can_see_fingerprints(self, environment: str, service: str) -> bool:
        """Tell whether the caller may see fingerprints of secrets, which let one test guesses.

        Only callers to whom the right was granted by name may.
        """
        return self.is_known and self.may(Right.REVEAL, environment, service)
