"""Patches of stored documents: made of two versions, compared with a third. Pure."""

from collections.abc import Collection, Sequence

from app.configs.documents.edits import Edit, PatchKeys, PatchSealed
from app.configs.model import Body, Draft
from app.configs.removals import DROPPED
from pilothouse_core.diff import diff, is_same
from pilothouse_core.keys import canonical_key, is_below
from pilothouse_core.trees import Tree, contains_key, copy_sections, leaves, node_at, set_in


def sealed_patch(before: Tree, after: Tree) -> PatchSealed:
    """Return the edit that leads from stored data to other stored data."""
    changes = diff(before, after)
    changed = {**changes.added, **{key: new for key, (_, new) in changes.changed.items()}}
    tree: Tree = {}
    for key, value in changed.items():
        set_in(tree, key, value, keep_both=True)
    return PatchSealed(tree, tuple(changes.removed))


def keys_changed_since(body: Body, base: int, keys: Sequence[str]) -> Sequence[str]:
    """Return those of some keys at, above or below which a document changed after version `base`.

    Where it does not remember any more which keys were removed, those that it lacks count.
    """
    changed = [key for key, fact in body.keys.items() if fact.version > base and key != DROPPED]
    is_forgotten = DROPPED in body.keys and body.keys[DROPPED].version > base
    return [
        key
        for key in keys
        if any(key == each or is_below(each, key) or is_below(key, each) for each in changed)
        or (is_forgotten and not contains_key(body.data, key))
    ]


def own_keys(edit: Edit, base: Body | None, draft: Draft) -> tuple[str, ...]:
    """Return the keys that a patch names, and those that it changes."""
    assert isinstance(edit, PatchKeys)
    changes = diff(base.data if base is not None else {}, draft.data or {})
    stated = [key for key, _ in leaves(edit.set)]
    named = [*stated, *map(canonical_key, edit.unset), *map(canonical_key, edit.encrypt)]
    return tuple(sorted({*named, *changes.added, *changes.removed, *changes.changed}))


def agrees(edit: PatchSealed, data: Tree, key: str) -> bool:
    """Tell whether a document has at a key what the edit makes of it."""
    if contains_key(edit.set, key):
        return contains_key(data, key) and is_same(node_at(edit.set, key), node_at(data, key))
    return key in edit.unset and not contains_key(data, key)


def without_keys(edit: PatchSealed, keys: Collection[str]) -> PatchSealed:
    """Return the edit without some keys, and all that lies below them."""
    tree: Tree = {}
    for key, value in leaves(copy_sections(edit.set)):
        if not any(key == each or is_below(key, each) for each in keys):
            set_in(tree, key, value, keep_both=True)
    return PatchSealed(tree, tuple(key for key in edit.unset if key not in keys))
