"""Patches of stored documents: exact, and stale where a key of theirs was changed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.configs.documents.edit_json import edit_from_json, edit_to_json
from app.configs.documents.edits import Edit, PatchSealed
from app.configs.removals import DROPPED
from app.proposals.items.sealed_patches import (
    agrees,
    keys_changed_since,
    sealed_patch,
    without_keys,
)
from pilothouse_core.diff import diff, is_same
from pilothouse_core.keys import is_below
from pilothouse_core.trees import Tree
from tests.configs.test_edits import DOCUMENT, KEYS, LEDGERS, STORED, Ledger


def data_after(before: Tree, edit: Edit) -> Tree:
    made = Ledger()
    made.apply(PatchSealed(before))
    body = made.current
    data = edit.apply(DOCUMENT, body).data
    if data is None:
        return {} if body is None else body.data
    return data


TREES = STORED.map(lambda tree: data_after({}, PatchSealed(tree)))


@given(TREES, TREES)
def test_a_patch_leads_from_one_tree_to_the_other(before: Tree, after: Tree) -> None:
    patch = sealed_patch(before, after)

    made = data_after(before, edit_from_json(edit_to_json(patch)))

    assert is_same(made, after)
    changes = diff(before, after)
    assert all(agrees(patch, made, key) for key in (*changes.added, *changes.changed))


@given(TREES, TREES)
def test_nothing_is_left_of_a_patch_without_its_keys(before: Tree, after: Tree) -> None:
    patch = sealed_patch(before, after)
    changes = diff(before, after)

    rest = without_keys(patch, {*changes.added, *changes.changed, *changes.removed})

    assert is_same(data_after(before, rest), before)


@given(LEDGERS, st.lists(KEYS, min_size=1, unique=True), st.data())
def test_keys_are_stale_exactly_if_they_were_changed_since(
    made: Ledger, keys: list[str], data: st.DataObject
) -> None:
    base = data.draw(st.integers(1, len(made.bodies)))
    changed: set[str] = set()
    for earlier, later in pairwise(made.bodies[base - 1 :]):
        changes = diff(earlier.data, later.data)
        changed |= {*changes.added, *changes.changed, *changes.removed}
    expected = [
        key
        for key in keys
        if any(key == each or is_below(each, key) or is_below(key, each) for each in changed)
    ]
    body = made.bodies[-1]

    stale = keys_changed_since(body, base, keys)

    assert set(expected) <= set(stale)
    assert DROPPED in body.keys or list(stale) == expected
