"""Everything an operator can change: the only reader of the environment."""

import re
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from pilothouse_core.names import is_key, is_name

_LONG = re.compile(r"[!-~]{32,}")


def _named(text: str) -> str:
    if not is_name(text):
        raise ValueError("letters, digits, '.', '_' and '-' only, at most 63")
    return text


def _blank_is_unset(text: object) -> object:
    """`VAULT_ADDR=` in an environment file means the same as leaving the line out."""
    return None if text == "" else text


Name = Annotated[str, BeforeValidator(_named)]
Optional = Annotated[str | None, BeforeValidator(_blank_is_unset)]
Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_unset)]


class RoleOfClaim(BaseModel):
    """A role for whoever has `value` in the claim that tells roles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: str
    role: Literal["viewer", "editor", "publisher", "admin", "secrets:reveal"]
    environments: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)


_ROLES_OF_CLAIMS = TypeAdapter(list[RoleOfClaim])


class Settings(BaseSettings):
    """Read once at start; docs/reference/settings.md is compared with this class by a test."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8082, ge=1, le=65535, description="Port to listen on.")
    pilothouse_mode: Literal["development", "production"] = Field(
        "development",
        description="`production` refuses to start with an embedded adapter, with open access "
        "or with default secrets.",
    )
    pilothouse_access: Literal["open", "required"] = Field(
        "open",
        description="Who may call: `open` is anybody who can reach the port, `required` is who "
        "has a token.",
    )
    pilothouse_admin_token: Secret = Field(
        None,
        description="The first token of class admin, by its value: any 32 characters or more, "
        "without blanks.",
    )
    pilothouse_token_pepper: Secret = Field(
        None,
        description="Under what tokens are digested, the same for all replicas: 32 characters or "
        "more; unset: made once, in the data folder.",
    )
    audit_signing_key_file: Optional = Field(
        None,
        description="File with the private Ed25519 key (PEM) that signs the audit's head, the same "
        "for all replicas; unset: made once, in the data folder.",
    )
    pilothouse_token: Secret = Field(
        None, description="What `python -m app import` shows the service that it sends files to."
    )
    production_environments: str = Field(
        "production",
        description="Environments of production, separated by commas; `*` stands for any "
        "characters.",
    )
    plain_values_allowed: str = Field(
        "",
        description="What looks like a credential and may stand plainly all the same: "
        "`environment/service/key=reason`, separated by semicolons; `*` stands for any characters.",
    )
    pilothouse_data_dir: str = Field("./data", description="Folder of the embedded adapters.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line that is written."
    )
    log_format: Literal["json", "text"] = Field("json", description="Shape of a log line.")
    cache_memory_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="Documents kept in memory, counted as stored text."
    )
    stream_limit: int = Field(
        5000, ge=0, description="Stream clients of this replica; more are sent to another."
    )
    caller_stream_limit: int = Field(
        1000, ge=1, description="Streams that one caller may have on this replica."
    )
    caller_request_limit: float = Field(
        0, ge=0, description="Requests a second of one caller on this replica; 0: no limit."
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(https?://[^/,\s*]+(\s*,\s*https?://[^/,\s*]+)*)?$",
        description="Sites whose pages may call, `https://host` separated by commas; unset: none.",
    )

    oidc_issuer: Optional = Field(
        None,
        pattern="^https?://",
        description="Issuer of people's tokens (OpenID Connect); unset: machines only.",
    )
    oidc_audience: Optional = Field(
        None, description="What their `aud` must name; needed with an issuer."
    )
    oidc_jwks_url: Optional = Field(
        None,
        pattern="^https?://",
        description="Where the issuer's keys are; unset: its discovery document tells.",
    )
    oidc_name_claim: str = Field(
        "sub", min_length=1, description="The claim that stands in the log as who did it."
    )
    oidc_roles_claim: str = Field(
        "groups", min_length=1, description="The claim that tells roles, a dotted path."
    )
    oidc_roles: str = Field(
        "",
        description="What its values mean: a JSON array of "
        '`{"value", "role", "environments", "services"}`; no value, no role.',
    )

    vault_addr: Optional = Field(None, description="Vault's URL; unset: documents are embedded.")
    vault_token: Secret = Field(None, description="A token, or use AppRole.")
    vault_role_id: Optional = Field(None, description="AppRole role id.")
    vault_secret_id: Secret = Field(None, description="AppRole secret id.")
    vault_approle_mount: Name = Field("approle", description="Where AppRole is mounted.")
    vault_namespace: Optional = Field(None, description="Namespace header (Enterprise, HCP).")
    vault_cacert: Optional = Field(None, description="File with the CA of Vault's certificate.")
    vault_mount_point: Name = Field("secret", description="Where KV version 2 is mounted.")
    vault_kv_version: Literal["2"] = Field("2", description="Only version 2 has versions.")
    vault_prefix: Name = Field("pilothouse", description="Folder of all documents in the mount.")
    vault_transit_mount: Name = Field("transit", description="Where transit is mounted.")
    vault_max_versions: int = Field(
        200, ge=10, le=10_000, description="Versions kept of each document."
    )
    vault_scan_interval: float = Field(
        3.0, ge=0.2, le=3600, description="Seconds between looks for edits made in Vault itself."
    )

    database_url: Secret = Field(
        None, description="PostgreSQL URL; unset: the change log is embedded."
    )

    redis_host: Optional = Field(
        None, description="Redis, which replicas share as a cache; unset: there is none."
    )
    redis_port: int = Field(6379, ge=1, le=65535, description="Redis's port.")
    redis_password: Secret = Field(None, description="Redis's password, if it wants one.")
    redis_db: int = Field(0, ge=0, description="Number of the Redis database.")
    redis_tls: bool = Field(default=False, description="Speak TLS to Redis.")
    redis_prefix: Name = Field("pilothouse", description="What every key in Redis begins with.")

    kafka_bootstrap_servers: Optional = Field(
        None, description="Kafka brokers, host:port separated by commas; unset: no events."
    )
    kafka_topic_config_updates: str = Field(
        "config-updates",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Topic of the events, one for each change.",
    )
    kafka_topic_auto_create: bool = Field(
        default=True, description="Whether a missing topic is created, with three partitions."
    )
    change_retention_days: int = Field(
        30,
        ge=1,
        description="Days a change, and what became of a write, stays in the log; the last 200 "
        "changes of each document (or as many as `VAULT_MAX_VERSIONS`) and those not yet sent to "
        "Kafka stay whatever their age.",
    )

    zookeeper_hosts: Optional = Field(
        None, description="ZooKeeper servers, host:port by commas; unset: nodes are embedded."
    )
    zookeeper_base_path: str = Field(
        "/services",
        pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        description="Where instances stand in ZooKeeper.",
    )
    zookeeper_connection_timeout: float = Field(
        1.0, ge=0.1, le=30, description="Seconds for one attempt to connect to ZooKeeper."
    )
    zookeeper_session_timeout: float = Field(
        4.0, ge=1, le=120, description="Seconds after which a silent replica's nodes vanish."
    )
    service_registry_enabled: bool = Field(
        default=False, description="Whether this replica registers itself, as `pilothouse`."
    )
    service_instance_id: Annotated[Name | None, BeforeValidator(_blank_is_unset)] = Field(
        None, description="Id of this replica's own instance; unset: a digest of its URL."
    )
    service_url: Optional = Field(
        None, description="Where others reach this replica; unset: `http://HOST:PORT`."
    )
    service_health_check_interval: float = Field(
        10.0, ge=0.2, le=3600, description="Seconds between the health checks of an instance."
    )
    health_check_allowed_networks: str = Field(
        "",
        description="Networks that health checks may reach although they are loopback, link-local "
        "or of metadata, separated by commas; development mode allows loopback.",
    )

    @field_validator("pilothouse_admin_token", "pilothouse_token_pepper")
    @classmethod
    def _are_long(cls, secret: SecretStr | None) -> SecretStr | None:
        # Anything else could stand in no header.
        if secret is not None and not _LONG.fullmatch(secret.get_secret_value()):
            raise ValueError("at least 32 characters of ASCII, without blanks")
        return secret

    @field_validator("oidc_roles")
    @classmethod
    def _are_roles(cls, text: str) -> str:
        _ROLES_OF_CLAIMS.validate_json(text or "[]")
        return text

    @property
    def roles_of_claims(self) -> list[RoleOfClaim]:
        return _ROLES_OF_CLAIMS.validate_json(self.oidc_roles or "[]")

    @field_validator("health_check_allowed_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for network in _listed(text):
            ip_network(network)
        return text

    @field_validator("production_environments")
    @classmethod
    def _are_patterns(cls, text: str) -> str:
        for pattern in _listed(text):
            _named(pattern.replace("*", "x"))
        return text

    @field_validator("plain_values_allowed")
    @classmethod
    def _have_reasons(cls, text: str) -> str:
        for environment, service, key, reason in _allowances(text):
            _named(environment.replace("*", "x"))
            _named(service.replace("*", "x"))
            if not is_key(key.replace("*", "x")):
                raise ValueError(f"{key!r} is not the pattern of a key")
            if not reason:
                raise ValueError(f"{key!r} may not be plain without a reason")
        return text

    @property
    def allowances(self) -> tuple[tuple[str, str, str, str], ...]:
        """What may be plain: the patterns of environment, service and key, and the reason."""
        return _allowances(self.plain_values_allowed)

    @property
    def production_patterns(self) -> tuple[str, ...]:
        """The patterns of the environments in which a plain credential is refused."""
        return tuple(_listed(self.production_environments))

    @property
    def protected_environments(self) -> tuple[str, ...]:
        """The patterns of the environments to which only a publisher writes: `default` too."""
        return ("default", *self.production_patterns)

    @property
    def allowed_origins(self) -> list[str]:
        """The sites whose pages browsers let call this service."""
        return _listed(self.cors_origins)

    @property
    def allowed_networks(self) -> list[str]:
        """The networks that health checks may reach whatever they are."""
        development = ["127.0.0.0/8", "::1/128"] if self.pilothouse_mode == "development" else []
        return _listed(self.health_check_allowed_networks) + development


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _allowances(text: str) -> tuple[tuple[str, str, str, str], ...]:
    entries = (entry.partition("=") for entry in text.split(";") if entry.strip())
    return tuple((*_triple(where.strip()), reason.strip()) for where, _, reason in entries)


def _triple(where: str) -> tuple[str, str, str]:
    match where.split("/"):
        case [environment, service, key]:
            return environment, service, key
    raise ValueError(f"{where!r} is not environment/service/key")
