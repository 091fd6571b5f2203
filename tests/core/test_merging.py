"""Three-way merges of documents, of which the old and the new tree are renderings."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pilothouse_core.diff import is_same
from pilothouse_core.keys import is_below
from pilothouse_core.merging import changed_keys, merge_three_ways
from pilothouse_core.trees import OWN_VALUE, Tree, leaves, set_in

# Few names and values, so that the three trees meet: as values, as sections and as both.
NAMES = st.sampled_from(["a", "b", "c", "a.b", "x/y"])
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1, 1.0, 2, "one", [], [1], [{"a": 1}], {}, {"$secret": "sealed"}]
)
SECTIONS = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3),
    lambda inner: st.dictionaries(
        NAMES,
        VALUES
        | inner
        | st.builds(lambda value, section: {OWN_VALUE: value, **section}, VALUES, inner),
        max_size=3,
    ),
    max_leaves=8,
)


def _with_brackets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        f"[{name}]" if "." in name else name: _with_brackets(inner) for name, inner in value.items()
    }


# As documents hold names: in brackets where they would read as paths.
TREES = SECTIONS.map(_with_brackets)


def flat(tree: Tree) -> dict[str, Any]:
    return dict(leaves(tree))


def is_equal_at(one: Tree, other: Tree, key: str) -> bool:
    first, second = flat(one), flat(other)
    return (key in first) == (key in second) and is_same(first.get(key), second.get(key))


def keys_in_the_way(tree: Tree, other: Tree) -> list[str]:
    """Return the keys of one tree that are a section in the other, or lie below a value of it."""
    return [
        key for key in flat(tree) if any(is_below(key, o) or is_below(o, key) for o in flat(other))
    ]


@given(TREES, TREES)
def test_a_document_without_changes_by_hand_becomes_the_new_rendering(old: Tree, new: Tree) -> None:
    merged = merge_three_ways(old, old, new)

    assert is_same(flat(merged.data), flat(new)) or keys_in_the_way(new, new)
    assert merged.kept == () or keys_in_the_way(new, new)


@given(TREES, TREES, TREES)
def test_all_other_keys_stay_beside_the_new_rendering(old: Tree, new: Tree, rest: Tree) -> None:
    document: Tree = {"of_template": old, "rest": rest} if old else {"rest": rest}
    before: Tree = {"of_template": old} if old else {}
    after: Tree = {"of_template": new} if new else {}
    assume(not keys_in_the_way(new, new))

    merged = merge_three_ways(before, document, after)

    assert is_same(flat(merged.data), flat({**after, "rest": rest}))
    assert merged.kept == ()


@given(TREES, TREES)
def test_the_same_rendering_again_changes_nothing(rendering: Tree, document: Tree) -> None:
    merged = merge_three_ways(rendering, document, rendering)

    assert is_same(merged.data, document)
    assert set(merged.kept) == set(changed_keys(rendering, document))


@given(TREES, TREES, TREES)
def test_what_was_changed_by_hand_stays(old: Tree, document: Tree, new: Tree) -> None:
    merged = merge_three_ways(old, document, new)

    for key in flat(old).keys() | flat(document).keys():
        if not is_equal_at(old, document, key):
            assert is_equal_at(merged.data, document, key), key


@given(TREES, TREES, TREES)
def test_the_keys_that_are_kept_are_those_that_are_not_as_the_template_has_them(
    old: Tree, document: Tree, new: Tree
) -> None:
    merged = merge_three_ways(old, document, new)

    differing = {
        key for key in flat(old).keys() | flat(new).keys() if not is_equal_at(merged.data, new, key)
    }
    if not keys_in_the_way(new, new):
        assert set(merged.kept) == differing


@given(TREES, TREES, TREES)
def test_a_merge_leaves_its_trees_as_they_were_and_is_repeatable(
    old: Tree, document: Tree, new: Tree
) -> None:
    before = repr((old, document, new))

    merged = merge_three_ways(old, document, new)

    assert repr((old, document, new)) == before
    again = merge_three_ways(new, merged.data, new)
    assert is_same(again.data, merged.data)


@given(TREES, TREES, TREES)
def test_two_renderings_that_do_not_meet_may_come_in_any_order(
    document: Tree, first: Tree, second: Tree
) -> None:
    # The trees meet nowhere: not as one key, and not as a value and the section in its place.
    trees = [{"d": document}, {"one": first}, {"two": second}]
    rest, one, two = ({name: tree for name, tree in each.items() if tree} for each in trees)

    forwards = merge_three_ways({}, merge_three_ways({}, rest, one).data, two)
    backwards = merge_three_ways({}, merge_three_ways({}, rest, two).data, one)

    assert is_same(flat(forwards.data), flat(backwards.data))


@given(TREES, TREES)
def test_the_keys_of_a_rendering_are_those_it_sets_in_an_empty_document(
    old: Tree, new: Tree
) -> None:
    assume(not keys_in_the_way(new, new))
    assert is_same(
        flat(merge_three_ways(old, {}, new).data),
        {key: value for key, value in flat(new).items() if key not in flat(old)},
    ) or keys_in_the_way(old, new)


@pytest.mark.parametrize(
    ("old", "document", "new", "expected", "kept"),
    [
        ({"a": 1}, {"a": 1, "z": 9}, {"a": 2}, {"a": 2, "z": 9}, ()),
        ({"a": 1}, {"a": 3}, {"a": 2}, {"a": 3}, ("a",)),
        ({"a": 1}, {}, {"a": 2}, {}, ("a",)),  # removed by hand
        ({"a": 1}, {"a": 1}, {}, {}, ()),
        ({"a": 1}, {"a": 3}, {}, {"a": 3}, ("a",)),
        ({"a": 1}, {}, {}, {}, ()),
        ({"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}, ()),  # by hand, but as the template has it now
        ({}, {"a": 3}, {"a": 2}, {"a": 3}, ("a",)),
        ({"a": [1]}, {"a": [1]}, {"a": [2, 3]}, {"a": [2, 3]}, ()),
        ({"a": [1]}, {"a": [1, 5]}, {"a": [2, 1]}, {"a": [1, 5]}, ("a",)),
        ({"s": {"a": 1, "b": 2}}, {"s": {"a": 1, "b": 2}}, {"s": {"a": 1}}, {"s": {"a": 1}}, ()),
        ({"s": {"a": 1}}, {"s": {"a": 1}}, {"t": 1}, {"t": 1}, ()),  # no empty section is left
        # Sections against values.
        ({"s": {"a": 1}}, {"s": {"a": 1}}, {"s": 5}, {"s": 5}, ()),
        ({"s": {"a": 1}}, {"s": {"a": 1, "z": 9}}, {"s": 5}, {"s": {"z": 9}}, ("s",)),
        ({"s": 5}, {"s": 6}, {"s": {"a": 1}}, {"s": 6}, ("s", "s.a")),
        ({"s": 5}, {"s": 5}, {"s": {"a": 1}}, {"s": {"a": 1}}, ()),
        ({"s": [1]}, {"s": [2]}, {"s": {"0": {"a": 1}}}, {"s": [2]}, ("s", "s.0.a")),
        # Where the document means both, the template may set either.
        (
            {},
            {"s": {"$value": 1, "z": 9}},
            {"s": {"a": 1}},
            {"s": {"$value": 1, "z": 9, "a": 1}},
            (),
        ),
        (
            {"s": {"$value": 1}},
            {"s": {"$value": 1, "z": 9}},
            {"s": 2},
            {"s": {"$value": 2, "z": 9}},
            (),
        ),
        (
            {"s": {"$value": 1, "a": 2}},
            {"s": {"$value": 1, "a": 2}},
            {"s": {"a": 2}},
            {"s": {"a": 2}},
            (),
        ),
        # As JSON compares: the number 1 is not `true`, and not 1.0.
        ({"a": 1}, {"a": True}, {"a": 2}, {"a": True}, ("a",)),
        ({"a": 1}, {"a": 1.0}, {"a": 2}, {"a": 1.0}, ("a",)),
    ],
)
def test_merges_by_example(
    old: Tree, document: Tree, new: Tree, expected: Tree, kept: tuple[str, ...]
) -> None:
    merged = merge_three_ways(old, document, new)

    assert is_same(merged.data, expected)
    assert merged.kept == kept


def test_changed_keys_are_those_that_a_document_lacks_or_has_otherwise() -> None:
    rendering: Tree = {"a": 1, "b": {"c": [1], "d": 2}, "e": None}

    assert changed_keys(rendering, {"a": 1, "b": {"c": [2]}, "e": None, "z": 1}) == ("b.c", "b.d")


def test_a_merge_of_many_keys_takes_linear_time() -> None:
    old: Tree = {}
    for number in range(12_000):
        set_in(old, f"s{number % 7}.t{number % 11}.k{number}", number)

    merged = merge_three_ways(old, old, {"s1": {"t1": 5}, "s2": 7})

    assert merged.data == {"s1": {"t1": 5}, "s2": 7}
