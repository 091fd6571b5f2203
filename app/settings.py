"""Everything an operator can change: the only reader of the environment."""

import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.ignored_variables import IgnoredVariable, find_ignored, is_service_link, nearest_name
from app.server_addresses import (
    check_database_url,
    check_host,
    check_http_url,
    check_kafka_servers,
    check_zookeeper_hosts,
)
from pilothouse_core.keys import is_key
from pilothouse_core.names import is_instance_id, is_name

_HOST = re.compile(
    r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
    r"|(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
    r"|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*"
)
_LONG = re.compile(r"[!-~]{32,}")
_VISIBLE = re.compile(r"[!-~]+")
_SHOWN = 40  # characters of a value that is refused

# What production refuses unless PRODUCTION_CHECKS_WAIVED has the name, with a reason.
Check = Literal[
    "default_secret",
    "weak_secret",
    "shared_secret",
    "vault_http",
    "oidc_http",
    "unknown_setting",
]
CHECKS: tuple[str, ...] = get_args(Check)


def _check_name(text: str) -> str:
    if not is_name(text):
        raise ValueError("must have letters, digits, '.', '_' and '-' only, at most 63")
    return text


def _check_instance_id(text: str) -> str:
    if not is_instance_id(text):
        raise ValueError("letters, digits, '.', '_', '-', ':' and '@' only, at most 128")
    return text


def _lowercase(text: object) -> object:
    return text.strip().lower() if isinstance(text, str) else text


def _unless_blank(check: Callable[[str], str]) -> Callable[[object], object]:
    """Return a validator that runs `check` unless the value is blank."""

    def judge(text: object) -> object:
        return check(text) if isinstance(text, str) and text else _blank_is_unset(text)

    return judge


def _blank_is_unset(text: object) -> object:
    """`VAULT_ADDR=` in an environment file means the same as leaving the line out."""
    return None if text == "" else text


Name = Annotated[str, BeforeValidator(_check_name)]
InstanceId = Annotated[str, BeforeValidator(_check_instance_id)]
Optional = Annotated[str | None, BeforeValidator(_blank_is_unset)]
Secret = Annotated[SecretStr | None, BeforeValidator(_blank_is_unset)]
HttpUrl = Annotated[str | None, BeforeValidator(_unless_blank(check_http_url))]


class RoleOfClaim(BaseModel):
    """A role for every person who has `value` in the roles claim."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: str
    role: Literal["viewer", "editor", "publisher", "admin", "secrets:reveal"]
    environments: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)


_ROLES_OF_CLAIMS = TypeAdapter(list[RoleOfClaim])


class Settings(BaseSettings):
    """Read once at start; docs/reference/settings.md is compared with this class by a test."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False
    )

    _unheeded: tuple[IgnoredVariable, ...] = PrivateAttr(default=())

    host: Annotated[str, BeforeValidator(_unless_blank(check_host))] = Field(
        "127.0.0.1", description="Address to listen on.", examples=["10.1.2.3"]
    )
    port: int = Field(8082, ge=1, le=65535, description="Port to listen on.")
    pilothouse_mode: Literal["development", "production"] = Field(
        "development",
        description="`production` refuses to start with an embedded adapter, with open access, "
        "with default or weak secrets, or with a misspelt setting.",
    )
    production_checks_waived: str = Field(
        "",
        description="Checks of production mode that are waived: `name=reason`, separated by "
        f"semicolons; the names are {', '.join(f'`{name}`' for name in CHECKS)}.",
        examples=["vault_http=the mesh encrypts all traffic"],
    )
    pilothouse_access: Literal["open", "required"] = Field(
        "open",
        description="Who may call: `open`: anyone who can reach the port; `required`: only "
        "callers with a token.",
    )
    pilothouse_admin_token: Secret = Field(
        None,
        description="The first token of class `admin`: 32 characters or more, without blanks.",
    )
    pilothouse_token_pepper: Secret = Field(
        None,
        description="Secret from which the keys for token digests and fingerprints are derived, "
        "the same for all replicas: 32 characters or more; unset: created once, in the data "
        "folder.",
    )
    audit_signing_key_file: Optional = Field(
        None,
        description="File with the private Ed25519 key (PEM) that signs the head of the audit, the "
        "same for all replicas; unset: created once, in the data folder.",
    )
    production_environments: str = Field(
        "production,prod,prod-*,production-*,live",
        description="Names of production environments, separated by commas, in any case; `*` "
        "matches any characters.",
        examples=["production,eu-*"],
    )
    plain_values_allowed: str = Field(
        "",
        description="Plain values that look like credentials and are allowed: "
        "`environment/service/key=reason`, separated by semicolons; `*` matches any characters.",
        examples=["production/shop/maps.key=restricted to our domain"],
    )
    pilothouse_data_dir: str = Field("./data", description="Folder of the embedded adapters.")
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_lowercase)
    ] = Field("info", description="Lowest level of log lines that are written, in any case.")
    log_format: Annotated[Literal["json", "text"], BeforeValidator(_lowercase)] = Field(
        "json", description="Format of a log line."
    )
    no_color: str = Field(
        "", description="Any text: log lines in the format `text` have no colours on a terminal."
    )
    shutdown_delay_seconds: float = Field(
        0,
        ge=0,
        le=300,
        description="Seconds after SIGTERM during which `/ready` answers 503 and connections are "
        "closed after their answers, while requests are still served; then the service stops.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of proxies whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are trusted, separated by commas; unset: none.",
    )
    cache_memory_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="Bytes of documents kept in memory, as stored text."
    )
    stream_limit: int = Field(
        5000, ge=0, description="Stream clients of this replica; others are answered 503."
    )
    caller_stream_limit: int = Field(
        1000, ge=1, description="Streams that one caller may have on this replica."
    )
    caller_request_limit: float = Field(
        0, ge=0, description="Requests a second of one caller on this replica; 0: no limit."
    )
    unknown_caller_limit: float = Field(
        100,
        ge=0,
        description="401 answers a second to one address on this replica; 0: no limit.",
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(https?://[^/,\s*]+(\s*,\s*https?://[^/,\s*]+)*)?$",
        description="Origins whose pages may call the service from a browser, `https://host` "
        "separated by commas; unset: none.",
        examples=["https://console.example.org"],
    )

    allowed_hosts: str = Field(
        "",
        description="Accepted values of `Host` while access is open, besides loopback names and "
        "the setting `HOST`, separated by commas; `*.` before a name matches all its subdomains.",
    )

    oidc_issuer: HttpUrl = Field(
        None,
        description="Issuer of people's tokens (OpenID Connect); unset: only tokens of Pilothouse.",
        examples=["https://login.example.org/realms/company"],
    )
    oidc_audience: Optional = Field(
        None, description="Audience that the `aud` claim must contain; required with an issuer."
    )
    oidc_clients: str = Field(
        "",
        description="Clients whose tokens are accepted (`azp`, else `client_id`), separated by "
        "commas; unset: all.",
    )
    oidc_jwks_url: HttpUrl = Field(
        None,
        description="URL of the issuer's keys; unset: taken from its discovery document.",
        examples=["https://login.example.org/keys"],
    )
    oidc_timeout_seconds: float = Field(
        2.0,
        ge=0.1,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for reading the issuer's keys.",
    )
    oidc_name_claim: str = Field(
        "sub", min_length=1, description="Claim used as the actor name in the log and the audit."
    )
    oidc_roles_claim: str = Field(
        "groups", min_length=1, description="Claim from which roles are read, a dotted path."
    )
    oidc_roles: str = Field(
        "",
        description="Roles for the values of that claim: a JSON array of "
        '`{"value", "role", "environments", "services"}`; other values give no role.',
        examples=['[{"value":"platform","role":"publisher"}]'],
    )

    vault_addr: HttpUrl = Field(
        None,
        description="Vault's URL; unset: documents are embedded.",
        examples=["https://vault.example.org:8200"],
    )
    vault_token: Secret = Field(None, description="Vault token, unless AppRole is used.")
    vault_role_id: Optional = Field(None, description="AppRole role id.")
    vault_secret_id: Secret = Field(None, description="AppRole secret id.")
    vault_approle_mount: Name = Field("approle", description="Mount path of AppRole.")
    vault_namespace: Optional = Field(None, description="Namespace header (Enterprise, HCP).")
    vault_cacert: Optional = Field(None, description="File with the CA of Vault's certificate.")
    vault_mount_point: Name = Field("secret", description="Mount path of KV version 2.")
    vault_kv_version: Literal["2"] = Field("2", description="Version of the KV mount.")
    vault_prefix: Name = Field("pilothouse", description="Folder of all documents in the mount.")
    vault_transit_mount: Name = Field("transit", description="Mount path of transit.")
    vault_max_versions: int = Field(
        200, ge=10, le=10_000, description="Versions kept of each document."
    )
    vault_scan_interval: float = Field(
        3.0, ge=0.2, le=3600, description="Seconds between scans for edits made directly in Vault."
    )

    proposal_grace_seconds: float = Field(
        300,
        ge=1,
        le=86_400,
        description="How late a scheduled proposal may begin; after that, it is missed.",
    )
    release_prometheus_url: HttpUrl = Field(
        None,
        description="Prometheus server that the signals of releases are asked of; callers name "
        "queries only.",
        examples=["https://prometheus.example.org:9090"],
    )

    vault_timeout_seconds: float = Field(
        0.7,
        ge=0.1,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for one call to Vault, of which 4/7 to connect.",
    )

    database_url: Secret = Field(
        None,
        description="PostgreSQL URL; unset: the change log is embedded.",
        examples=["postgresql://user:password@db.example.org:5432/pilothouse"],
    )
    database_timeout_seconds: float = Field(
        1.8,
        ge=0.2,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for one call to PostgreSQL, including the wait for a "
        "connection; 0.2 s later the server ends the statement itself.",
    )

    redis_host: Annotated[str | None, BeforeValidator(_unless_blank(check_host))] = Field(
        None,
        description="Host of the Redis cache that replicas share; unset: no shared cache.",
        examples=["redis.example.org"],
    )
    redis_port: int = Field(6379, ge=1, le=65535, description="Port of Redis.")
    redis_password: Secret = Field(None, description="Password of Redis, if any.")
    redis_db: int = Field(0, ge=0, description="Number of the Redis database.")
    redis_tls: bool = Field(default=False, description="Whether Redis is called over TLS.")
    redis_prefix: Name = Field("pilothouse", description="Prefix of every key in Redis.")
    redis_timeout_seconds: float = Field(
        0.05,
        ge=0.005,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for one call to Redis; after it, Vault is read.",
    )

    kafka_bootstrap_servers: Annotated[
        str | None, BeforeValidator(_unless_blank(check_kafka_servers))
    ] = Field(
        None,
        description="Kafka brokers, host:port separated by commas; unset: no events.",
        examples=["kafka-1.example.org:9092,kafka-2.example.org:9092"],
    )
    kafka_topic_config_updates: str = Field(
        "config-updates",
        pattern=r"^[A-Za-z0-9._-]{1,249}$",
        description="Topic of the events, one for each change.",
        examples=["config-updates"],
    )
    kafka_topic_auto_create: bool = Field(
        default=True, description="Whether a missing topic is created, with three partitions."
    )
    kafka_timeout_seconds: float = Field(
        3.0,
        ge=0.5,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for Kafka to acknowledge events; then they are sent again "
        "with twice the deadline, up to eight times.",
    )
    change_retention_days: int = Field(
        30,
        ge=1,
        description="Days for which changes and outcomes of writes are retained; the last 200 "
        "changes of each document (or as many as `VAULT_MAX_VERSIONS`) and those not yet sent to "
        "Kafka are retained at any age.",
    )

    zookeeper_hosts: Annotated[
        str | None, BeforeValidator(_unless_blank(check_zookeeper_hosts))
    ] = Field(
        None,
        description="ZooKeeper servers, host:port separated by commas; unset: nodes are embedded.",
        examples=["zk-1.example.org:2181,zk-2.example.org:2181"],
    )
    zookeeper_base_path: str = Field(
        "/services",
        pattern=r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$",
        description="Path of the instances in ZooKeeper.",
        examples=["/services"],
    )
    zookeeper_connection_timeout: float = Field(
        1.0, ge=0.1, le=30, description="Seconds for one attempt to connect to ZooKeeper."
    )
    zookeeper_session_timeout: float = Field(
        4.0,
        ge=1,
        le=120,
        description="Seconds after which ZooKeeper removes the nodes of a silent replica.",
    )
    zookeeper_timeout_seconds: float = Field(
        2.0,
        ge=0.1,
        le=60,
        allow_inf_nan=False,
        description="Deadline in seconds for one call to ZooKeeper.",
    )
    service_registry_enabled: bool = Field(
        default=False, description="Whether this replica registers itself, as `pilothouse`."
    )
    service_instance_id: Annotated[InstanceId | None, BeforeValidator(_blank_is_unset)] = Field(
        None, description="Id of this replica's own instance; unset: a digest of its URL."
    )
    service_url: HttpUrl = Field(
        None,
        description="URL by which others reach this replica; unset: `http://HOST:PORT`.",
        examples=["http://10.1.2.3:8082"],
    )
    service_health_check_interval: float = Field(
        10.0, ge=0.2, le=3600, description="Seconds between the health checks of an instance."
    )
    health_check_ca_file: Optional = Field(
        None,
        description="PEM file with CAs that health checks and webhooks over https trust, besides "
        "those of this machine.",
    )
    health_check_allowed_networks: str = Field(
        "",
        description="Loopback, link-local and metadata networks that health checks and webhooks "
        "may reach, separated by commas; development mode allows loopback.",
        examples=["10.20.0.0/16"],
    )

    @model_validator(mode="before")
    @classmethod
    def _without_service_links(cls, given: Any) -> Any:
        """Remove REDIS_PORT=tcp://..., which Kubernetes sets for a Service called `redis`."""
        if not isinstance(given, dict):
            return given
        return {name: text for name, text in given.items() if not is_service_link(name, text)}

    @field_validator("database_url")
    @classmethod
    def _is_of_postgres(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            check_database_url(secret.get_secret_value())
        return secret

    @field_validator("vault_token")
    @classmethod
    def _fits_a_header(cls, secret: SecretStr | None) -> SecretStr | None:
        # A line break at its end, which files often have, would look like an unavailable Vault.
        if secret is not None and not _VISIBLE.fullmatch(secret.get_secret_value()):
            raise ValueError("holds blanks, line breaks or other characters that no token has")
        return secret

    @field_validator("vault_role_id", "vault_secret_id", "vault_namespace")
    @classmethod
    def _has_no_blanks(cls, given: SecretStr | str | None) -> SecretStr | str | None:
        text = given.get_secret_value() if isinstance(given, SecretStr) else given
        if text is not None and not _VISIBLE.fullmatch(text):
            raise ValueError("holds blanks, line breaks or characters beyond ASCII")
        return given

    @field_validator("production_checks_waived")
    @classmethod
    def _are_waivers(cls, text: str) -> str:
        named = set()
        for name, reason in _parse_waivers(text):
            if name not in CHECKS:
                nearest = nearest_name(name, CHECKS)
                hint = f"; did you mean {nearest!r}?" if nearest else ""
                raise ValueError(f"{name!r} is not one of {', '.join(CHECKS)}{hint}")
            if not reason:
                raise ValueError(f"{name!r} may not be waived without a reason")
            if name in named:
                raise ValueError(f"{name!r} is waived twice")
            named.add(name)
        return text

    @property
    def waivers(self) -> Mapping[str, str]:
        """The checks of production mode that are waived, and why."""
        return dict(_parse_waivers(self.production_checks_waived))

    @property
    def ignored_variables(self) -> tuple[IgnoredVariable, ...]:
        """The variables that look like settings and have no effect."""
        return self._unheeded

    @field_validator("pilothouse_admin_token", "pilothouse_token_pepper")
    @classmethod
    def _are_long(cls, secret: SecretStr | None) -> SecretStr | None:
        # Other characters are not allowed in a header.
        if secret is not None and not _LONG.fullmatch(secret.get_secret_value()):
            raise ValueError("must have at least 32 characters of ASCII, without blanks")
        return secret

    @field_validator("oidc_roles")
    @classmethod
    def _are_roles(cls, text: str) -> str:
        try:
            _ROLES_OF_CLAIMS.validate_json(text or "[]")
        except ValidationError as error:
            raise ValueError(_first_flaw(error)) from None
        return text

    @property
    def roles_of_claims(self) -> list[RoleOfClaim]:
        return _ROLES_OF_CLAIMS.validate_json(self.oidc_roles or "[]")

    @field_validator("health_check_allowed_networks", "trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for network in _split_list(text):
            ip_network(network)
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        for host in _split_list(text):
            if not _HOST.fullmatch(host):
                raise ValueError("names such as pilothouse.example, *.example or pilothouse:8082")
        return text

    @field_validator("production_environments")
    @classmethod
    def _are_patterns(cls, text: str) -> str:
        for pattern in _split_list(text):
            _check_name(pattern.replace("*", "x"))
        return text

    @field_validator("plain_values_allowed")
    @classmethod
    def _have_reasons(cls, text: str) -> str:
        for environment, service, key, reason in _parse_allowances(text):
            _check_name(environment.replace("*", "x"))
            _check_name(service.replace("*", "x"))
            if not is_key(key.replace("*", "x")):
                raise ValueError(f"{key!r} is not the pattern of a key")
            if not reason:
                raise ValueError(f"{key!r} may not be plain without a reason")
        return text

    @property
    def allowances(self) -> tuple[tuple[str, str, str, str], ...]:
        """What may be plain: the patterns of environment, service and key, and the reason."""
        return _parse_allowances(self.plain_values_allowed)

    @property
    def production_patterns(self) -> tuple[str, ...]:
        """The patterns of the environments in which a plain credential is refused."""
        return tuple(_split_list(self.production_environments))

    @property
    def protected_environments(self) -> tuple[str, ...]:
        """The patterns of the environments to which only a publisher writes: `default` too."""
        return ("default", *self.production_patterns)

    @property
    def read_seconds(self) -> float:
        """How long a read of a document takes at most: Redis is asked first, then Vault."""
        return self.vault_timeout_seconds + self.redis_timeout_seconds + 0.05

    @property
    def write_seconds(self) -> float:
        """How long a write of a document takes at most.

        There must be time for the slower of the two servers, and to ask Vault a second time what
        became of the first.
        """
        return max(self.database_timeout_seconds, 2 * self.vault_timeout_seconds) + 0.2

    @property
    def registry_seconds(self) -> float:
        """How long a heartbeat or a registration takes at most, with others in one batch."""
        return self.database_timeout_seconds + 0.2

    @property
    def allowed_origins(self) -> list[str]:
        """The sites whose pages may call this service from a browser."""
        return _split_list(self.cors_origins)

    @property
    def allowed_clients(self) -> frozenset[str]:
        """The clients for which the issuer may have made people's tokens; none of them: all."""
        return frozenset(_split_list(self.oidc_clients))

    @property
    def proxies(self) -> list[str]:
        """The addresses and networks of trusted proxies."""
        return _split_list(self.trusted_proxies)

    @property
    def secrets(self) -> list[str]:
        """The values that no log line may have."""
        return [
            value.get_secret_value()
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), SecretStr)
        ]

    @property
    def allowed_host_names(self) -> list[str]:
        """The hosts that a request may name while access is open."""
        return _split_list(self.allowed_hosts)

    @property
    def allowed_networks(self) -> list[str]:
        """The networks that health checks and webhooks may always reach."""
        development = ["127.0.0.0/8", "::1/128"] if self.pilothouse_mode == "development" else []
        return _split_list(self.health_check_allowed_networks) + development


def load_settings(
    stated: Mapping[str, Any] = MappingProxyType({}), environment: Mapping[str, str] = os.environ
) -> Settings:
    """Read the settings from the environment, and find ignored variables.

    `stated` values, by the names of fields, take precedence.
    Raises pydantic's ValidationError; `explain_flaws` describes it.
    """
    settings = Settings(**stated)
    known = frozenset(name.upper() for name in Settings.model_fields)
    settings._unheeded = find_ignored(environment, known)  # noqa: SLF001 - made above
    return settings


def explain_flaws(invalid: ValidationError) -> list[str]:
    """Return one line for each setting that is wrong: its name, what is wrong, the right form.

    No line contains a secret.
    """
    return [_explain_flaw(flaw) for flaw in invalid.errors(include_url=False)]


def _explain_flaw(flaw: Mapping[str, Any]) -> str:
    name = str(flaw["loc"][0]) if flaw["loc"] else ""
    field = Settings.model_fields.get(name)
    if field is None:
        return str(flaw["msg"])
    wrong = _describe_value(flaw, field.annotation)
    right = _describe_form(field)
    return f"{name.upper()}: {wrong}" + (f"; it must be {right}" if right else "")


def _describe_value(flaw: Mapping[str, Any], annotation: Any) -> str:
    if flaw["type"] == "value_error":
        return str(flaw["ctx"]["error"])
    given = flaw["input"]
    if isinstance(given, SecretStr) or SecretStr in get_args(annotation):
        return "cannot be used"
    if not isinstance(given, str):
        return "cannot be used"
    return f"is {given[:_SHOWN]!r}{'...' * (len(given) > _SHOWN)}" if given.strip() else "is empty"


def _describe_form(field: Any) -> str:
    """Describe the valid form of a setting."""
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
        return f"one of {', '.join(choices)}" if len(choices) > 1 else f"{choices[0]}"
    if field.examples:
        return f"of the form {field.examples[0]}"
    if field.annotation is bool:
        return "true or false"
    if field.annotation in {int, float}:
        kind = "a whole number" if field.annotation is int else "a number"
        least = [bound.ge for bound in field.metadata if isinstance(bound, Ge)]
        most = [bound.le for bound in field.metadata if isinstance(bound, Le)]
        return f"{kind}{f' from {least[0]}' if least else ''}{f' to {most[0]}' if most else ''}"
    return ""


def _first_flaw(error: ValidationError) -> str:
    flaw = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, flaw["loc"]))
    return f"{where}: {flaw['msg']}" if where else flaw["msg"]


def _parse_waivers(text: str) -> list[tuple[str, str]]:
    entries = (entry.partition("=") for entry in text.split(";") if entry.strip())
    return [(name.strip(), reason.strip()) for name, _, reason in entries]


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_allowances(text: str) -> tuple[tuple[str, str, str, str], ...]:
    entries = (entry.partition("=") for entry in text.split(";") if entry.strip())
    return tuple((*_split_place(where.strip()), reason.strip()) for where, _, reason in entries)


def _split_place(where: str) -> tuple[str, str, str]:
    match where.split("/"):
        case [environment, service, key]:
            return environment, service, key
    raise ValueError(f"{where!r} is not environment/service/key")
