"""Versions, changes and the merge, without any source."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.changes import ChangeType, ConfigChange, changes_between, differences
from pilothouse.copies import deep_copy
from pilothouse.reload.paths import ABSENT, value_at
from pilothouse.reload.sharing import share_unchanged
from pilothouse.reload.state import (
    ManagedState,
    NoSuchVersion,
    Part,
    Parts,
    with_part,
    with_runtime,
)
from pilothouse_core.diff import diff, is_same
from pilothouse_core.layers import merge

NAMES = st.sampled_from("abc")
LEAVES = st.sampled_from([None, True, False, 0, 1, 1.0, "x", [], [1], [{"a": 1}]])
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=3),
    lambda inner: st.dictionaries(NAMES, inner | LEAVES, max_size=3),
    max_leaves=8,
)
OWN_VALUES = st.dictionaries(NAMES | st.just("$value"), LEAVES, max_size=3)
WITH_OWN_VALUES = st.dictionaries(NAMES, OWN_VALUES | LEAVES, max_size=3)


def state(max_versions: int = 50) -> tuple[ManagedState, list[ConfigChange]]:
    changes: list[ConfigChange] = []
    return ManagedState(max_versions, lambda _: None, changes.extend), changes


def put(held: ManagedState, name: str, data: dict[str, Any], priority: int = 0) -> None:
    order = sorted({*"lmh", name}).index(name)
    held.commit("test", lambda parts: with_part(parts, name, Part(priority, order, data)))


@given(TREES, TREES, TREES)
def test_sources_are_merged_as_the_core_merges_layers(low: Any, middle: Any, high: Any) -> None:
    held, _ = state()
    put(held, "h", high, 9)
    put(held, "l", low, 1)
    put(held, "m", middle, 5)

    expected = merge([("l", low), ("m", middle), ("h", high)])
    assert is_same(held.data, expected.data)
    assert {path: held.origin(path) for path in expected.sources} == expected.sources


@given(WITH_OWN_VALUES, WITH_OWN_VALUES)
def test_changes_are_the_difference_of_the_core(old: Any, new: Any) -> None:
    expected = diff(old, new)

    changes = changes_between(old, new)

    assert sorted(map(repr, differences(old, new))) == sorted(map(repr, changes))
    assert [change.path for change in changes] == sorted(change.path for change in changes)
    assert is_same(_new_values(changes, ChangeType.ADDED), expected.added)
    assert is_same(
        {one.path: one.old_value for one in changes if one.change_type is ChangeType.REMOVED},
        expected.removed,
    )
    assert is_same(
        _new_values(changes, ChangeType.MODIFIED),
        {key: after for key, (_, after) in expected.changed.items()},
    )


def _new_values(changes: Sequence[ConfigChange], kind: ChangeType) -> dict[str, Any]:
    return {one.path: one.new_value for one in changes if one.change_type is kind}


@given(TREES, TREES)
def test_a_settled_tree_is_the_new_one_and_shares_with_the_old(old: Any, new: Any) -> None:
    tree = share_unchanged(old, new)

    assert is_same(tree, new)
    assert (tree is old) == is_same(old, new)


@given(st.lists(TREES, min_size=2, max_size=5), st.data())
def test_a_rollback_restores_exactly_what_was(trees: list[Any], data: st.DataObject) -> None:
    held, _ = state()
    seen = []
    for tree in trees:
        before = held.version
        put(held, "m", tree)
        if held.version > before:
            seen.append(deep_copy(dict(held.data)))
    if len(seen) < 2:
        return
    steps = data.draw(st.integers(1, len(seen) - 1))

    held.roll_back(steps)

    assert is_same(held.data, seen[-1 - steps])


def test_rollbacks_one_after_the_other_go_further_back() -> None:
    held, _ = state()
    for number in range(1, 5):
        put(held, "m", {"a": number})

    values = []
    for _ in range(3):
        held.roll_back(1)
        values.append(held.data["a"])

    assert values == [3, 2, 1]
    with pytest.raises(NoSuchVersion):
        held.roll_back(1)
    assert [version.version for version in held.history()] == [7, 6, 5, 4, 3, 2, 1]


def test_only_so_many_versions_are_kept() -> None:
    held, _ = state(max_versions=3)
    for number in range(10):
        put(held, "m", {"a": number})

    assert [version.version for version in held.history()] == [10, 9, 8]
    with pytest.raises(NoSuchVersion):
        held.roll_back(3)
    held.roll_back(2)
    assert held.data == {"a": 7}


def test_what_changes_nothing_makes_no_version() -> None:
    held, changes = state()
    put(held, "h", {"a": 1}, 9)
    put(held, "l", {"a": 2}, 1)  # hidden

    assert held.version == 1
    assert len(changes) == 1

    put(held, "h", {}, 9)

    assert held.data == {"a": 2}


def test_a_refused_configuration_changes_nothing() -> None:
    def check(config: Mapping[str, Any]) -> None:
        if "bad" in config:
            raise ValueError("bad")

    held = ManagedState(5, check, lambda _: None)
    put(held, "m", {"a": 1})

    with pytest.raises(ValueError, match="bad"):
        put(held, "m", {"bad": 1})
    put(held, "l", {"b": 2})

    assert held.data == {"a": 1, "b": 2}


def test_the_runtime_layer_is_above_all() -> None:
    held, _ = state()
    put(held, "h", {"a": {"b": 1, "c": 2}}, 10**9)
    held.commit("test", lambda parts: with_runtime(parts, {"a": {"b": 3}}))

    assert held.data == {"a": {"b": 3, "c": 2}}
    assert [held.origin(path) for path in ("a.b", "a.c", "a", "x")] == ["runtime", "h", None, None]
    assert Parts().merged_tree() == {}


def test_paths_lead_through_names_with_dots() -> None:
    tree = {"a": {"b": 1, "b.c": {"d": 2}}, "a.x": 3, "e": None}

    assert [value_at(tree, path) for path in ("a.b", "a.b.c.d", "a.x", "e")] == [1, 2, 3, None]
    assert [value_at(tree, path) for path in ("a.b.d", "b", "", "a.", "e.f")] == [ABSENT] * 5
