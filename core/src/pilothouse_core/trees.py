"""Documents as trees: a key leads to a leaf or to a section of further keys.

A leaf is a scalar, a list, an empty object or a secret (an object with the member `$secret`);
every other object is a section. A section may also have a value of its own, the leaf at its
member `$value`: that leaf has the key of the section.

A list is one leaf. Its items are still addressed by their numbers: `users[0].password`, which may
be spelled `users.0.password` as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse_core.keys import (
    KEY_GRAMMAR,
    MAX_KEY_LENGTH,
    bare_name,
    is_member,
    join_item,
    join_key,
    join_member,
    names_of,
)

SECRET = "$secret"  # noqa: S105 - the member's name, not a secret
OWN_VALUE = "$value"  # the member with the value that a section has of its own
Tree = dict[str, Any]
_ABSENT: Any = object()
_MOST_DIGITS = 6  # of the number of an item


class BadKey(ValueError):
    """A member whose path is outside the grammar of keys."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{truncated_text(key)!r} is not a valid key: {KEY_GRAMMAR}")
        self.key = truncated_text(key)


class DuplicateKey(ValueError):
    """One key with two values, in two spellings, such as `{"a.b": 1, "a": {"b": 2}}`."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{truncated_text(key)!r} is given twice, with different values")
        self.key = truncated_text(key)


class KeysConflict(ValueError):
    """Two keys of one document of which one is the section the other lies in."""

    def __init__(self, outer: str, inner: str) -> None:
        super().__init__(f"{outer!r} cannot hold a value and be the section of {inner!r} at once")
        self.outer, self.inner = outer, inner


def truncated_text(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def is_secret(value: object) -> bool:
    return isinstance(value, dict) and SECRET in value


def is_section(value: object) -> bool:
    """Tell whether `value` holds further keys: an object that is neither empty nor a secret."""
    return isinstance(value, dict) and bool(value) and SECRET not in value


def has_own_value(value: object) -> bool:
    """Tell whether `value` is a section with a value of its own."""
    return isinstance(value, dict) and OWN_VALUE in value and SECRET not in value


def child_key(section: str, name: str) -> str:
    """Return the key of a member of a section; its own value has the key of the section."""
    return section if name == OWN_VALUE and section else join_key(section, name)


def nested_tree(members: Mapping[str, Any], prefix: str = "", *, keep_both: bool = False) -> Tree:
    """Return `members` with names that are paths spread into nested sections.

    With `keep_both`, a key that has a value and is a section gets both, as files of Spring mean
    it. Raises BadKey, DuplicateKey and, without `keep_both`, KeysConflict.
    """
    tree: Tree = {}
    rule = _Rule(once=True, keep_both=keep_both)
    for name, value in members.items():
        names = names_of(name)
        key = prefix
        for one in names:
            key = child_key(key, one)
        # Of the prefix, each name was looked at before.
        if len(key) > MAX_KEY_LENGTH or not all(map(is_member, names)):
            raise BadKey(key)
        inner = nested_tree(value, key, keep_both=keep_both) if is_section(value) else value
        if len(names) > 1 or names[0] in tree:
            _set_in(tree, names, inner, prefix, rule)
        else:
            tree[names[0]] = inner
    return tree


@dataclass(frozen=True)
class _Rule:
    """`once`: another value at the same key is DuplicateKey, not its successor.

    `keep_both`: a value and a section at one key are no conflict.
    """

    once: bool = False
    keep_both: bool = False


_STRICT = _Rule()


def set_in(tree: Tree, path: str, value: Any, prefix: str = "", *, keep_both: bool = False) -> None:
    """Set `path` in place, merging sections; `prefix` is where `tree` itself lies.

    Raises KeysConflict when a value would lie on or below another value, unless `keep_both`.
    """
    _set_in(tree, names_of(path), value, prefix, _Rule(keep_both=keep_both))


def merge_into(tree: Tree, additions: Mapping[str, Any], *, keep_both: bool = False) -> None:
    """Set in place all that `additions` say, a nested tree; as `set_in` does for one key.

    A section with the numbers of items that a list has sets those items.
    """
    rule = _Rule(keep_both=keep_both)
    for name, value in additions.items():
        _place(tree, name, value, child_key("", name), rule)


def _set_in(tree: Tree, names: Sequence[str], value: Any, prefix: str, rule: _Rule) -> None:
    *outer, last = names
    for depth, name in enumerate(outer):
        prefix = child_key(prefix, name)
        below = tree.get(name, {})
        if not isinstance(below, dict) or is_secret(below):
            if not rule.keep_both:
                rest = prefix
                for inner in names[depth + 1 :]:
                    rest = child_key(rest, inner)
                first = next(leaves(value, rest))[0] if is_section(value) else rest
                raise KeysConflict(prefix, first)
            tree[name] = below = {OWN_VALUE: below}
        if not below:
            # An empty object may be shared with another tree: it is replaced, never filled.
            tree[name] = below = {}
        tree = below
    _place(tree, last, value, child_key(prefix, last), rule)


def _place(tree: Tree, name: str, value: Any, key: str, rule: _Rule) -> None:
    present = tree.get(name, _ABSENT)
    if is_section(present):
        _place_on_section(tree, name, value, key, rule)
    elif is_section(value) and present is not _ABSENT and present != {}:
        _place_section(tree, name, value, key, rule)
    elif rule.once and present is not _ABSENT and _contradict(present, value):
        raise DuplicateKey(key)
    else:
        tree[name] = copy_sections(value) if is_section(value) else value


def _place_on_section(tree: Tree, name: str, value: Any, key: str, rule: _Rule) -> None:
    section = tree[name]
    if is_section(value):
        for inner, leaf in value.items():
            _place(section, inner, leaf, child_key(key, inner), rule)
    elif value == {}:
        return
    elif OWN_VALUE in section or rule.keep_both:
        _place(section, OWN_VALUE, value, key, rule)
    else:
        raise KeysConflict(key, child_key(key, _first_key(section)))


def _place_section(tree: Tree, name: str, value: Tree, key: str, rule: _Rule) -> None:
    """Place a section where a leaf is: items of a list, or both of them where that is meant."""
    present = tree[name]
    if isinstance(present, list) and not rule.once and _are_items(present, value):
        items = dict(enumerate(_mutable_copy(present)))
        for index, item in value.items():
            _place_item(items, int(index), item, join_item(key, int(index)), rule)
        tree[name] = list(items.values())
    elif OWN_VALUE in value:
        if rule.once and _contradict(present, value[OWN_VALUE]):
            raise DuplicateKey(key)
        tree[name] = copy_sections(value)
    elif rule.keep_both:
        tree[name] = {OWN_VALUE: present, **copy_sections(value)}
    else:
        raise KeysConflict(key, child_key(key, _first_key(value)))


def _place_item(items: Any, index: Any, value: Any, key: str, rule: _Rule) -> None:
    """Place inside of a list, where objects are sections but hold no values of their own."""
    present = items[index]
    if is_section(value) and isinstance(present, list) and _are_items(present, value):
        for inner, item in value.items():
            _place_item(present, int(inner), item, join_item(key, int(inner)), rule)
    elif is_section(value) and isinstance(present, dict) and not is_secret(present):
        for inner, item in value.items():
            if inner in present:
                _place_item(present, inner, item, join_member(key, inner), rule)
            else:
                present[inner] = item
    elif is_section(value) != is_section(present) and {} not in (value, present):
        outer, inner = (key, value) if is_section(value) else (key, present)
        raise KeysConflict(outer, join_member(key, _first_key(inner)))
    else:
        items[index] = value


def _are_items(present: list[Any], value: Mapping[str, Any]) -> bool:
    return all(item_index(present, name) is not None for name in value)


def item_index(items: Sequence[Any], name: str) -> int | None:
    """Return the index that a name in a key means in a list, if the list has such an item."""
    if not name.isascii() or not name.isdecimal() or len(name) > _MOST_DIGITS:
        return None
    index = int(name)
    return index if index < len(items) and str(index) == name else None


def _mutable_copy(value: Any) -> Any:
    """Return a copy whose lists and objects may be changed, secrets excepted."""
    if isinstance(value, list):
        return [_mutable_copy(item) for item in value]
    if is_section(value):
        return {name: _mutable_copy(inner) for name, inner in value.items()}
    return value


def _contradict(present: Any, value: Any) -> bool:
    """Tell whether two leaves contradict; an empty object contradicts nothing."""
    return present != {} and (type(present) is not type(value) or present != value)


def _first_key(section: Mapping[str, Any]) -> str:
    return next(key for key, _ in leaves(section))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every (key, leaf) in member order; the value of a section has the section's key."""
    for name, value in tree.items():
        key = child_key(prefix, name)
        if is_section(value):
            yield from leaves(value, key)
        else:
            yield key, value


def scalars(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of all that is in a leaf: of a list, of its items by their numbers."""
    if isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from scalars(item, join_item(key, index))
    elif is_section(value):
        for name, inner in value.items():
            yield from scalars(inner, join_member(key, name))
    else:
        yield key, value


def map_leaves(
    tree: Mapping[str, Any], change: Callable[[str, Any], Any], prefix: str = ""
) -> Tree:
    """Return a copy in which each leaf is replaced by `change(key, leaf)`."""
    result: Tree = {}
    for name, value in tree.items():
        key = child_key(prefix, name)
        result[name] = map_leaves(value, change, key) if is_section(value) else change(key, value)
    return result


def node_at(tree: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the leaf, section or item of a list at `key`, or `default`."""
    value: Any = tree
    in_list = False
    for name in names_of(key):
        in_list = in_list or isinstance(value, list)
        value = _member_of(value, _name_in(value, name) if in_list else name)
        if value is _ABSENT:
            return default
    return value


def _member_of(value: Any, name: str) -> Any:
    if isinstance(value, list):
        index = item_index(value, name)
        return _ABSENT if index is None else value[index]
    if not isinstance(value, dict) or is_secret(value):
        return _ABSENT
    return value.get(name, _ABSENT)


def _name_in(value: Any, name: str) -> str:
    """Return the name that a member has in a list, where a name with a dot has no brackets."""
    return bare_name(name) if isinstance(value, dict) and name not in value else name


def contains_key(tree: Mapping[str, Any], key: str) -> bool:
    return node_at(tree, key, _ABSENT) is not _ABSENT


def value_at(tree: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value at `key`; for a section with a value of its own, that value."""
    value = node_at(tree, key, default)
    return value[OWN_VALUE] if has_own_value(value) else value


def has_children(value: Any) -> bool:
    """Tell whether further keys lie below a section that has a value of its own."""
    return has_own_value(value) and len(value) > 1


def leaf_key(tree: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Return the key of the leaf in which `key` lies, and `key` with items in brackets.

    Both are `key` unless it leads into a list.
    """
    value: Any = tree
    leaf: str | None = None
    spelled = ""
    for name in names_of(key):
        if isinstance(value, list):
            leaf = spelled if leaf is None else leaf
            index = item_index(value, name)
            spelled = join_key(spelled, name) if index is None else join_item(spelled, index)
        elif leaf is None:
            spelled = child_key(spelled, name)
        else:
            name = _name_in(value, name)  # noqa: PLW2901 - the same member
            spelled = join_member(spelled, name)
        value = _member_of(value, name)
    return (spelled if leaf is None else leaf), spelled


def with_change_at(tree: Mapping[str, Any], key: str, change: Callable[[Any], Any]) -> Tree:
    """Return a copy in which the value at `key`, which must exist, is replaced by `change(value)`.

    All on the way there is copied, so that nothing is shared with `tree`.
    """
    result: Tree = _with_change_at(tree, names_of(key), change)
    return result


def _with_change_at(value: Any, names: Sequence[str], change: Callable[[Any], Any]) -> Any:
    if not names:
        return change(value)
    name, *rest = names
    if isinstance(value, list):
        items = list(value)
        items[int(name)] = _with_change_at(items[int(name)], rest, change)
        return items
    name = _name_in(value, name)
    return {**value, name: _with_change_at(value[name], rest, change)}


def without_key(tree: Mapping[str, Any], key: str) -> Tree:
    """Return a copy in which `key` and the sections it leaves empty are gone.

    Of a list, only members of its items can be taken out: its items have no names.
    """
    result: Tree = _without_key(tree, names_of(key))
    return result


def _without_key(value: Any, names: Sequence[str]) -> Any:
    name, *rest = names
    if isinstance(value, list):
        index = item_index(value, name)
        if index is None or not rest:
            return value
        return [*value[:index], _without_key(value[index], rest), *value[index + 1 :]]
    if not isinstance(value, dict) or is_secret(value):
        return value
    name = _name_in(value, name)
    if name not in value:
        return value
    copy = dict(value)
    if not rest:
        del copy[name]
        return copy
    copy[name] = _without_key(copy[name], rest)
    if copy[name] == {} and value[name] != {}:
        del copy[name]
    return copy


def copy_sections(tree: Mapping[str, Any]) -> Tree:
    """Return a copy whose sections may be changed; leaves are shared."""
    return {
        name: copy_sections(value) if is_section(value) else value for name, value in tree.items()
    }
