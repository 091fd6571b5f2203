"""A setting that cannot mean anything is refused in one line: its name, the fault, the form."""

import pytest

from app.__main__ import main
from app.settings import Settings

pytestmark = pytest.mark.usefixtures("logs_as_before")

SECRET = "hidden-SECRET-7"
WRONG = [
    ("DATABASE_URL", f"mysql://u:{SECRET}@db.example/p", "another scheme"),
    ("DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@db.example/p", "another scheme"),
    ("DATABASE_URL", f"jdbc:postgresql://db.example/p?password={SECRET}", "another scheme"),
    ("DATABASE_URL", f"db.example/p?password={SECRET}", "has no scheme"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@db@db.example/p", "percent-encoded"),
    ("DATABASE_URL", f"postgresql://u:pa/{SECRET}@db.example/p", "percent-encoded"),
    ("DATABASE_URL", f"postgresql://u:pa#{SECRET}@db.example/p", "percent-encoded"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@db.example:abc/p", "has a port"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@db.example:5432:1/p", "has a port"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@db.example/p?sslmode=yes", "sslmode"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@db.example/p ", "blanks"),
    ("DATABASE_URL", f"postgresql://u:{SECRET}@[::1/p", "cannot be parsed"),
    ("VAULT_ADDR", "vault.example:8200", "has no scheme"),
    ("VAULT_ADDR", "vault.example", "has no scheme"),
    ("VAULT_ADDR", "ftp://vault.example", "the scheme 'ftp'"),
    ("VAULT_ADDR", "https://", "has no host"),
    ("VAULT_ADDR", "https://:8200", "has no host"),
    ("VAULT_ADDR", "https://vault.example:82000", "has a port"),
    ("VAULT_ADDR", "https://vault.example:", "has a port"),
    ("VAULT_ADDR", f"https://u:{SECRET}@vault.example", "a user or a password"),
    ("VAULT_ADDR", "https://vault.example/?x=1", "query"),
    ("VAULT_ADDR", "https://vault .example", "blanks"),
    ("VAULT_ADDR", "https://va$ult.example", "an invalid host"),
    ("VAULT_TOKEN", f"{SECRET}\n", "line breaks"),
    ("VAULT_TOKEN", f"{SECRET} x", "blanks"),
    ("VAULT_SECRET_ID", f"{SECRET}\n", "line breaks"),
    ("VAULT_NAMESPACE", "a b", "blanks"),
    ("OIDC_ISSUER", "login.example", "has no scheme"),
    ("OIDC_JWKS_URL", "file:///etc/keys", "the scheme 'file'"),
    ("SERVICE_URL", "10.1.2.3:8082", "has no scheme"),
    ("ZOOKEEPER_HOSTS", "x:abc", "has a port that is not a number"),
    ("ZOOKEEPER_HOSTS", "x:2181,,y:2181", "an entry without a host"),
    ("ZOOKEEPER_HOSTS", "x:2181,", "an entry without a host"),
    ("ZOOKEEPER_HOSTS", ":2181", "has no host"),
    ("ZOOKEEPER_HOSTS", "zk://x:2181", "has a scheme"),
    ("ZOOKEEPER_HOSTS", "x:0", "has a port"),
    ("ZOOKEEPER_HOSTS", "::1", "without brackets"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka", "has no port in 'kafka'"),
    ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b", "has no port in 'b'"),
    ("KAFKA_BOOTSTRAP_SERVERS", "PLAINTEXT://kafka:9092", "has a scheme"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka:", "has a port"),
    ("REDIS_HOST", "redis:6379", "must be only a host"),
    ("REDIS_HOST", f"redis://:{SECRET}@redis", "is a URL"),
    ("REDIS_PORT", "70000", "is '70000'"),
    ("REDIS_PORT", "", "is empty"),
    ("REDIS_TLS", "perhaps", "is 'perhaps'"),
    ("HOST", "http://127.0.0.1", "is a URL"),
    ("PORT", "80a", "is '80a'"),
    ("LOG_LEVEL", "verbose", "is 'verbose'"),
    ("PILOTHOUSE_MODE", "prod", "is 'prod'"),
    ("VAULT_SCAN_INTERVAL", "inf", "is 'inf'"),
    ("CALLER_REQUEST_LIMIT", "nan", "is 'nan'"),
    ("CORS_ORIGINS", "example.org", "is 'example.org'"),
    ("OIDC_ROLES", '[{"value": 1}]', "0.value"),
    ("OIDC_ROLES", "{", "JSON"),
    ("HEALTH_CHECK_ALLOWED_NETWORKS", "10.0.0.1/8", "host bits"),
    ("ZOOKEEPER_BASE_PATH", "services", "is 'services'"),
    ("KAFKA_TOPIC_CONFIG_UPDATES", "a b", "is 'a b'"),
    ("PRODUCTION_CHECKS_WAIVED", "vault_http", "without a reason"),
    ("PRODUCTION_CHECKS_WAIVED", "vault_http= ;", "without a reason"),
    ("PRODUCTION_CHECKS_WAIVED", "vault_htp=mesh", "did you mean 'vault_http'?"),
    ("PRODUCTION_CHECKS_WAIVED", "open_access=why not", "is not one of"),
    ("PRODUCTION_CHECKS_WAIVED", "vault_http=a;vault_http=b", "twice"),
]
RIGHT = [
    ("DATABASE_URL", "postgres://u:p%40ss@db.example/p"),
    ("DATABASE_URL", "postgresql://u:p@a.example:5432,b.example:5433/p?sslmode=verify-full"),
    ("DATABASE_URL", "postgresql://u@[::1]:5432/p"),
    ("DATABASE_URL", "postgresql:///p?host=/var/run/postgresql"),
    ("VAULT_ADDR", "HTTPS://Vault.example"),
    ("VAULT_ADDR", "https://[fd00::1]:8200/behind/a/proxy/"),
    ("ZOOKEEPER_HOSTS", "zk"),
    ("ZOOKEEPER_HOSTS", "a:2181, b:2181/chroot/of/ours"),
    ("ZOOKEEPER_HOSTS", "[::1]:2181"),
    ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,[::1]:9092"),
    ("REDIS_HOST", "::1"),
    ("REDIS_HOST", "redis_1.example"),
    ("HOST", "::"),
    ("PRODUCTION_CHECKS_WAIVED", "vault_http = the mesh; weak_secret=because a=b;"),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(("name", "value", "fault"), WRONG)
def test_each_fault_is_one_line_with_name_and_form_and_without_the_secret(
    name: str,
    value: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)

    code = main(["migrate"])

    [line] = capsys.readouterr().err.splitlines()
    assert code == 2
    assert line.startswith(f"refused to start: {name}: ")
    assert fault in line
    assert SECRET not in line
    if name not in {"VAULT_TOKEN", "VAULT_SECRET_ID", "VAULT_NAMESPACE"}:
        assert "; it must be " in line


@pytest.mark.parametrize("command", ["serve", "migrate", "openapi", "token list", "audit key"])
def test_every_command_tells_all_faults_at_once(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "vault:8200")
    monkeypatch.setenv("ZOOKEEPER_HOSTS", "x:abc")

    code = main(command.split())

    output = capsys.readouterr()
    assert code == 2
    assert not output.out
    assert [line.split(": ")[1] for line in output.err.splitlines()] == [
        "VAULT_ADDR",
        "ZOOKEEPER_HOSTS",
    ]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_what_the_drivers_understand_is_taken(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    Settings()


@pytest.mark.parametrize("level", ["INFO", "Info", "info", " info "])
def test_the_case_of_a_log_level_does_not_matter(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)

    assert Settings().log_level == "info"
