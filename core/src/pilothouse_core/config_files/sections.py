"""A part of a configuration file and the Spring profiles it says it is for."""

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse_core.config_files.errors import BadFile, quoted_name
from pilothouse_core.config_files.profiles import (
    BadExpression,
    Environments,
    environments_of,
    words_of,
)

# As `_canonical` writes them.
_PROFILES = "spring.config.activate.onprofile"
_LEGACY_PROFILES = "spring.profiles"  # as a section it holds settings, such as `active`
_PLATFORM = "spring.config.activate.oncloudplatform"
_NO_PROFILE = "default"  # Spring's name for: no profile is active
_NOBODY = Environments(frozenset())


@dataclass(frozen=True, slots=True)
class Section:
    """`profiles` are the environments it is for; none: the plain part of the file, or left out.

    `data` has its members as written, dotted and nested spellings still mixed. `left_out` says
    why it is not for all that it was written for, or for nothing at all.
    """

    profiles: tuple[str, ...]
    data: dict[str, object]
    left_out: str = ""


def read_section(members: dict[str, object]) -> Section:
    activation: dict[str, list[object]] = {_PROFILES: [], _PLATFORM: []}
    data = _without_activation(members, "", activation)
    if len(activation[_PROFILES]) > 1:
        raise BadFile("a section states its profiles more than once")
    if activation[_PLATFORM]:
        return Section((), data, "spring.config.activate.on-cloud-platform is not supported")
    if not activation[_PROFILES]:
        return Section((), data)
    return _for_profiles(activation[_PROFILES][0], data)


def _without_activation(
    members: dict[str, object], prefix: str, activation: dict[str, list[object]]
) -> dict[str, object]:
    rest: dict[str, object] = {}
    for name, value in members.items():
        path = prefix + _canonical(name)
        if path == _PLATFORM:
            activation[_PLATFORM].append(value)
        elif path == _PROFILES or (path == _LEGACY_PROFILES and not isinstance(value, dict)):
            activation[_PROFILES].append(value)
        elif isinstance(value, dict) and value and _PROFILES.startswith(f"{path}."):
            if kept := _without_activation(value, f"{path}.", activation):
                rest[name] = kept
        else:
            rest[name] = value
    return rest


def _canonical(name: str) -> str:
    """Spring reads on-profile, onProfile and on_profile alike."""
    return name.replace("-", "").replace("_", "").lower()


def _for_profiles(value: object, data: dict[str, object]) -> Section:
    expressions = _expressions(value)
    environments, unread = _NOBODY, []
    for expression in expressions:
        try:
            environments = environments | environments_of(expression)
        except BadExpression:
            unread.append(expression)
    named = _named_environments(expressions) if environments.is_all_except else environments.names
    words = [word for expression in expressions for word in words_of(expression)]
    in_order = dict.fromkeys(word for word in words if word in named)
    profiles = tuple(name for name in in_order if name != _NO_PROFILE)
    reason = _omission_reason(value, environments, profiles, unread)
    return Section(profiles, data, reason)


def _named_environments(expressions: Sequence[str]) -> set[str]:
    """Return of expressions the environments that some name, though others do not."""
    names: set[str] = set()
    for expression in expressions:
        try:
            environments = environments_of(expression)
        except BadExpression:
            continue
        if not environments.is_all_except:
            names |= environments.names
    return names


def _omission_reason(
    value: object, environments: Environments, profiles: Sequence[str], unread: Sequence[str]
) -> str:
    stated = quoted_name(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    if unread:
        return f"the profile expression {quoted_name(unread[0])} is not one that Spring reads"
    if environments.is_all_except:
        return f"{stated} is for all environments except some, and no layer represents that"
    if _NO_PROFILE in environments.names:
        return f"{stated} is for programs without any profile, and an environment is a profile"
    if not profiles:
        return f"{stated} needs several profiles at once, and an environment is one"
    return ""


def _expressions(value: object) -> list[str]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        # `on-profile: no` would otherwise be for an environment called False.
        raise BadFile("a profile is named by text; put its name in quotes")
    expressions = [part.strip() for name in names for part in str(name).split(",") if part.strip()]
    if not expressions:
        raise BadFile("a section is for a profile without a name")
    return list(dict.fromkeys(expressions))
