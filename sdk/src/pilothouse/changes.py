"""What changed between two configurations, leaf by leaf. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pilothouse_core.diff import diff
from pilothouse_core.keys import canonical_key, is_below


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
    found = diff(old, new)
    changes = [
        ConfigChange(key, None, value, ChangeType.ADDED) for key, value in found.added.items()
    ]
    changes += [
        ConfigChange(key, value, None, ChangeType.REMOVED) for key, value in found.removed.items()
    ]
    changes += [
        ConfigChange(key, before, after, ChangeType.MODIFIED)
        for key, (before, after) in found.changed.items()
    ]
    return tuple(sorted(changes, key=lambda change: change.path))


def concerns(watched: str, path: str) -> bool:
    """Tell whether a change at `path` is one of the key or section `watched`; "" is everything."""
    section = canonical_key(watched)
    return not watched or path == section or is_below(path, section)
