"""The merge of layers: objects deeply, lists and scalars replace, every value names its layer.

A value and a section at one key replace each other, unless one of them says that it means both: a
section with a value of its own (`$value`) keeps what lies at its key and below, and a value set
over it replaces its value only. `null` hides all of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pilothouse_core.keys import is_below
from pilothouse_core.trees import OWN_VALUE, Tree, child_key, is_section

Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Merged(Generic[Layer]):
    """The merged document and, for every leaf's key, the layer it came from."""

    data: Tree = field(default_factory=dict)
    sources: dict[str, Layer] = field(default_factory=dict)


def merge(layers: Iterable[tuple[Layer, Mapping[str, Any]]]) -> Merged[Layer]:
    """Merge documents, lowest layer first. `null` is a value and hides lower layers."""
    merged: Merged[Layer] = Merged()
    for layer, tree in layers:
        _merge_layer(merged, merged.data, "", tree, layer)
    _collapse_own_values(merged.data)
    return merged


def merged_data(layers: Iterable[Mapping[str, Any]]) -> Tree:
    """Return the data of `merge` without noting sources, which takes most of the time there."""
    data: Tree = {}
    for tree in layers:
        _merge_values(data, tree)
    _collapse_own_values(data)
    return data


def _merge_values(target: Tree, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        present: Any = target.get(name)
        if not (isinstance(value, dict) or isinstance(present, dict)):
            target[name] = value  # nearly always: all the rest is for sections
        elif is_section(value):
            if not is_section(present):
                target[name] = {}
            _merge_values(target[name], value)
        elif not is_section(present):
            target[name] = value
        elif OWN_VALUE in present and value not in (None, {}):
            present[OWN_VALUE] = value
        elif value != {}:
            target[name] = value


def _merge_layer(
    merged: Merged[Layer], target: Tree, prefix: str, tree: Mapping[str, Any], layer: Layer
) -> None:
    for name, value in tree.items():
        key = child_key(prefix, name)
        present: Any = target.get(name)
        if is_section(value):
            if not is_section(present):
                merged.sources.pop(key, None)
                target[name] = {}
            _merge_layer(merged, target[name], key, value, layer)
        elif not is_section(present):
            target[name] = value
            merged.sources[key] = layer
        elif OWN_VALUE in present and value not in (None, {}):
            present[OWN_VALUE] = value
            merged.sources[key] = layer
        elif value != {}:
            _drop_sources(merged, key)
            target[name] = value
            merged.sources[key] = layer


def _collapse_own_values(tree: Tree) -> None:
    """Take a value of its own for the value of the key where nothing lies below."""
    for name, value in tree.items():
        if isinstance(value, dict) and is_section(value):
            _collapse_own_values(value)
            if value.keys() == {OWN_VALUE}:
                tree[name] = value[OWN_VALUE]


def _drop_sources(merged: Merged[Layer], section: str) -> None:
    for key in [key for key in merged.sources if is_below(key, section)]:
        del merged.sources[key]
