"""The merge of the core's layers, without the source of each value, which costs most of the time.

Sections that only one layer has are shared, not copied: two large files with few common sections
are merged quickly, and a section that has not changed since the last merge is the same object.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pilothouse_core.trees import OWN_VALUE, Tree, is_section


def merge_layers(layers: Iterable[Mapping[str, Any]]) -> Tree:
    """Merge documents, lowest layer first, as `pilothouse_core.layers.merge` does."""
    tree: Tree = {}
    for layer in layers:
        tree = _overlay(tree, layer)
    return tree


def _overlay(low: Mapping[str, Any], high: Mapping[str, Any]) -> Tree:
    tree = dict(low)
    for name, value in high.items():
        before: Any = tree.get(name)
        if not is_section(before):
            tree[name] = value
        elif is_section(value):
            tree[name] = _overlay(before, value)
        elif OWN_VALUE in before and value not in (None, {}):
            tree[name] = {**before, OWN_VALUE: value}
        elif value != {}:
            tree[name] = value
    return tree
