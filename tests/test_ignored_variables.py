"""A misspelt setting is told with the name that was meant; production does not start with it."""

import pytest

from app.__main__ import main
from app.ignored_variables import find_ignored
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("logs_as_before")

KNOWN = frozenset(name.upper() for name in Settings.model_fields)


def warning_for(name: str, value: str = "x") -> tuple[str | None, bool | None] | None:
    """Return the nearest name, and whether it may start all the same; None if nothing is told."""
    found = find_ignored({name: value}, KNOWN)
    assert all(one.name == name.upper() for one in found)
    return (found[0].nearest, found[0].allowed) if found else None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VAULT_ADRR", "VAULT_ADDR"),
        ("VAULT_ADDRESS", "VAULT_ADDR"),
        ("vault_adrr", "VAULT_ADDR"),
        ("VALUT_ADDR", "VAULT_ADDR"),
        ("VAULTADDR", "VAULT_ADDR"),
        ("REDIS_HOTS", "REDIS_HOST"),
        ("REDSI_HOST", "REDIS_HOST"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAKFA_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"),
        ("ZOOKEEPER_HOST", "ZOOKEEPER_HOSTS"),
        ("ZOOKEPER_HOSTS", "ZOOKEEPER_HOSTS"),
        ("OIDC_ISUER", "OIDC_ISSUER"),
        ("HEALTH_CHECK_ALLOWED_NETWORK", "HEALTH_CHECK_ALLOWED_NETWORKS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("PILOTHOUSE_MOED", "PILOTHOUSE_MODE"),
        ("PILOTHUOSE_ACCESS", "PILOTHOUSE_ACCESS"),
        ("PILOTHOUSE_DATABASE_URL", "DATABASE_URL"),
        ("PILOTHOUSE_HOST", "HOST"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("LOG_FROMAT", "LOG_FORMAT"),
        ("SERVICE_INSTANCE_IDS", "SERVICE_INSTANCE_ID"),
        ("PRODUCTION_ENVIRONMENT", "PRODUCTION_ENVIRONMENTS"),
    ],
)
def test_a_misspelt_name_is_told_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert warning_for(name) == (meant, None)


@pytest.mark.parametrize("name", ["KAFKA_SASL_MECHANISM", "VAULT_CAPATH", "VAULT_FORMAT"])
def test_what_has_our_prefix_is_told_though_nothing_is_near(name: str) -> None:
    assert warning_for(name) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PILOTHOUSE_URL", "http://127.0.0.1"),
        ("PILOTHOUSE_SERVICE", "orders"),
        ("PILOTHOUSE_ENVIRONMENT", "production"),
        ("PILOTHOUSE_PROFILE", "blue"),
        ("PILOTHOUSE_TOKEN", "x"),
        ("PILOTHOUSE_PORT", "tcp://10.0.0.1:8082"),
        ("PILOTHOUSE_SERVICE_HOST", "10.0.0.1"),
        ("PILOTHOUSE_SERVICE_PORT", "8082"),
        ("PILOTHOUSE_SERVICE_PORT_HTTP", "8082"),
        ("VAULT_PORT", "tcp://10.0.0.1:8200"),
        ("VAULT_PORT_8200_TCP", "tcp://10.0.0.1:8200"),
        ("VAULT_PORT_8200_TCP_PROTO", "tcp"),
        ("VAULT_PORT_8200_TCP_PORT", "8200"),
        ("VAULT_PORT_8200_TCP_ADDR", "10.0.0.1"),
        ("REDIS_SENTINEL_SERVICE_HOST", "10.0.0.1"),
        ("ZOOKEEPER_HEADLESS_SERVICE_PORT_CLIENT", "2181"),
        ("KAFKA_PORT_9092_UDP", "udp://10.0.0.1:9092"),
        ("VAULT_SKIP_VERIFY", "false"),
        ("VAULT_SKIP_VERIFY", ""),
        ("VAULT_ADDR", "https://vault.example"),
        *((name, "x") for name in ("PATH", "HOME", "HOSTNAME", "LANG", "SORT", "POST", "PORTS")),
        *((name, "x") for name in ("SERVICE_ACCOUNT", "LOG_DIR", "LOG_FILE", "CACHE_DIR")),
        *((name, "x") for name in ("KUBERNETES_SERVICE_HOST", "PYTHONPATH", "VIRTUAL_ENV")),
        *((name, "x") for name in ("POSTGRES_PASSWORD", "REDISCLI_AUTH", "SERVICE_NAME")),
    ],
)
def test_what_others_set_is_let_be(name: str, value: str) -> None:
    assert warning_for(name, value) is None


def test_a_number_where_kubernetes_would_put_an_address_is_told_and_no_reason_to_refuse() -> None:
    assert warning_for("PILOTHOUSE_PORT", "9000") == ("PORT", True)


def test_a_service_link_in_the_place_of_a_setting_is_told_and_the_default_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_PORT", "tcp://10.0.0.1:6379")

    assert Settings().redis_port == 6379
    assert warning_for("REDIS_PORT", "tcp://10.0.0.1:6379") == (None, True)


@pytest.mark.parametrize("value", ["true", "1", "TRUE", "yes"])
def test_vaults_certificate_cannot_be_left_unverified(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAULT_SKIP_VERIFY", value)

    assert main(["token", "list"]) == 2
    assert "refused to start: VAULT_SKIP_VERIFY: is ignored" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "migrate", "openapi", "token list", "audit key"])
def test_production_starts_no_command_with_a_misspelt_setting(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PILOTHOUSE_MODE", "production")
    monkeypatch.setenv("VAULT_ADRR", "https://vault.example")

    assert main(command.split()) == 2
    assert "VAULT_ADRR: is not a setting; did you mean VAULT_ADDR?" in (capsys.readouterr().err)


def test_a_command_tells_it_and_goes_on_in_development(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "PILOTHOUSE_TRIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABSE_URL", "postgresql://db.example/p")

    main(["migrate"])

    assert capsys.readouterr().err.splitlines() == [
        "ignored: DATABSE_URL: is not a setting; did you mean DATABASE_URL?",
        "DATABASE_URL is not set: there is nothing to migrate",
    ]
