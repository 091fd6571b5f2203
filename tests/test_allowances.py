"""What may be plain all the same is read at start, and refused without a reason."""

import pytest
from pydantic import ValidationError

from app.access.model import Principal, Right, is_protected
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
        ("production/shop/=because", "not the pattern of a key"),
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


def test_the_usual_names_of_production_are_protected_unless_it_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PRODUCTION_ENVIRONMENTS", raising=False)
    patterns = Settings().protected_environments

    for name in ("production", "prod", "prod-eu", "production-2", "live", "Production", "PROD-eu"):
        assert is_protected(patterns, name), name
    for name in ("staging", "product", "pre-prod", "nonprod", "livestock"):
        assert not is_protected(patterns, name), name


@pytest.mark.parametrize("environment", ["Production", "PRODUCTION", "EU-west", "Default"])
def test_another_case_of_a_protected_name_takes_a_publisher(environment: str) -> None:
    protected = ("default", "production", "eu-*")
    principal = Principal("ann", (), protected)

    assert principal.required_right(Right.WRITE_CONFIGS, environment) == Right.PUBLISH_CONFIGS
