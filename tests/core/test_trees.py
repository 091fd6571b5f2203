import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.trees import BadKey, KeysConflict, at, expanded, graft, has, leaves, without

segments = st.text("abc-_1", min_size=1, max_size=3)
scalars = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
trees = st.recursive(
    st.dictionaries(segments, scalars, max_size=4),
    lambda below: st.dictionaries(segments, scalars | below, max_size=4),
    max_leaves=12,
)


def test_dotted_and_nested_spellings_are_one_key() -> None:
    assert expanded({"a.b": 1, "a": {"c.d": 2}}) == {"a": {"b": 1, "c": {"d": 2}}}


def test_the_later_spelling_wins() -> None:
    assert expanded({"a": {"b": 1}, "a.b": 2}) == {"a": {"b": 2}}


@pytest.mark.parametrize(
    "members",
    [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}, {"a": {"b": 1}, "a.b.c": 2}, {"a": None, "a.b": 1}],
)
def test_a_value_cannot_lie_below_a_value(members: dict[str, object]) -> None:
    with pytest.raises(KeysConflict) as conflict:
        expanded(members)

    assert conflict.value.inner.startswith(conflict.value.outer + ".")


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "é", "a/b", "x" * 65, "a\n"])
def test_a_member_outside_the_grammar_is_named(name: str) -> None:
    with pytest.raises(BadKey):
        expanded({"outer": {name: 1}})


def test_names_inside_lists_are_free() -> None:
    assert expanded({"a": [{"any name": 1}]}) == {"a": [{"any name": 1}]}


@given(trees)
def test_leaves_put_back_make_the_same_tree(tree: dict[str, object]) -> None:
    rebuilt: dict[str, object] = {}
    for key, value in leaves(tree):
        graft(rebuilt, key, value)

    assert rebuilt == expanded(dict(leaves(tree)))
    assert dict(leaves(rebuilt)) == dict(leaves(tree))


@given(trees)
def test_a_key_taken_out_is_gone_and_the_others_stay(tree: dict[str, object]) -> None:
    everything = dict(leaves(tree))
    for key in everything:
        rest = without(tree, key)

        assert not has(rest, key)
        assert dict(leaves(rest)) == {k: v for k, v in everything.items() if k != key}


@given(trees)
def test_every_leaf_is_found_at_its_key(tree: dict[str, object]) -> None:
    for key, value in leaves(tree):
        assert at(tree, key) == value


def test_grafting_never_fills_what_another_tree_holds() -> None:
    shared: dict[str, object] = {"a": {}, "b": {"c": 1}}
    tree = dict(shared)

    graft(tree, "a.x", 1)
    graft(tree, "d", shared["b"])
    graft(tree, "d.e", 2)

    assert shared == {"a": {}, "b": {"c": 1}}
    assert tree == {"a": {"x": 1}, "b": {"c": 1}, "d": {"c": 1, "e": 2}}


def test_a_conflict_names_the_whole_key() -> None:
    with pytest.raises(KeysConflict) as conflict:
        graft({"a": {"b": 1}}, "a.b.c.d", 2)

    assert (conflict.value.outer, conflict.value.inner) == ("a.b", "a.b.c.d")
