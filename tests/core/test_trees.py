import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.keys import names_of
from pilothouse_core.trees import (
    OWN_VALUE,
    BadKey,
    DuplicateKey,
    KeysConflict,
    contains_key,
    copy_sections,
    leaf_key,
    leaves,
    map_leaves,
    merge_into,
    nested_tree,
    node_at,
    scalars,
    set_in,
    value_at,
    with_change_at,
    without_key,
)

segments = st.text("abc-_1", min_size=1, max_size=3) | st.text(
    "a./[] \\", min_size=1, max_size=4
).filter(lambda name: names_of(name) == (name,))
values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
trees = st.recursive(
    st.dictionaries(segments, values, max_size=4),
    lambda below: st.dictionaries(segments, values | below, max_size=4),
    max_leaves=12,
)


# Sections with values of their own among them.
valued_trees = st.recursive(
    st.dictionaries(segments, values, max_size=4),
    lambda below: st.dictionaries(
        segments,
        values
        | below
        | st.builds(lambda value, section: {OWN_VALUE: value, **section}, values, below),
        max_size=4,
    ),
    max_leaves=12,
)


@given(valued_trees)
def test_leaves_of_values_and_sections_make_the_same_tree_again(tree: dict[str, object]) -> None:
    rebuilt: dict[str, object] = {}
    for key, value in leaves(tree):
        set_in(rebuilt, key, value, keep_both=True)

    assert dict(leaves(rebuilt)) == dict(leaves(tree))
    assert nested_tree(dict(leaves(tree)), keep_both=True) == rebuilt
    assert nested_tree(tree) == tree


@given(valued_trees)
def test_every_value_is_read_at_its_key(tree: dict[str, object]) -> None:
    found = dict(leaves(tree))
    assert {key: value_at(tree, key) for key in found} == found
    assert map_leaves(tree, lambda _, leaf: leaf) == tree


@given(valued_trees, valued_trees)
def test_merging_in_sets_every_leaf_and_keeps_the_others(
    tree: dict[str, object], additions: dict[str, object]
) -> None:
    before, added = dict(leaves(tree)), dict(leaves(additions))
    merged = copy_sections(tree)

    merge_into(merged, additions, keep_both=True)

    said = {key: value for key, value in added.items() if value != {}}
    kept = {key: value for key, value in before.items() if value != {}}
    untouched = kept.keys() - added.keys()
    found = dict(leaves(merged))
    assert {key: found[key] for key in said} == said
    assert {key: found[key] for key in untouched} == {key: kept[key] for key in untouched}
    assert dict(leaves(tree)) == before


def test_items_of_lists_are_addressed_by_their_numbers() -> None:
    tree = {"users": [{"name": "ana", "a.b": [1, [2]]}]}

    for key, value in (
        ("users[0].name", "ana"),
        ("users.0.name", "ana"),
        ("users[0][a.b][1][0]", 2),
    ):
        assert node_at(tree, key) == value
    for key in ("users[1].name", "users[00].name", "users[-1]", "users[0].name[0]", "users.x"):
        assert not contains_key(tree, key)
    assert leaf_key(tree, "users.0.name") == ("users", "users[0].name")
    assert leaf_key(tree, "users[0][a.b][1].0") == ("users", "users[0][a.b][1][0]")
    assert dict(scalars(tree["users"], "users")) == {
        "users[0].name": "ana",
        "users[0][a.b][0]": 1,
        "users[0][a.b][1][0]": 2,
    }


def test_what_is_replaced_in_a_list_leaves_the_tree_as_it_was() -> None:
    tree = {"a": {"l": [{"b": 1}, 2]}}

    assert with_change_at(tree, "a.l[0].b", lambda _: 5) == {"a": {"l": [{"b": 5}, 2]}}
    assert without_key(tree, "a.l[0].b") == {"a": {"l": [{}, 2]}}
    merged = copy_sections(tree)
    merge_into(merged, {"a": {"l": {"0": {"c": 3}}}})
    assert merged == {"a": {"l": [{"b": 1, "c": 3}, 2]}}
    assert tree == {"a": {"l": [{"b": 1}, 2]}}


def test_dotted_and_nested_spellings_are_one_key() -> None:
    assert nested_tree({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}


@pytest.mark.parametrize(
    "members",
    [
        {"a": {"b": 1}, "a.b": 2},
        {"a.b": 1, "a": {"b": 2}},
        {"a.b": 1, "a[b]": 2},
        {"a": {"b.c": 1}, "a.b": {"c": True}},
        {"[x y]": 1, "x y": 2},
    ],
)
def test_one_key_with_two_values_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(DuplicateKey):
        nested_tree(members)


def test_one_value_in_two_spellings_is_no_contradiction() -> None:
    assert nested_tree({"a.b": 1, "a": {"b": 1}}) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "members",
    [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a": {"b": 1}, "a.b.c": 2}, {"a": None, "a.b": 1}],
)
def test_a_value_cannot_lie_below_a_value(members: dict[str, object]) -> None:
    with pytest.raises(KeysConflict) as conflict:
        nested_tree(members)

    assert conflict.value.inner.startswith(conflict.value.outer + ".")


@pytest.mark.parametrize("name", ["", "a\n", "\x7f", "x y" * 100, "\ud800", ".".join(["x"] * 600)])
def test_a_member_outside_the_grammar_is_named(name: str) -> None:
    with pytest.raises(BadKey):
        nested_tree({"outer": {name: 1}})


def test_names_inside_lists_are_free() -> None:
    assert nested_tree({"a": [{"any name": 1}]}) == {"a": [{"any name": 1}]}


@given(trees)
def test_leaves_put_back_make_the_same_tree(tree: dict[str, object]) -> None:
    rebuilt: dict[str, object] = {}
    for key, value in leaves(tree):
        set_in(rebuilt, key, value)

    assert rebuilt == nested_tree(dict(leaves(tree)))
    assert dict(leaves(rebuilt)) == dict(leaves(tree))


@given(trees)
def test_a_key_taken_out_is_gone_and_the_others_stay(tree: dict[str, object]) -> None:
    everything = dict(leaves(tree))
    for key in everything:
        rest = without_key(tree, key)

        assert not contains_key(rest, key)
        assert dict(leaves(rest)) == {k: v for k, v in everything.items() if k != key}


@given(trees)
def test_every_leaf_is_found_at_its_key(tree: dict[str, object]) -> None:
    for key, value in leaves(tree):
        assert node_at(tree, key) == value


def test_grafting_never_fills_what_another_tree_holds() -> None:
    shared: dict[str, object] = {"a": {}, "b": {"c": 1}}
    tree = dict(shared)

    set_in(tree, "a.x", 1)
    set_in(tree, "d", shared["b"])
    set_in(tree, "d.e", 2)

    assert shared == {"a": {}, "b": {"c": 1}}
    assert tree == {"a": {"x": 1}, "b": {"c": 1}, "d": {"c": 1, "e": 2}}


def test_a_conflict_names_the_whole_key() -> None:
    with pytest.raises(KeysConflict) as conflict:
        set_in({"a": {"b": 1}}, "a.b.c.d", 2)

    assert (conflict.value.outer, conflict.value.inner) == ("a.b", "a.b.c.d")
