"""The merge of layers: objects deeply, lists and scalars replace, every value names its layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pilothouse_core.trees import Tree, is_section, joined

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
        _lay(merged, merged.data, "", tree, layer)
    return merged


def _lay(
    merged: Merged[Layer], target: Tree, prefix: str, tree: Mapping[str, Any], layer: Layer
) -> None:
    for name, value in tree.items():
        key = joined(prefix, name)
        if is_section(value):
            if not is_section(target.get(name)):
                merged.sources.pop(key, None)
                target[name] = {}
            _lay(merged, target[name], key, value, layer)
        elif value != {} or not is_section(target.get(name)):
            if is_section(target.get(name)):
                _forget(merged, key)
            target[name] = value
            merged.sources[key] = layer


def _forget(merged: Merged[Layer], section: str) -> None:
    below = section + "."
    for key in [key for key in merged.sources if key.startswith(below)]:
        del merged.sources[key]
