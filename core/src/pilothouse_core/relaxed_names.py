"""Relaxed names, as Spring binds them: `first-name`, `firstName` and `first_name` are one. Pure.

Two names are the same if they differ in case, dashes and underscores only. A name that has other
characters than letters, digits, dashes and underscores is the same as itself alone: such members
are keys of maps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pilothouse_core.keys import canonical_key, is_plain, key_of, names_of
from pilothouse_core.trees import Tree, child_key, contains_key, is_section

Layer = TypeVar("Layer")


@dataclass(slots=True)
class AlignedLayers(Generic[Layer]):
    """Layers in which names that are the same are spelled the same.

    `stored` has, by layer and key, how a leaf is spelled in its layer, where that differs.
    """

    layers: list[tuple[Layer, Tree]] = field(default_factory=list)
    stored: dict[tuple[Layer, str], str] = field(default_factory=dict)


def align_spellings(layers: Sequence[tuple[Layer, Mapping[str, Any]]]) -> AlignedLayers[Layer]:
    """Spell each name as the highest layer does that has it; lowest layer first.

    Of two spellings in one layer, the first one counts and what it says.
    """
    result: AlignedLayers[Layer] = AlignedLayers()
    spellings: _Spellings = {}
    for layer, tree in reversed(layers):
        stored: dict[str, str] = {}
        result.layers.insert(0, (layer, _align_section(tree, spellings, "", "", stored)))
        result.stored.update({(layer, key): spelled for key, spelled in stored.items()})
    return result


def relaxed_finder(tree: Mapping[str, Any]) -> Callable[[str], str | None]:
    """Return a function that finds the key of an aligned tree that a name means, if any does."""
    keys: dict[str, str] = {}
    _index(tree, "", keys)

    def find(name: str) -> str | None:
        key = canonical_key(name)
        if not key or contains_key(tree, key):
            return key or None
        names = names_of(key)
        for count in range(len(names), 0, -1):  # what is behind may lie in a list
            outer_key = keys.get(_uniform_key(names[:count]))
            if outer_key is not None:
                whole = key_of([*names_of(outer_key), *names[count:]])
                return whole if contains_key(tree, whole) else None
        return None

    return find


def _index(section: Mapping[str, Any], key: str, keys: dict[str, str]) -> None:
    for name, value in section.items():
        here = child_key(key, name)
        keys.setdefault(_uniform_key(names_of(here)), here)
        if is_section(value):
            _index(value, here, keys)


def _uniform_key(names: Sequence[str]) -> str:
    return ".".join(map(uniform_name, names))


def uniform_name(name: str) -> str:
    """Return the common form of all spellings of a name."""
    if not is_plain(name):
        return f"[{name}]"
    return name.replace("-", "").replace("_", "").lower() or name


@dataclass(slots=True)
class _Spelling:
    name: str
    below: "_Spellings" = field(default_factory=dict)


_Spellings = dict[str, _Spelling]


def _align_section(
    section: Mapping[str, Any],
    spellings: _Spellings,
    key: str,
    written: str,
    stored: dict[str, str],
) -> Tree:
    tree: Tree = {}
    for name, value in section.items():
        spelling = spellings.setdefault(uniform_name(name), _Spelling(name))
        here, there = child_key(key, spelling.name), child_key(written, name)
        present = tree.get(spelling.name)
        if is_section(value):
            inner = _align_section(value, spelling.below, here, there, stored)
            if present is None:
                tree[spelling.name] = inner
            elif is_section(present):
                _add_missing(present, inner)
        elif spelling.name not in tree:
            tree[spelling.name] = value
            if here != there:
                stored[here] = there
    return tree


def _add_missing(present: Tree, additions: Mapping[str, Any]) -> None:
    for name, value in additions.items():
        if name not in present:
            present[name] = value
        elif is_section(present[name]) and is_section(value):
            _add_missing(present[name], value)
