"""The merge of the core's layers, without saying where each value comes from, and so for free.

Sections that only one layer has are shared, not copied: two large files that have little in common
are merged in no time, and what has not changed since the last merge is the same object again.
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
