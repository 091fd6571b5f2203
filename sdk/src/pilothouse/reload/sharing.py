"""Sharing of equal parts between the trees of successive versions."""

from typing import Any

from pilothouse_core.diff import is_same
from pilothouse_core.trees import Tree

_ABSENT: Any = object()


def share_unchanged(old: Any, new: Any) -> Any:
    """Return `new` with each part that is equal in `old` replaced by the object from `old`.

    Many versions of a large configuration then need little more memory than one, and equal parts
    are recognised without comparing them.
    """
    if type(old) is not dict or type(new) is not dict:
        return old if is_same(old, new) else new
    unchanged = len(old) == len(new)
    tree: Tree = {}
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        kind = type(value)
        if kind is not type(before):
            kept = value
        elif kind is dict:
            kept = share_unchanged(before, value)
        elif kind is list:
            kept = before if _same_lists(before, value) else value
        else:
            kept = before if value == before else value
        unchanged = unchanged and kept is before
        tree[name] = kept
    return old if unchanged else tree


def _same_lists(old: list[Any], new: list[Any]) -> bool:
    if old != new:
        return False
    kinds = list(map(type, new))
    if dict in kinds or list in kinds:
        return is_same(old, new)
    return kinds == list(map(type, old))
