"""Difference of two documents, key by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilothouse_core.trees import leaves


@dataclass(frozen=True)
class Diff:
    """Leaf keys with their values; `changed` holds (old, new)."""

    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, tuple[Any, Any]]

    @property
    def count(self) -> int:
        return len(self.added) + len(self.removed) + len(self.changed)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def is_same(old: Any, new: Any) -> bool:
    """Compare as JSON does: `1`, `1.0` and `true` are three different values."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(is_same(old[name], new[name]) for name in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(map(is_same, old, new))
    return bool(old == new)


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Diff:
    before, after = dict(leaves(old)), dict(leaves(new))
    return Diff(
        added={key: value for key, value in after.items() if key not in before},
        removed={key: value for key, value in before.items() if key not in after},
        changed={
            key: (before[key], value)
            for key, value in after.items()
            if key in before and not is_same(before[key], value)
        },
    )
