"""How a token is written and told from any other text, and what it allows."""

import hashlib
import hmac
import string
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.access.model import (
    ANYBODY,
    CLIENT_RIGHTS,
    EVERY_RIGHT,
    RIGHTS_OF_ROLE,
    SERVICE_RIGHTS,
    Grant,
    Principal,
    Right,
)
from app.access.tokens.model import (
    CLASSES,
    LONGEST,
    generate_token,
    grants_of,
    missing_grant,
    parse_token_id,
    principal_of,
    token_digest,
)
from pilothouse_core.name_patterns import matches
from tests.access.tokens import KEY, NOW, new_token
from tests.trials import trials

CHARACTERS = string.ascii_letters + string.digits + "_-. \0é"
PATTERNS = st.text("ab*", min_size=1, max_size=5)
NAMES = ["".join(letters) for length in range(1, 6) for letters in product("ab", repeat=length)]


@pytest.mark.parametrize("token_class", CLASSES)
def test_what_is_minted_is_told_from_its_text_alone(token_class: str) -> None:
    token_id, text = generate_token(token_class)  # type: ignore[arg-type]

    assert parse_token_id(text) == token_id
    assert text.split("_")[:3] == ["plh", token_class, token_id]
    assert len(text) <= LONGEST
    assert len(generate_token(token_class)[1]) == len(text)  # type: ignore[arg-type]


def test_no_two_tokens_are_alike() -> None:
    texts = [generate_token("client")[1].split("_") for _ in range(1000)]

    assert len({text[2] for text in texts}) == len({text[3] for text in texts}) == 1000


@given(st.data())
@settings(max_examples=trials(300))
def test_a_single_wrong_character_is_noticed_without_any_store(data: st.DataObject) -> None:
    _, text = generate_token(data.draw(st.sampled_from(CLASSES)))
    place = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(st.sampled_from(CHARACTERS).filter(lambda found: found != text[place]))

    assert parse_token_id(text[:place] + wrong + text[place + 1 :]) is None


@given(st.data())
def test_a_token_that_is_cut_off_or_has_something_more_is_none(data: st.DataObject) -> None:
    _, text = generate_token("operator")
    more = data.draw(st.text(min_size=1))

    assert parse_token_id(text[: data.draw(st.integers(0, len(text) - 1))]) is None
    assert parse_token_id(text + more) is None
    assert parse_token_id(more + text) is None
    assert parse_token_id(text + "\n") is None


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    assert parse_token_id(text) is None
    assert parse_token_id(f"plh_service_{text}") is None


def test_a_digest_is_an_hmac_and_takes_any_text() -> None:
    assert token_digest(KEY, "text") == hmac.new(KEY, b"text", hashlib.sha256).digest()
    assert (
        len({token_digest(KEY, "\ud800"), token_digest(KEY, "é"), token_digest(b"x" * 32, "é")})
        == 3
    )


@pytest.mark.parametrize(
    ("token_class", "roles", "rights"),
    [
        ("service", (), SERVICE_RIGHTS),
        ("service", ("secrets:reveal",), SERVICE_RIGHTS | {Right.REVEAL}),
        ("client", (), CLIENT_RIGHTS),
        ("operator", ("viewer",), RIGHTS_OF_ROLE["viewer"]),
        ("operator", ("editor", "secrets:reveal"), RIGHTS_OF_ROLE["editor"] | {Right.REVEAL}),
        ("operator", ("publisher",), RIGHTS_OF_ROLE["publisher"]),
        ("admin", (), RIGHTS_OF_ROLE["admin"]),
        ("admin", ("secrets:reveal", "change:bypass"), EVERY_RIGHT),
    ],
)
def test_a_token_allows_what_its_class_and_roles_do(
    token_class: str, roles: tuple[str, ...], rights: frozenset[Right]
) -> None:
    token, _ = new_token(token_class, roles=roles)  # type: ignore[arg-type]

    assert grants_of(token) == (Grant(rights, ("staging",), ("billing", "invoice-*")),)


def test_who_shows_a_token_is_named_after_it() -> None:
    token, _ = new_token("operator", roles=("editor",), expires_at=NOW + timedelta(seconds=5))

    principal = principal_of(token, ("default",))

    assert (principal.name, principal.token_id) == ("token:billing", token.id)
    assert principal.token_class == "operator"
    assert principal.expires_at == NOW.timestamp() + 5
    assert principal.may(Right.WRITE_CONFIGS, "staging", "invoice-7")
    assert not principal.may(Right.WRITE_CONFIGS, "production", "billing")
    assert principal.required_right(Right.WRITE_CONFIGS, "default") is Right.PUBLISH_CONFIGS


def test_a_token_lives_until_it_expires_or_is_revoked() -> None:
    now = NOW.timestamp()

    assert new_token()[0].is_live(now)
    assert new_token(expires_at=NOW + timedelta(seconds=1))[0].is_live(now)
    assert not new_token(expires_at=NOW)[0].is_live(now)
    assert not new_token(revoked_at=NOW)[0].is_live(now)


def test_neither_digest_nor_secret_stand_in_what_may_be_logged() -> None:
    token, text = new_token()

    assert "digest" not in repr(token)
    assert text.split("_")[3] not in repr(token)


# Giving


def admin(*grants: Grant) -> Principal:
    return Principal("token:admin", grants)


ALL = ("*",)
STAGING = Grant(RIGHTS_OF_ROLE["admin"], ("staging", "test-*"), ALL)


def test_anybody_may_give_everything_where_access_is_open() -> None:
    assert (
        missing_grant(ANYBODY, grants_of(new_token("admin", environments=ALL, services=ALL)[0]))
        is None
    )


@pytest.mark.parametrize(
    ("environments", "roles", "is_within"),
    [
        (("staging",), ("publisher",), True),
        (("test-1", "test-*", "test-*-x"), ("editor",), True),
        (("staging", "production"), ("viewer",), False),
        (("test*",), ("viewer",), False),
        (("*",), ("viewer",), False),
        (("staging",), ("secrets:reveal",), False),
    ],
)
def test_nobody_gives_more_than_they_have(
    environments: tuple[str, ...],
    roles: tuple[str, ...],
    is_within: bool,  # noqa: FBT001 - a case of the table
) -> None:
    token, _ = new_token("operator", environments=environments, roles=roles)

    assert (missing_grant(admin(STAGING), grants_of(token)) is None) is is_within


def test_rights_of_several_grants_add_up_only_where_each_covers_everything() -> None:
    reveal = Grant(frozenset({Right.REVEAL}), ("staging",), ("billing",))
    token, _ = new_token("operator", roles=("viewer", "secrets:reveal"), services=("billing",))
    wider, _ = new_token("operator", roles=("viewer", "secrets:reveal"), services=ALL)

    assert missing_grant(admin(STAGING, reveal), grants_of(token)) is None
    assert missing_grant(admin(STAGING, reveal), grants_of(wider)) is not None


@given(PATTERNS, PATTERNS)
@settings(max_examples=trials(300))
def test_a_pattern_that_lies_within_another_means_nothing_else(narrow: str, wide: str) -> None:
    own = admin(Grant(EVERY_RIGHT, (wide,), ALL))
    given = Grant(frozenset({Right.READ_CONFIGS}), (narrow,), ALL)

    if missing_grant(own, (given,)) is None:
        assert all(matches(wide, name) for name in NAMES if matches(narrow, name))
