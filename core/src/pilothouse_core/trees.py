"""Documents as trees: a dotted key leads to a leaf or to a section of further keys.

A leaf is a scalar, a list, an empty object or a secret (an object with the member `$secret`);
every other object is a section.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pilothouse_core.names import is_key

SECRET = "$secret"  # noqa: S105 - the member's name, not a secret
Tree = dict[str, Any]
_ABSENT: Any = object()


class BadKey(ValueError):
    """A member whose path is outside the grammar of keys."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"{shortened(key)!r} is not a key: dotted segments of [A-Za-z0-9_-]{{1,64}}"
        )
        self.key = shortened(key)


class KeysConflict(ValueError):
    """Two keys of one document of which one is the section the other lies in."""

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(f"{outer!r} cannot hold a value and be the section of {inner!r} at once")
        self.outer, self.inner = outer, inner


def shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def is_secret(value: object) -> bool:
    return isinstance(value, dict) and SECRET in value


def is_section(value: object) -> bool:
    """Tell whether `value` holds further keys: an object that is neither empty nor a secret."""
    return isinstance(value, dict) and bool(value) and SECRET not in value


def joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def expanded(members: Mapping[str, Any], prefix: str = "") -> Tree:
    """Return `members` with dotted names spread into nested sections; the later spelling wins.

    Raises BadKey and KeysConflict.
    """
    tree: Tree = {}
    for name, value in members.items():
        key = joined(prefix, name)
        if not is_key(key):
            raise BadKey(key)
        graft(tree, name, expanded(value, key) if is_section(value) else value, prefix)
    return tree


def graft(tree: Tree, path: str, value: Any, prefix: str = "") -> None:
    """Set `path` in place, merging sections; `prefix` is where `tree` itself lies.

    Raises KeysConflict when a value would lie on or below another value.
    """
    whole = joined(prefix, path)
    *outer, last = path.split(".")
    for name in outer:
        prefix = joined(prefix, name)
        below = tree.get(name, {})
        if not isinstance(below, dict) or is_secret(below):
            raise KeysConflict(prefix, next(leaves({whole: value}))[0])
        if not below:
            # An empty object may be shared with another tree: it is replaced, never filled.
            tree[name] = below = {}
        tree = below
    _place(tree, last, value, whole)


def _place(tree: Tree, name: str, value: Any, key: str) -> None:
    present = tree.get(name, _ABSENT)
    if is_section(present) and is_section(value):
        for inner, leaf in value.items():
            _place(present, inner, leaf, joined(key, inner))
    elif is_section(present):
        if value != {}:
            raise KeysConflict(key, joined(key, _first_key(present)))
    elif is_section(value) and present is not _ABSENT and present != {}:
        raise KeysConflict(key, joined(key, _first_key(value)))
    else:
        tree[name] = copied(value) if is_section(value) else value


def _first_key(section: Mapping[str, Any]) -> str:
    return next(key for key, _ in leaves(section))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (key, leaf) in member order."""
    for name, value in tree.items():
        key = joined(prefix, name)
        if is_section(value):
            yield from leaves(value, key)
        else:
            yield key, value


def at(tree: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the leaf or section at `key`, or `default`."""
    value: Any = tree
    for name in key.split("."):
        if not isinstance(value, dict) or is_secret(value) or name not in value:
            return default
        value = value[name]
    return value


def has(tree: Mapping[str, Any], key: str) -> bool:
    return at(tree, key, _ABSENT) is not _ABSENT


def without(tree: Mapping[str, Any], key: str) -> Tree:
    """Return a copy in which `key` and the sections it leaves empty are gone."""
    name, _, rest = key.partition(".")
    copy = dict(tree)
    if not rest or not is_section(copy.get(name)):
        if not rest:
            copy.pop(name, None)
        return copy
    copy[name] = without(copy[name], rest)
    if not copy[name]:
        del copy[name]
    return copy


def copied(tree: Mapping[str, Any]) -> Tree:
    """Return a copy whose sections may be changed; leaves are shared."""
    return {name: copied(value) if is_section(value) else value for name, value in tree.items()}
