"""With which settings of access a service does not start."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import Settings
from app.wiring import StartRefused, refuse_unsafe

SAFE: dict[str, Any] = {
    "pilothouse_mode": "production",
    "pilothouse_access": "required",
    "pilothouse_token_pepper": "a-pepper-that-all-the-replicas-share",
    "vault_addr": "https://vault.example",
    "vault_token": "s.a-token",
    "database_url": "postgresql://db.example/pilothouse",
    "zookeeper_hosts": "zk.example:2181",
    "audit_signing_key_file": "audit.pem",
}
DRAWN = "7f3a9c0e5d1b8426f7093ac1e5d2b846"


def reasons(**changed: Any) -> list[str]:
    try:
        refuse_unsafe(Settings(**{**SAFE, **changed}))
    except StartRefused as refused:
        return refused.reasons
    return []


def test_production_starts_where_access_is_required_and_replicas_share_a_pepper() -> None:
    assert reasons() == []
    assert reasons(pilothouse_admin_token=DRAWN) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"pilothouse_access": "open"}, "PILOTHOUSE_ACCESS"),
        ({"pilothouse_token_pepper": None}, "PILOTHOUSE_TOKEN_PEPPER"),
        ({"pilothouse_admin_token": "changeme" * 4}, "PILOTHOUSE_ADMIN_TOKEN"),
    ],
)
def test_production_refuses_what_lets_others_in(changed: dict[str, Any], named: str) -> None:
    [reason] = reasons(**changed)

    assert reason.startswith(named)
    assert reasons(pilothouse_mode="development", **changed) == []


@pytest.mark.parametrize("name", ["pilothouse_admin_token", "pilothouse_token_pepper"])
@pytest.mark.parametrize("value", ["x" * 31, "x" * 31 + " ", "x" * 31 + "é", "x" * 40 + "\n"])
def test_a_short_or_unusual_secret_is_refused_in_any_mode_and_never_told(
    name: str, value: str
) -> None:
    stated: dict[str, Any] = {name: value}

    with pytest.raises(ValidationError, match="at least 32 characters") as refused:
        Settings(**stated)

    assert value not in str(refused.value)


def test_an_empty_secret_is_none() -> None:
    assert Settings(pilothouse_admin_token="").pilothouse_admin_token is None
