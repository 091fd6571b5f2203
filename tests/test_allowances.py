"""What may be plain all the same is read at start, and refused without a reason."""

import pytest
from pydantic import ValidationError

from app.settings import Settings


def test_an_entry_has_patterns_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = "production/shop/maps.key = restricted to our domain; */*/demo.*=example=data;"
    monkeypatch.setenv("PLAIN_VALUES_ALLOWED", entries)

    assert Settings().allowances == (
        ("production", "shop", "maps.key", "restricted to our domain"),
        ("*", "*", "demo.*", "example=data"),
    )


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("production/shop/maps.key", "without a reason"),
        ("production/shop/maps.key= ", "without a reason"),
        ("maps.key=because", "is not environment/service/key"),
        ("a/b/c/d=because", "is not environment/service/key"),
        ("production/shop/maps..key=because", "not the pattern of a key"),
        ("pro duction/shop/maps.key=because", "letters, digits"),
        ("/shop/maps.key=because", "letters, digits"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(
    entry: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIN_VALUES_ALLOWED", f"*/*/a=fine;{entry}")

    with pytest.raises(ValidationError, match=reason):
        Settings()


def test_default_is_protected_beside_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRODUCTION_ENVIRONMENTS", "production, eu-*")

    assert Settings().production_patterns == ("production", "eu-*")
    assert Settings().protected_environments == ("default", "production", "eu-*")
