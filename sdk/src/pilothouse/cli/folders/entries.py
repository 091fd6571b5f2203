"""What has a file of its own in a folder, and the path of that file.

config/{environment}/{service}.yaml
config/{environment}/{service}/users/{user}.yaml
flags/{environment}/{name}.yaml, segments/{environment}/{name}.yaml
schemas/{name}.yaml, templates/{name}.yaml, policies/{name}.yaml
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote, unquote

from pilothouse_core.names import is_name, is_user

Kind = Literal["schema", "template", "segment", "flag", "config", "policy"]
Content = dict[str, Any]
SUFFIX = ".yaml"
USERS = "users"
GLOBAL = "default"  # the environment of what belongs to none
FOLDERS: Mapping[Kind, str] = {
    "schema": "schemas",
    "template": "templates",
    "segment": "segments",
    "flag": "flags",
    "config": "config",
    "policy": "policies",
}
_KINDS: Mapping[str, Kind] = {folder: kind for kind, folder in FOLDERS.items()}
_OF_ENVIRONMENTS = frozenset({"config", "flag", "segment"})
# Windows opens a device for a file of such a name, whatever its suffix is.
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}
)


class BadPath(ValueError):
    """A path in the folder that is not the path of any entry."""


@dataclass(frozen=True, order=True)
class Entry:
    """A layer by its service, everything else by its name; `environment` is "" for definitions."""

    kind: Kind
    environment: str
    name: str
    user: str = ""

    @property
    def path(self) -> PurePosixPath:
        names = [self.environment, self.name] if self.environment else [self.name]
        names = [file_name(name) for name in names]
        if self.user:
            names += [USERS, file_name(self.user)]
        *folders, last = names
        return PurePosixPath(FOLDERS[self.kind], *folders, last + SUFFIX)

    @property
    def group(self) -> str:
        """The kind of contents that the manifest of a folder names."""
        return USERS if self.user else FOLDERS[self.kind]

    @property
    def label(self) -> str:
        names = [self.environment, self.name, self.user]
        return f"{self.kind} {'/'.join(name for name in names if name)}"

    @property
    def address(self) -> dict[str, str]:
        """The entry as the members of a JSON document name it."""
        if self.kind != "config":
            where = {"environment": self.environment} if self.environment else {}
            return {"kind": self.kind, **where, "name": self.name}
        layer = {"environment": self.environment, "service_name": self.name}
        return {"kind": self.kind, **layer, **({"user": self.user} if self.user else {})}


@dataclass(frozen=True)
class Present:
    """What the installation holds of an entry; `is_archived` is said of flags."""

    content: Content = field(repr=False)
    version: int
    is_archived: bool = False


def file_name(name: str) -> str:
    """Return a name as a file may have it: percent-encoded where it is not safe."""
    encoded = quote(name, safe="@+")
    if encoded.partition(".")[0].lower() in _DEVICES:
        return f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return encoded


def entry_at(path: PurePosixPath) -> Entry:
    """Return the entry whose file is at a path in the folder; raises BadPath."""
    folder, *parts = path.parts
    kind = _KINDS.get(folder)
    if kind is None or not parts or path.suffix != SUFFIX:
        raise BadPath(f"not a file of a folder: expected {_shape_of(kind)}")
    names = [*parts[:-1], parts[-1].removesuffix(SUFFIX)]
    entry = _entry_of(kind, [unquote(name) for name in names])
    if entry is None or not _is_valid(entry):
        raise BadPath(f"not a file of a folder: expected {_shape_of(kind)}")
    if entry.path != path:
        raise BadPath(f"{entry.label} belongs into {entry.path}")
    return entry


def _entry_of(kind: Kind, names: list[str]) -> Entry | None:
    match names:
        case [name] if kind not in _OF_ENVIRONMENTS:
            return Entry(kind, "", name)
        case [environment, name] if kind in _OF_ENVIRONMENTS:
            return Entry(kind, environment, name)
        case [environment, name, "users", user] if kind == "config":
            return Entry(kind, environment, name, user)
    return None


def _is_valid(entry: Entry) -> bool:
    names = [entry.environment, entry.name] if entry.environment else [entry.name]
    return all(map(is_name, names)) and (not entry.user or is_user(entry.user))


def _shape_of(kind: Kind | None) -> str:
    if kind is None:
        return f"one of {', '.join(sorted(_KINDS))}"
    inside = "ENVIRONMENT/NAME" if kind in _OF_ENVIRONMENTS else "NAME"
    below = f" or {FOLDERS[kind]}/ENVIRONMENT/NAME/{USERS}/USER{SUFFIX}" * (kind == "config")
    return f"{FOLDERS[kind]}/{inside}{SUFFIX}{below}"
