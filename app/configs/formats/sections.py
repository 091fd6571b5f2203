"""A part of a configuration file and the Spring profiles it says it is for."""

from dataclasses import dataclass

from app.configs.formats.errors import BadFile, shown

# As `_canonical` writes them.
_PROFILES = "spring.config.activate.onprofile"
_LEGACY_PROFILES = "spring.profiles"  # as a section it holds settings, such as `active`
_PLATFORM = "spring.config.activate.oncloudplatform"
_OPERATORS = frozenset("&|!()")


@dataclass(frozen=True, slots=True)
class Section:
    """`profiles` are the environments it is for; none: the plain part of the file.

    `data` has its members as written, dotted and nested spellings still mixed.
    """

    profiles: tuple[str, ...]
    data: dict[str, object]


def section(members: dict[str, object]) -> Section:
    found: list[object] = []
    data = _without_activation(members, "", found)
    if len(found) > 1:
        raise BadFile("a section says more than once which profiles it is for")
    return Section(profiles=_profiles(found[0]) if found else (), data=data)


def _without_activation(
    members: dict[str, object], prefix: str, found: list[object]
) -> dict[str, object]:
    rest: dict[str, object] = {}
    for name, value in members.items():
        path = prefix + _canonical(name)
        if path == _PLATFORM:
            # Without this condition the section would apply everywhere.
            raise BadFile("spring.config.activate.on-cloud-platform has no counterpart here")
        if path == _PROFILES or (path == _LEGACY_PROFILES and not isinstance(value, dict)):
            found.append(value)
        elif isinstance(value, dict) and value and _PROFILES.startswith(f"{path}."):
            if kept := _without_activation(value, f"{path}.", found):
                rest[name] = kept
        else:
            rest[name] = value
    return rest


def _canonical(name: str) -> str:
    """Spring reads on-profile, onProfile and on_profile alike."""
    return name.replace("-", "").replace("_", "").lower()


def _profiles(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    profiles = dict.fromkeys(profile for name in names for profile in _split(name))
    if not profiles:
        raise BadFile("a section is for a profile without a name")
    return tuple(profiles)


def _split(names: object) -> list[str]:
    if not isinstance(names, str):
        # `on-profile: no` would otherwise be for an environment called False.
        raise BadFile("a profile is named by text; put its name in quotes")
    if _OPERATORS.intersection(names):
        raise BadFile(f"the profile expression {shown(names)} cannot be expressed by environments")
    return [name.strip() for name in names.split(",") if name.strip()]
