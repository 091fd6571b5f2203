"""Paths into a configuration, and copies that may be changed without changing it."""

from collections.abc import Mapping
from typing import Any

ABSENT: Any = object()


def found(tree: Mapping[str, Any], path: str) -> Any:
    """Return what lies at a dotted path, or ABSENT.

    A file may hold names with dots in them, such as those of loggers: where nothing lies at the
    nested place, the longer name is tried.
    """
    if path in tree:
        return tree[path]
    end = path.find(".")
    while end >= 0:
        below = tree.get(path[:end])
        if isinstance(below, dict):
            value = found(below, path[end + 1 :])
            if value is not ABSENT:
                return value
        end = path.find(".", end + 1)
    return ABSENT


def copied(value: Any) -> Any:
    """Return `value` with objects and lists of its own."""
    if isinstance(value, dict):
        return {name: copied(member) for name, member in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value
