"""Keys lead to members: dots between plain names, brackets around all others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse_core.keys import canonical_key, is_below, is_key, join_key, key_of, names_of

any_text = st.text(min_size=1, max_size=12) | st.text("a.[]\\\\/ 0", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("database.pool.size", ("database", "pool", "size")),
        ("nodeSelector[kubernetes.io/os]", ("nodeSelector", "kubernetes.io/os")),
        ("my.map[/api/**]", ("my", "map", "/api/**")),
        ("[/api/**]", ("/api/**",)),
        ("kubernetes.io/os", ("kubernetes.io/os",)),
        ("My Team", ("My Team",)),
        ("$schema", ("$schema",)),
        ("args[pattern]", ("args", "pattern")),
        ("a[b].c[d e].f", ("a", "b", "c", "d e", "f")),
        ("a[b][c d]", ("a", "b", "c d")),
        ("a.[b c]", ("a", "b c")),
        ("x" * 78, ("x" * 78,)),
        ("[com.acme]", ("[com.acme]",)),
        ("a[b\\]c]", ("a", "b]c")),
        ("a[b", ("a[b",)),
        ("a[]", ("a[]",)),
        ("a[b]c", ("a[b]c",)),
        ("a..b", ("a..b",)),
        (".a", (".a",)),
    ],
)
def test_a_key_leads_to_these_members(key: str, names: tuple[str, ...]) -> None:
    assert names_of(key) == names


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        ("a.b", "a.b"),
        ("a[b]", "a.b"),
        ("[a].[b]", "a.b"),
        ("a[b c]", "a[b c]"),
        ("a.[b c]", "a[b c]"),
        ("b c", "[b c]"),
        ("a.b c", "[a.b c]"),
        ("[com.acme]", "[com.acme]"),
    ],
)
def test_every_key_has_one_canonical_spelling(key: str, canonical: str) -> None:
    assert canonical_key(key) == canonical


@given(any_text)
def test_a_canonical_key_is_its_own_canonical_key(key: str) -> None:
    canonical = canonical_key(key)

    assert canonical_key(canonical) == canonical
    assert names_of(canonical) == names_of(key)


@given(st.lists(any_text, min_size=1, max_size=4))
def test_the_names_of_a_key_are_those_it_was_made_of(names: list[str]) -> None:
    members = [name for one in names for name in names_of(one)]

    assert list(names_of(key_of(members))) == members


@given(any_text)
def test_a_member_that_is_sent_back_is_the_same_member(name: str) -> None:
    for member in names_of(name):
        assert names_of(member) == (member,)


def test_what_lies_below_a_section() -> None:
    assert is_below("a.b", "a")
    assert is_below("a[b c]", "a")
    assert is_below("a", "")
    assert not is_below("ab", "a")
    assert not is_below("a", "a")
    assert is_below(join_key("a[b c]", "d"), "a[b c]")


@pytest.mark.parametrize("text", ["", "a\n", "a\x00b", "x" * 257 + "/", "\ud800", "a." * 600 + "a"])
def test_what_no_document_can_hold_is_no_key(text: str) -> None:
    assert not is_key(text)
