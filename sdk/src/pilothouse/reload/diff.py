"""What differs between two trees, and the parts of a new one that the old one has already."""

from collections.abc import Iterator, Mapping
from typing import Any

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse_core.diff import is_same
from pilothouse_core.keys import join_key
from pilothouse_core.trees import Tree, is_section, leaves

_ABSENT: Any = object()


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[ConfigChange]:
    """Yield a change for every leaf that is not the same, in the order of `new`, then removals.

    Lists are leaves. `1`, `1.0` and `true` are three different values.
    """
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        if before is not value:
            yield from _difference(before, value, join_key(prefix, name))
    for name, value in old.items():
        if name not in new:
            yield from _difference(value, _ABSENT, join_key(prefix, name))


def _difference(old: Any, new: Any, path: str) -> Iterator[ConfigChange]:
    if is_section(old) and is_section(new):
        yield from differences(old, new, path)
    elif is_section(old) or is_section(new):
        for key, value in _leaves(old, path):
            yield ConfigChange(key, value, None, ChangeType.REMOVED)
        for key, value in _leaves(new, path):
            yield ConfigChange(key, None, value, ChangeType.ADDED)
    elif old is _ABSENT:
        yield ConfigChange(path, None, new, ChangeType.ADDED)
    elif new is _ABSENT:
        yield ConfigChange(path, old, None, ChangeType.REMOVED)
    elif not is_same(old, new):
        yield ConfigChange(path, old, new, ChangeType.MODIFIED)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if is_section(value):
        yield from leaves(value, path)
    elif value is not _ABSENT:
        yield path, value


def share_unchanged(old: Any, new: Any) -> Any:
    """Return `new` with each part that is the same in `old` taken from there.

    Many versions of a large configuration then cost little more than one, and what is the same is
    seen at a glance.
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
