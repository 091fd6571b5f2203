"""Three-way merge by key: what a template wrote, what a document has, what it would write now.

A key is merged as a whole, and so is a list, which is one leaf. What was changed by hand stays, and
so does the removal of a key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilothouse_core.diff import is_same
from pilothouse_core.keys import key_of
from pilothouse_core.trees import OWN_VALUE, Tree, copy_sections, has_own_value, is_section, set_in

_Names = tuple[str, ...]
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class MergedTree:
    """`kept`: the keys, sorted, in which `data` differs from the new rendering, by hand."""

    data: Tree
    kept: tuple[str, ...]


def merge_three_ways(
    old: Mapping[str, Any], document: Mapping[str, Any], new: Mapping[str, Any]
) -> MergedTree:
    """Turn the `old` rendering in a document into the `new` one, but for what is changed by hand.

    Keys of neither rendering stay. A key that the document has, that `old` lacks and `new` has with
    another value, counts as changed by hand. So does a section where `new` has a value, and a value
    where it has a section, unless `document` or `new` means both.
    """
    before, present, wanted = dict(_paths(old)), dict(_paths(document)), dict(_paths(new))
    changed = {
        names
        for names in before.keys() | wanted.keys()
        if not _is_equal(present.get(names, _ABSENT), before.get(names, _ABSENT))
    }
    removed = {names for names in before.keys() - wanted.keys() - changed if names in present}
    additions = {
        names: value
        for names, value in wanted.items()
        if names not in changed and not _is_equal(value, present.get(names, _ABSENT))
    }
    blocked = _blocked_additions(
        present.keys() - removed - additions.keys(), additions, (document, new)
    )
    data = copy_sections(document)
    for names in removed:
        _remove(data, names)
    for names, value in additions.items():
        if names not in blocked:
            set_in(data, key_of(names), value, keep_both=True)
    differing = {
        names
        for names in changed
        if not _is_equal(present.get(names, _ABSENT), wanted.get(names, _ABSENT))
    }
    return MergedTree(data, tuple(sorted(map(key_of, differing | blocked))))


def changed_keys(rendering: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a rendering, sorted, that a document lacks or has with another value."""
    present = dict(_paths(document))
    return tuple(
        sorted(
            key_of(names)
            for names, value in _paths(rendering)
            if not _is_equal(present.get(names, _ABSENT), value)
        )
    )


def _paths(tree: Mapping[str, Any], outer: _Names = ()) -> Iterator[tuple[_Names, Any]]:
    """Yield every leaf with the names that lead to its key; a section's value has its names."""
    for name, value in tree.items():
        names = outer if name == OWN_VALUE and outer else (*outer, name)
        if is_section(value):
            yield from _paths(value, names)
        else:
            yield names, value


def _is_equal(one: Any, other: Any) -> bool:
    return one is other or is_same(one, other)


def _blocked_additions(
    staying: set[_Names], additions: Mapping[_Names, Any], trees: Sequence[Mapping[str, Any]]
) -> set[_Names]:
    """Return the additions that lie above or below a leaf that stays, without both being meant."""
    sections = {names[:length] for names in staying for length in range(1, len(names))}
    blocked = {names for names in additions if names in sections and not _means_both(trees, names)}
    for names in additions:
        outer = (names[:length] for length in range(1, len(names)))
        if any(each in staying and not _means_both(trees, each) for each in outer):
            blocked.add(names)
    return blocked


def _means_both(trees: Sequence[Mapping[str, Any]], names: _Names) -> bool:
    """Tell whether a tree has, at these names, a section with a value of its own."""
    return any(has_own_value(_node(tree, names)) for tree in trees)


def _node(tree: Mapping[str, Any], names: _Names) -> Any:
    value: Any = tree
    for name in names:
        value = value.get(name) if is_section(value) else None
    return value


def _remove(tree: Tree, names: _Names) -> None:
    """Remove a leaf in place, and the sections that it leaves empty."""
    name, *rest = names
    inner = tree[name]
    if rest:
        _remove(inner, tuple(rest))
    elif is_section(inner):
        del inner[OWN_VALUE]
    else:
        del tree[name]
        return
    if not inner:
        del tree[name]
