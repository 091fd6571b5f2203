from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.layers import merge, merged_data
from pilothouse_core.trees import leaves
from tests.core.test_trees import trees, valued_trees


def test_objects_merge_and_scalars_and_lists_replace() -> None:
    merged = merge(
        [
            ("low", {"db": {"host": "a", "port": 1}, "tags": [1, 2]}),
            ("high", {"db": {"port": 2}, "tags": [3]}),
        ]
    )

    assert merged.data == {"db": {"host": "a", "port": 2}, "tags": [3]}
    assert merged.sources == {"db.host": "low", "db.port": "high", "tags": "high"}


def test_null_is_a_value_that_hides_lower_layers() -> None:
    merged = merge([("low", {"a": {"b": 1}}), ("high", {"a": None})])

    assert merged.data == {"a": None}
    assert merged.sources == {"a": "high"}


def test_a_section_replaces_a_value() -> None:
    merged = merge([("low", {"a": 1}), ("high", {"a": {"b": 2}})])

    assert merged.data == {"a": {"b": 2}}
    assert merged.sources == {"a.b": "high"}


def test_an_empty_object_hides_nothing_below_a_section() -> None:
    assert merge([("low", {"a": {"b": 1}}), ("high", {"a": {}})]).data == {"a": {"b": 1}}


def test_a_secret_is_one_value() -> None:
    merged = merge([("low", {"a": {"b": 1}}), ("high", {"a": {"$secret": "masked"}})])

    assert merged.sources == {"a": "high"}


@given(st.lists(trees | valued_trees, min_size=1, max_size=4))
def test_every_leaf_has_the_value_of_the_layer_it_names(layers: list[dict[str, object]]) -> None:
    merged = merge(list(enumerate(layers)))

    found = dict(leaves(merged.data))
    assert found.keys() == merged.sources.keys()
    for key, value in found.items():
        assert dict(leaves(layers[merged.sources[key]]))[key] == value


@given(st.lists(trees | valued_trees, max_size=4))
def test_the_data_is_the_same_without_sources(layers: list[dict[str, object]]) -> None:
    assert merged_data(layers) == merge(enumerate(layers)).data


def test_a_value_of_its_own_keeps_what_lies_below() -> None:
    both = {"a": {"$value": 1, "b": 2}}
    for low, high, expected in (
        (both, {"a": 5}, {"a": {"$value": 5, "b": 2}}),
        (both, {"a": {"b": 5}}, {"a": {"$value": 1, "b": 5}}),
        ({"a": {"b": 1}}, {"a": {"$value": 5}}, {"a": {"b": 1, "$value": 5}}),
        ({"a": 1}, {"a": {"$value": 5, "c": 6}}, {"a": {"$value": 5, "c": 6}}),
        ({"a": {"$value": 1}}, {"a": {"b": 5}}, {"a": {"$value": 1, "b": 5}}),
        ({"a": {"$value": 1}}, {}, {"a": 1}),
        (both, {"a": None}, {"a": None}),
        (both, {"a": {"$value": None}}, {"a": {"$value": None, "b": 2}}),
    ):
        merged = merge([("low", low), ("high", high)])
        assert merged.data == expected
        assert merged.sources.keys() == dict(leaves(expected)).keys()


@given(valued_trees, valued_trees)
def test_no_merge_changes_its_layers(low: dict[str, object], high: dict[str, object]) -> None:
    before = (dict(leaves(low)), dict(leaves(high)))

    merge([("a", low), ("b", high), ("c", low)])
    merged_data([low, high, low])

    assert (dict(leaves(low)), dict(leaves(high))) == before


@given(trees)
def test_one_layer_is_itself_and_twice_is_once(tree: dict[str, object]) -> None:
    assert merge([("a", tree)]).data == tree
    assert merge([("a", tree), ("b", tree)]).data == tree


@given(trees, trees, trees)
def test_merging_is_associative_in_its_data(
    low: dict[str, object], middle: dict[str, object], high: dict[str, object]
) -> None:
    pairwise = merge([("x", merge([("a", low), ("b", middle)]).data), ("c", high)]).data

    assert pairwise == merge([("a", low), ("b", middle), ("c", high)]).data
