"""Checks of the settings before the service starts, some of which may be waived."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import SecretStr

from app.settings import Check, Settings
from app.telemetry import CHECKS_WAIVED

# Known to others from tutorials, images and docker-compose.yml.
_DEFAULTS: Final = frozenset(
    {
        *("admin", "changeme", "default", "dev", "development", "development-only", "example"),
        *("guest", "letmein", "myroot", "mysecretpassword", "p@ssw0rd", "pass", "passw0rd"),
        *("password", "pilothouse", "postgres", "postgresql", "redis", "root", "secret", "test"),
        *("token", "user", "vault", "12345", "123456", "1234567", "12345678", "123456789"),
    }
)
# Parts of placeholders in examples.
_PLACEHOLDERS: Final = ("development-only", "changeme", "change-me", "change_me", "replace-me")
# 32 random hexadecimal digits have fewer different ones in one of ten million cases.
_FEWEST_CHARACTERS: Final = 8
_SECRETS: Final = (
    "pilothouse_token_pepper",
    "pilothouse_admin_token",
    "vault_token",
    "vault_secret_id",
    "redis_password",
)
_log = structlog.get_logger(__name__)


class StartRefused(RuntimeError):
    """The service must not start with these settings; every reason is named."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = list(reasons)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to start."""

    reason: str
    check: Check | None = None  # None: it cannot be waived

    def __str__(self) -> str:
        if self.check is None:
            return self.reason
        return f"{self.reason} (PRODUCTION_CHECKS_WAIVED may waive {self.check})"


def refuse_unsafe(settings: Settings) -> None:
    """Raise StartRefused for contradictory settings, and for those that production mode forbids."""
    findings = [*_contradictions(settings), *_ignored_variables(settings)]
    if settings.pilothouse_mode == "production":
        findings = [
            *_missing_settings(settings),
            *_weak_secrets(settings),
            *_unencrypted_links(settings),
            *findings,
        ]
    _raise_unless_waived(settings, findings)


def refuse_ignored_variables(settings: Settings) -> None:
    """Raise StartRefused for misspelt settings only, for commands that do not serve."""
    _raise_unless_waived(settings, [*_ignored_variables(settings)])


def find_waived(settings: Settings) -> Sequence[Finding]:
    """Return the findings of production mode that are waived."""
    if settings.pilothouse_mode != "production":
        return []
    findings = [
        *_weak_secrets(settings),
        *_unencrypted_links(settings),
        *_ignored_variables(settings),
    ]
    return [one for one in findings if one.check in settings.waivers]


def log_settings(settings: Settings) -> None:
    """Log ignored variables, and the checks of production mode that are waived."""
    for unheeded in settings.ignored_variables:
        facts = {} if unheeded.nearest is None else {"nearest": unheeded.nearest}
        _log.warning("setting_ignored", name=unheeded.name, reason=unheeded.reason, **facts)
    if settings.pilothouse_mode != "production":
        return
    findings = find_waived(settings)
    for check, reason in settings.waivers.items():
        accepted = [str(one.reason) for one in findings if one.check == check]
        _log.warning("production_check_waived", check=check, reason=reason, accepted=accepted)
        CHECKS_WAIVED.labels(check).set(len(accepted))


def _raise_unless_waived(settings: Settings, findings: Sequence[Finding]) -> None:
    if reasons := [str(one) for one in findings if one.check not in settings.waivers]:
        raise StartRefused(reasons)


def _contradictions(settings: Settings) -> Iterator[Finding]:
    if settings.oidc_issuer is not None and settings.oidc_audience is None:
        yield Finding("OIDC_ISSUER needs OIDC_AUDIENCE: tokens for any audience would be accepted")
    has_login = settings.vault_token or (settings.vault_role_id and settings.vault_secret_id)
    if settings.vault_addr is not None and not has_login:
        yield Finding("VAULT_ADDR needs VAULT_TOKEN, or VAULT_ROLE_ID with VAULT_SECRET_ID")

    cache, store = settings.redis_timeout_seconds, settings.vault_timeout_seconds
    if settings.redis_host is not None and cache > store:
        yield Finding(
            "REDIS_TIMEOUT_SECONDS is longer than VAULT_TIMEOUT_SECONDS: reads would wait for the"
            " cache longer than for the store"
        )


def _ignored_variables(settings: Settings) -> Iterator[Finding]:
    for unheeded in settings.ignored_variables:
        if unheeded.allowed is False:
            yield Finding(str(unheeded))
        elif unheeded.allowed is None and settings.pilothouse_mode == "production":
            yield Finding(str(unheeded), "unknown_setting")


def _missing_settings(settings: Settings) -> Iterator[Finding]:
    if settings.vault_addr is None:
        yield Finding("VAULT_ADDR is not set: documents would be embedded")
    if settings.database_url is None:
        yield Finding("DATABASE_URL is not set: the change log would be embedded")
    if settings.zookeeper_hosts is None:
        yield Finding("ZOOKEEPER_HOSTS is not set: instances would be embedded")
    if settings.pilothouse_access == "open":
        yield Finding("PILOTHOUSE_ACCESS is open: anyone could read and change everything")
    elif settings.pilothouse_token_pepper is None:
        yield Finding("PILOTHOUSE_TOKEN_PEPPER is not set: replicas could not share tokens")
    if settings.audit_signing_key_file is None:
        yield Finding("AUDIT_SIGNING_KEY_FILE is not set: the audit could not be trusted")


def _weak_secrets(settings: Settings) -> Iterator[Finding]:
    """Find secrets that others know or can guess, and secrets that are used twice."""
    secrets = dict(_stated_secrets(settings))
    for name, secret in secrets.items():
        if is_default(secret):
            yield Finding(f"{name} is a well-known default", "default_secret")
        elif name in {"PILOTHOUSE_TOKEN_PEPPER", "PILOTHOUSE_ADMIN_TOKEN"} and is_weak(secret):
            yield Finding(
                f"{name} could be guessed: use a random one, such as from `openssl rand -hex 32`",
                "weak_secret",
            )
    user, password = _database_login(settings)
    if user and user == password and not is_default(password):
        yield Finding("DATABASE_URL has its user as its password", "default_secret")
    names = sorted(secrets, key=lambda name: (secrets[name], name))
    for one, other in itertools.pairwise(names):
        if secrets[one] == secrets[other]:
            yield Finding(
                f"{one} and {other} are the same: anyone who learns one has the other",
                "shared_secret",
            )


def _stated_secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in _SECRETS:
        secret = getattr(settings, name)
        if isinstance(secret, SecretStr):
            yield name.upper(), secret.get_secret_value()
    if password := _database_login(settings)[1]:
        yield "DATABASE_URL", password


def _database_login(settings: Settings) -> tuple[str, str]:
    if settings.database_url is None:
        return "", ""
    parts = urlsplit(settings.database_url.get_secret_value())
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)


def _unencrypted_links(settings: Settings) -> Iterator[Finding]:
    """Find connections on which secrets cross the network unencrypted.

    Other servers get no secrets: Redis and Kafka get none, and ZooKeeper gets addresses only.
    """
    if settings.vault_addr is not None and not _is_https(settings.vault_addr):
        yield Finding(
            "VAULT_ADDR must be https: secrets could be read on the network", "vault_http"
        )
    if any(
        url is not None and not _is_https(url)
        for url in (settings.oidc_issuer, settings.oidc_jwks_url)
    ):
        yield Finding(
            "OIDC_ISSUER and OIDC_JWKS_URL must be https: keys could be replaced", "oidc_http"
        )


def _is_https(url: str) -> bool:
    return url.lower().startswith("https://")


def is_default(secret: str) -> bool:
    """Tell whether a secret is a well-known default or comes from an example."""
    lower = secret.lower()
    return lower in _DEFAULTS or any(part in lower for part in _PLACEHOLDERS)


def is_weak(secret: str) -> bool:
    """Tell whether a secret is not random: it has few characters, repeats or counts."""
    if len(set(secret)) < _FEWEST_CHARACTERS or secret in (secret + secret)[1:-1]:
        return True
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(secret)]
    return 2 * sum(abs(step) <= 1 for step in steps) > len(steps)
