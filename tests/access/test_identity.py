"""Who is related to whom by the tokens that they made."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.identity import Lineage
from app.access.model import Principal

ANA = "person:https://login.example.org#ana"
# By id of the token: the identity of its maker. `old` was made by an earlier release.
MAKERS = {
    "first": "token:admin",
    "second": "token:admin",
    "child": "token:first",
    "grandchild": "token:child",
    "of-ana": ANA,
    "old": None,
    "of-old": "token:old",
    "by-command": "command",
    "also-by-command": "command",
}
LINEAGE = Lineage(MAKERS.get, frozenset({"admin"}))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("token:first", "token:first", True),
        ("token:first", "token:second", False),  # siblings
        ("token:first", "token:child", True),
        ("token:first", "token:grandchild", True),
        ("token:second", "token:grandchild", False),
        ("token:admin", "token:grandchild", True),
        ("token:admin", ANA, False),
        (ANA, "token:of-ana", True),
        (ANA, "token:first", False),
        ("person:https://other.example.org#ana", ANA, False),
        ("token:by-command", "token:also-by-command", False),
        ("token:old", "token:first", True),  # nobody knows who made it
        ("token:of-old", ANA, True),
        ("token:not-followed-yet", ANA, True),
        (None, ANA, True),
        (None, None, True),
    ],
)
def test_relations_follow_the_chain_of_makers(
    one: str | None,
    other: str | None,
    expected: bool,  # noqa: FBT001
) -> None:
    assert LINEAGE.relations([one]).includes(other) is expected
    assert LINEAGE.relations([other]).includes(one) is expected


def test_nobody_is_related_to_no_author() -> None:
    assert not LINEAGE.relations([]).includes(ANA)


def test_relations_of_several_are_those_of_each() -> None:
    relations = LINEAGE.relations(["token:child", ANA])

    assert relations.includes("token:first")
    assert relations.includes("token:of-ana")
    assert not relations.includes("token:second")


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdef")))
def test_no_chain_is_followed_without_end(makers: Mapping[str, str]) -> None:
    lineage = Lineage({token: f"token:{maker}" for token, maker in makers.items()}.get)

    for one in "abcdef":
        assert lineage.relations([f"token:{one}"]).includes(f"token:{one}")


def test_a_principal_is_known_by_its_token_or_by_issuer_and_subject() -> None:
    person = Principal("user:ana", (), issuer="https://login.example.org", subject="ana")

    assert Principal("token:ci", (), token_id="first").identity == "token:first"
    assert person.identity == ANA
    assert Principal("user:ana", (), issuer="https://login.example.org").identity is None
    assert Principal(None, ()).identity is None
