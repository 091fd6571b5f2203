"""Who is asking, and what they may do where. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final, Literal

from app.access.errors import Denied, TokenRefused

TokenClass = Literal["service", "client", "operator", "admin"]
Role = Literal["viewer", "editor", "publisher", "admin", "secrets:reveal"]


class Right(StrEnum):
    """What a route asks for; the values stand in the audit and in problems."""

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


_VIEW: Final = frozenset(
    {Right.READ_CONFIGS, Right.READ_FLAGS, Right.EVALUATE, Right.DISCOVER, Right.READ_STATS}
)
_EDIT: Final = _VIEW | {Right.WRITE_CONFIGS, Right.WRITE_FLAGS, Right.REGISTER}
_PUBLISH: Final = _EDIT | {Right.PUBLISH_CONFIGS, Right.PUBLISH_FLAGS}
RIGHTS_OF_ROLE: Final[dict[Role, frozenset[Right]]] = {
    "viewer": _VIEW,
    "editor": _EDIT,
    "publisher": _PUBLISH,
    "admin": _PUBLISH | {Right.READ_AUDIT, Right.MANAGE_TOKENS},
    "secrets:reveal": frozenset({Right.REVEAL}),
}
SERVICE_RIGHTS: Final = frozenset(
    {
        Right.READ_CONFIGS,
        Right.READ_FLAGS,
        Right.EVALUATE,
        Right.DISCOVER,
        Right.REGISTER,
    }
)
CLIENT_RIGHTS: Final = frozenset({Right.EVALUATE})
EVERY_RIGHT: Final = frozenset(Right)

# Rights over what belongs to no service are tested by the environment alone, and these by the
# service alone.
_OF_ENVIRONMENTS: Final = frozenset(
    {Right.EVALUATE, Right.READ_FLAGS, Right.WRITE_FLAGS, Right.PUBLISH_FLAGS}
)
_OF_SERVICES: Final = frozenset({Right.REGISTER})
# Addresses of peers are for everybody who may discover at all: whoever calls `payments` need not be
# allowed to read its configuration.
_OF_NEITHER: Final = frozenset({Right.DISCOVER, Right.READ_STATS, Right.MANAGE_TOKENS})


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern means a name: `*` stands for any characters, all else for itself.

    Written out and linear for the patterns there are: `fnmatch` knows classes that no name has.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    position = len(first)
    *middle, last = rest
    for part in middle:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - position >= len(last) and name.endswith(last)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights in every environment and over every service that one of the patterns means."""

    rights: frozenset[Right]
    environments: tuple[str, ...]
    services: tuple[str, ...]

    def covers(self, right: Right, environment: str, service: str) -> bool:
        """Tell whether this grant holds `right` over the addressed (environment, service)."""
        if right not in self.rights:
            return False
        if right in _OF_NEITHER:
            return True
        is_there = right in _OF_SERVICES or _is_meant(self.environments, environment)
        return is_there and (right in _OF_ENVIRONMENTS or _is_meant(self.services, service))


def _is_meant(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Principal:
    """One who is known: a token, or a person with what their claims say.

    `name` is the actor of what they change, None where access is open and nobody is known;
    `protected` are the environments that only a publisher changes; `expires_at` is in seconds since
    the epoch.
    """

    name: str | None
    grants: tuple[Grant, ...]
    protected: tuple[str, ...] = ()
    token_class: TokenClass | None = None
    token_id: str | None = None
    expires_at: float = inf
    _decided: dict[tuple[Right, str, str], bool] = field(
        default_factory=dict, repr=False, compare=False
    )

    def may(self, right: Right, environment: str = "", service: str = "") -> bool:
        """Tell whether they may do it there; whatever is not granted is denied."""
        asked = right, environment, service
        try:
            return self._decided[asked]
        except KeyError:
            needed = self.needed(right, environment)
            may = any(grant.covers(needed, environment, service) for grant in self.grants)
            if len(environment) + len(service) <= _LONGEST_KEPT:  # no name is longer
                if len(self._decided) >= _DECISIONS_KEPT:
                    self._decided.clear()
                self._decided[asked] = may
            return may

    @property
    def home(self) -> str | None:
        """Return the one environment that there is for them, None if there are several."""
        found = {pattern for grant in self.grants for pattern in grant.environments}
        return found.pop() if len(found) == 1 and "*" not in "".join(found) else None

    def needed(self, right: Right, environment: str) -> Right:
        """Return the right that a change needs there: in some environments, to publish."""
        if right in _PUBLISHED and _is_meant(self.protected, environment):
            return _PUBLISHED[right]
        return right


_DECISIONS_KEPT: Final = 1000
_LONGEST_KEPT: Final = 200
_PUBLISHED: Final = {
    Right.WRITE_CONFIGS: Right.PUBLISH_CONFIGS,
    Right.WRITE_FLAGS: Right.PUBLISH_FLAGS,
}
ANYBODY: Final = Principal(None, (Grant(EVERY_RIGHT, ("*",), ("*",)),))


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal who asks something now, from the address `source`.

    `is_still_let_in` is asked by whoever has waited since.
    """

    principal: Principal
    request_id: str
    source: str = ""
    is_still_let_in: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)

    def actor(self, remark: str | None = None) -> str:
        """Return who stands in the log: the caller, else whom the request names."""
        return self.principal.name or remark or "anonymous"

    @property
    def is_known(self) -> bool:
        """Whether access is controlled: else everybody may do everything, and nobody is known."""
        return self.principal.name is not None

    def may(self, right: Right, environment: str = "", service: str = "") -> bool:
        return self.principal.may(right, environment, service)

    def demand(self, right: Right, environment: str = "", service: str = "") -> None:
        """Raise Denied unless the caller may do it there."""
        if not self.may(right, environment, service):
            raise Denied(self.principal.needed(right, environment), environment, service)

    def stay(self) -> None:
        """Raise TokenRefused if the caller has expired or was revoked since they were let in."""
        if not self.is_still_let_in():
            raise TokenRefused

    def sees_fingerprints(self, environment: str, service: str) -> bool:
        """Tell whether digests of secrets may be shown: to those who were given the right by name.

        They let one test guesses.
        """
        return self.is_known and self.may(Right.REVEAL, environment, service)
