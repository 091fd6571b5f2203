"""Rules for requests by their path, which features declare for the paths of their routers.

They also hold for paths that match no route, so `app.web.boundary` and `app.web.problem` look them
up by prefix. Neither does so for a usual request that succeeds.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from app.errors import PilothouseError

ErrorMembers = Callable[[str, PilothouseError], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class LargerBodyRule:
    """Paths whose bodies may exceed `MAX_BODY_BYTES`, for authenticated callers."""

    methods: frozenset[str]
    path: re.Pattern[str]
    limit_bytes: int


def _no_members(_: str, __: PilothouseError) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class ProtocolRules:
    """What a protocol of others requires of every path below `prefix`, which ends with a slash.

    `error_members` returns what its clients read of an error, in addition to the members of a
    problem; it gets the path of the request.
    """

    prefix: str
    may_encode_separators: bool = False  # slashes and backslashes; no path is built from them
    error_members: ErrorMembers = _no_members


@dataclass(frozen=True, slots=True)
class PathRules:
    """The rules of one feature, or of all."""

    larger_bodies: Sequence[LargerBodyRule] = ()
    protocols: Sequence[ProtocolRules] = ()
    any_host: frozenset[str] = field(default=frozenset())  # requested with any `Host`
    quiet: frozenset[str] = field(default=frozenset())  # routes that are logged only if they fail
    prefixes: Sequence[str] = ()  # of routes, to suggest one where none matches
    # First path segments used by other products, with ours, for the same purpose.
    foreign_segments: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_all(cls, declared: Iterable["PathRules"]) -> "PathRules":
        """Return the rules of several features as one."""
        every = list(declared)
        return cls(
            larger_bodies=tuple(rule for one in every for rule in one.larger_bodies),
            protocols=tuple(rule for one in every for rule in one.protocols),
            any_host=frozenset[str]().union(*(one.any_host for one in every)),
            quiet=frozenset[str]().union(*(one.quiet for one in every)),
            prefixes=tuple(prefix for one in every for prefix in one.prefixes),
            foreign_segments={
                word: ours for one in every for word, ours in one.foreign_segments.items()
            },
        )

    def body_limit(self, scope: Scope, default: int) -> int:
        """Return how many bytes the body of a request may have."""
        method, path = scope["method"], route_path(scope)
        for rule in self.larger_bodies:
            if method in rule.methods and rule.path.fullmatch(path):
                return rule.limit_bytes
        return default

    def may_encode_separators(self, path: str) -> bool:
        """Whether a path may contain encoded slashes, backslashes and NUL."""
        protocol = self._protocol_of(path)
        return protocol is not None and protocol.may_encode_separators

    def error_members(self, scope: Scope, error: PilothouseError) -> Mapping[str, Any]:
        """Return what an error response has in addition to the members of a problem."""
        path = route_path(scope)
        protocol = self._protocol_of(path)
        return {} if protocol is None else protocol.error_members(path, error)

    def _protocol_of(self, path: str) -> ProtocolRules | None:
        return next((one for one in self.protocols if path.startswith(one.prefix)), None)


NO_RULES = PathRules()


def route_path(scope: Mapping[str, Any]) -> str:
    """Return the path without the prefix of a reverse proxy."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
