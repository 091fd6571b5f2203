"""With which settings of access a service does not start."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from app.main import create_app
from app.production_checks import StartRefused, refuse_unsafe
from app.settings import CHECKS, Settings
from app.telemetry import REGISTRY

pytestmark = pytest.mark.usefixtures("logs_as_before")

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


TOLD_WITH_A_NAME = [
    ({"vault_token": "development-only"}, "VAULT_TOKEN", "default_secret"),
    ({"vault_token": "root"}, "VAULT_TOKEN", "default_secret"),
    ({"redis_password": "development-only"}, "REDIS_PASSWORD", "default_secret"),
    ({"database_url": "postgresql://u:development-only@db/p"}, "DATABASE_URL", "default_secret"),
    ({"database_url": "postgresql://u:%70ostgres@db/p"}, "DATABASE_URL", "default_secret"),
    ({"database_url": "postgresql://shop:shop@db/p"}, "DATABASE_URL", "default_secret"),
    (
        {"pilothouse_token_pepper": "development-only-pepper-of-this-machine"},
        "PILOTHOUSE_TOKEN_PEPPER",
        "default_secret",
    ),
    ({"pilothouse_token_pepper": "a" * 40}, "PILOTHOUSE_TOKEN_PEPPER", "weak_secret"),
    ({"pilothouse_token_pepper": "abcdefgh" * 4}, "PILOTHOUSE_TOKEN_PEPPER", "weak_secret"),
    (
        {"pilothouse_token_pepper": "abcdefghijklmnopqrstuvwxyz0123456789"},
        "PILOTHOUSE_TOKEN_PEPPER",
        "weak_secret",
    ),
    ({"pilothouse_admin_token": "1234567890" * 4}, "PILOTHOUSE_ADMIN_TOKEN", "weak_secret"),
    (
        {"pilothouse_token_pepper": DRAWN, "pilothouse_admin_token": DRAWN},
        "PILOTHOUSE_ADMIN_TOKEN and PILOTHOUSE_TOKEN_PEPPER",
        "shared_secret",
    ),
    (
        {"redis_password": DRAWN, "database_url": f"postgresql://u:{DRAWN}@db/p"},
        "DATABASE_URL and REDIS_PASSWORD",
        "shared_secret",
    ),
    ({"vault_addr": "http://vault.example:8200"}, "VAULT_ADDR", "vault_http"),
    ({"vault_addr": "HTTP://127.0.0.1:8200"}, "VAULT_ADDR", "vault_http"),
    (
        {"oidc_issuer": "http://login.example", "oidc_audience": "us"},
        "OIDC_ISSUER",
        "oidc_http",
    ),
]


@pytest.mark.parametrize(("changed", "named", "check"), TOLD_WITH_A_NAME)
def test_production_refuses_what_others_know_guess_or_read_unless_it_is_waived(
    changed: dict[str, Any], named: str, check: str
) -> None:
    [reason] = reasons(**changed)

    assert reason.startswith(named)
    assert f"PRODUCTION_CHECKS_WAIVED may waive {check}" in reason
    assert "development-only" not in reason
    assert DRAWN not in reason
    assert reasons(**changed, production_checks_waived=f"{check}=we know") == []
    others = ";".join(f"{other}=we know" for other in CHECKS if other != check)
    assert reasons(**changed, production_checks_waived=others) == [reason]
    assert reasons(pilothouse_mode="development", **changed) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"pilothouse_access": "open"},
        {"pilothouse_token_pepper": None},
        {"vault_addr": None},
        {"database_url": None},
        {"zookeeper_hosts": None},
        {"audit_signing_key_file": None},
    ],
)
def test_what_no_production_can_do_without_is_not_waived(changed: dict[str, Any]) -> None:
    everything = ";".join(f"{check}=we know" for check in CHECKS)

    assert len(reasons(**changed, production_checks_waived=everything)) == 1


def test_waivers_are_logged_with_reason_and_shown_without(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = {"vault_addr": "http://127.0.0.1:8200", "redis_password": "development-only"}
    waived = "vault_http=an agent beside it;default_secret=a rehearsal"
    settings = Settings(**{**SAFE, **changed, "production_checks_waived": waived})

    create_app(settings)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [line for line in lines if line["event"] == "production_check_waived"]
    assert [(line["check"], line["reason"], line["accepted"]) for line in events] == [
        (
            "vault_http",
            "an agent beside it",
            ["VAULT_ADDR must be https: secrets could be read on the network"],
        ),
        (
            "default_secret",
            "a rehearsal",
            ["REDIS_PASSWORD is a well-known default"],
        ),
    ]
    sample = "pilothouse_production_checks_waived"
    assert REGISTRY.get_sample_value(sample, {"check": "vault_http"}) == 1


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
