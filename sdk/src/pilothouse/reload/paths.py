"""Values at dotted paths of a merged configuration."""

from collections.abc import Mapping
from typing import Any

from pilothouse_core.trees import OWN_VALUE, has_own_value, node_at

ABSENT: Any = object()


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """Return the value or section at a dotted path, or ABSENT.

    A file may have names with dots, such as those of loggers: if there is nothing at the nested
    path, longer names are tried. Other names are written in brackets.
    """
    value = _nested_value(tree, path)
    return node_at(tree, path, ABSENT) if value is ABSENT and "[" in path else value


def read(tree: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path, or ABSENT: of a section its own value, if it has one."""
    value = value_at(tree, path)
    return value[OWN_VALUE] if has_own_value(value) else value


def _nested_value(tree: Mapping[str, Any], path: str) -> Any:
    if path in tree:
        return tree[path]
    end = path.find(".")
    while end >= 0:
        below = tree.get(path[:end])
        if isinstance(below, dict):
            value = _nested_value(below, path[end + 1 :])
            if value is not ABSENT:
                return value
        end = path.find(".", end + 1)
    return ABSENT
