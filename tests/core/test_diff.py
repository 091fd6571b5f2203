from typing import Any

from hypothesis import given

from pilothouse_core.diff import diff
from pilothouse_core.trees import leaves, nested_tree
from tests.core.test_trees import trees


def test_json_types_are_kept_apart() -> None:
    assert diff({"a": 1, "b": True, "c": [1]}, {"a": 1.0, "b": 1, "c": [True]}).changed.keys() == {
        "a",
        "b",
        "c",
    }


@given(trees)
def test_nothing_differs_from_itself(tree: dict[str, Any]) -> None:
    assert not diff(tree, tree)


@given(trees, trees)
def test_a_diff_leads_from_the_old_leaves_to_the_new(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    found = diff(old, new)

    moved = {k: v for k, v in leaves(old) if k not in found.removed} | found.added
    moved |= {key: after for key, (_, after) in found.changed.items()}
    assert moved == dict(leaves(new))
    assert nested_tree(moved) == nested_tree(dict(leaves(new)))
