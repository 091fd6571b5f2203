"""The merge of the core's layers, without saying where each value comes from, and so for free.

Sections that only one layer has are shared, not copied: two large files that have little in common
are merged in no time, and what has not changed since the last merge is the same object again.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pilothouse_core.trees import Tree, is_section


def merged(layers: Iterable[Mapping[str, Any]]) -> Tree:
    """Merge documents, lowest layer first, as `pilothouse_core.layers.merge` does."""
    tree: Tree = {}
    for layer in layers:
        tree = _laid(tree, layer)
    return tree


def _laid(low: Mapping[str, Any], high: Mapping[str, Any]) -> Tree:
    tree = dict(low)
    for name, value in high.items():
        before: Any = tree.get(name)
        if not is_section(before):
            tree[name] = value
        elif is_section(value):
            tree[name] = _laid(before, value)
        elif value != {}:
            tree[name] = value
    return tree
