"""What changed between two configurations, leaf by leaf. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pilothouse_core.diff import is_same
from pilothouse_core.keys import canonical_key, is_below
from pilothouse_core.trees import child_key, is_section, leaves

_ABSENT: Any = object()


class ChangeType(Enum):
    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One leaf: `path` is its dotted key; an absent value is None."""

    path: str
    old_value: Any
    new_value: Any
    change_type: ChangeType


def changes_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[ConfigChange, ...]:
    """Return every leaf that differs, in the order of their paths."""
    return tuple(sorted(differences(old, new), key=lambda change: change.path))


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[ConfigChange]:
    """Yield a change for every leaf that is not the same, in the order of `new`, then removals.

    Lists are leaves. `1`, `1.0` and `true` are three different values. Subtrees that are the same
    object in both cost nothing.
    """
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        if before is not value:
            yield from _difference(before, value, child_key(prefix, name))
    for name, value in old.items():
        if name not in new:
            yield from _difference(value, _ABSENT, child_key(prefix, name))


def _difference(old: Any, new: Any, path: str) -> Iterator[ConfigChange]:
    if is_section(old) and is_section(new):
        yield from differences(old, new, path)
        return
    before, after = dict(_leaves(old, path)), dict(_leaves(new, path))
    for key, value in before.items():
        if key not in after:
            yield ConfigChange(key, value, None, ChangeType.REMOVED)
    for key, value in after.items():
        if key not in before:
            yield ConfigChange(key, None, value, ChangeType.ADDED)
        elif not is_same(before[key], value):
            yield ConfigChange(key, before[key], value, ChangeType.MODIFIED)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if is_section(value):
        yield from leaves(value, path)
    elif value is not _ABSENT:
        yield path, value


def concerns(watched: str, path: str) -> bool:
    """Tell whether a change at `path` is one of the key or section `watched`; "" is everything."""
    section = canonical_key(watched)
    return not watched or path == section or is_below(path, section)
