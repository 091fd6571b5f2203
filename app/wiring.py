"""Which adapter stands behind each port: the only file that knows adapters."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.access.audit_embedded import EmbeddedAuditLog
from app.access.audit_postgres import PostgresAuditLog
from app.access.auditing import AuditLog
from app.access.embedded import EmbeddedTokenStore
from app.access.jwks import IssuerKeys
from app.access.people import KeySource
from app.access.pepper import TOKENS, PepperUnusable, derived, pepper_of
from app.access.port import TokenStore
from app.access.postgres import PostgresTokenStore
from app.access.signing import KeyUnusable, Signer, signer_of
from app.cache.absent import AbsentCache
from app.cache.port import Cache
from app.cache.redis import RedisAddress, RedisCache
from app.changes.embedded import EmbeddedChangeLog
from app.changes.errors import LogUnavailable
from app.changes.kafka import KafkaPublisher
from app.changes.port import ChangeLog, EventPublisher
from app.changes.postgres import PostgresChangeLog
from app.configs.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.configs.errors import StoreUnavailable
from app.configs.port import Cipher, ConfigStore
from app.configs.vault import KvVersionRefused, VaultCipher, VaultConfigStore
from app.configs.vault_client import AppRoleLogin, TokenLogin, VaultClient
from app.database import FAILURES, close_engine, migrate, open_engine
from app.flags.embedded import EmbeddedFlagStore
from app.flags.port import FlagStore
from app.flags.postgres import PostgresFlagStore
from app.registry.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.port import ServiceRegistryClient
from app.registry.probing import Resolve, SystemResolver
from app.registry.rows import InstanceRows
from app.registry.rows_embedded import EmbeddedInstanceRows
from app.registry.rows_postgres import PostgresInstanceRows
from app.registry.zookeeper import FENCES, ZooKeeperServiceRegistryClient
from app.settings import Settings
from app.state import State, StateInUse, StateUnavailable
from app.vitals import Watched

_log = structlog.get_logger(__name__)
Task = Callable[[], Awaitable[None]]
# Of 32 hexadecimal digits that were drawn, fewer are different in one of ten million cases.
_FEWEST_CHARACTERS = 8


class StartRefused(RuntimeError):
    """The settings ask for something this service must not do; every reason is named."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Backends:
    store: ConfigStore
    cipher: Cipher
    log: ChangeLog
    flags: FlagStore
    rows: InstanceRows
    tokens: TokenStore
    audit: AuditLog
    signer: Signer
    nodes: ServiceRegistryClient
    resolve: Resolve
    issuer: KeySource | None  # None: only machines have tokens
    pepper: bytes  # what every secret of this installation is derived from
    cache: Cache
    publisher: EventPublisher | None  # None: nobody is told of changes
    watched: Mapping[str, Watched]
    tasks: Mapping[str, Task]  # what the adapters need done in the background
    prepare: Task  # to be done once before the log is followed, as soon as it can be


def refuse_unsafe(settings: Settings) -> None:
    """Raise StartRefused for what production mode does not allow."""
    reasons = []
    if settings.pilothouse_mode == "production":
        if settings.vault_addr is None:
            reasons.append("VAULT_ADDR is not set: documents would be embedded")
        if settings.database_url is None:
            reasons.append("DATABASE_URL is not set: the change log would be embedded")
        if settings.zookeeper_hosts is None:
            reasons.append("ZOOKEEPER_HOSTS is not set: instances would be embedded")
        reasons += _unsafe_access(settings)
        if settings.audit_signing_key_file is None:
            reasons.append("AUDIT_SIGNING_KEY_FILE is not set: nobody could trust the audit")
        if settings.vault_token and settings.vault_token.get_secret_value() == "root":
            reasons.append("VAULT_TOKEN is a development default")
    if settings.oidc_issuer is not None and settings.oidc_audience is None:
        reasons.append("OIDC_ISSUER needs OIDC_AUDIENCE: tokens for anybody would be let in")
    if settings.vault_addr is not None and not _has_login(settings):
        reasons.append("VAULT_ADDR needs VAULT_TOKEN, or VAULT_ROLE_ID with VAULT_SECRET_ID")
    if reasons:
        raise StartRefused(reasons)


def _has_login(settings: Settings) -> bool:
    return bool(settings.vault_token or (settings.vault_role_id and settings.vault_secret_id))


def _unsafe_access(settings: Settings) -> list[str]:
    reasons = []
    if settings.pilothouse_access == "open":
        reasons.append("PILOTHOUSE_ACCESS is open: anybody could read and change everything")
    elif settings.pilothouse_token_pepper is None:
        reasons.append("PILOTHOUSE_TOKEN_PEPPER is not set: replicas could not share tokens")
    for url in (settings.oidc_issuer, settings.oidc_jwks_url):
        if url is not None and not url.startswith("https://"):
            reasons.append("OIDC_ISSUER and OIDC_JWKS_URL must be https: keys could be exchanged")
            break
    token = settings.pilothouse_admin_token
    if token is not None and len(set(token.get_secret_value())) < _FEWEST_CHARACTERS:
        reasons.append("PILOTHOUSE_ADMIN_TOKEN repeats itself: it could be guessed")
    return reasons


@asynccontextmanager
async def open_backends(settings: Settings) -> AsyncIterator[Backends]:
    """Open every adapter the settings name; raises StartRefused."""
    refuse_unsafe(settings)
    async with AsyncExitStack() as stack:
        state = await _opened_state(settings, stack)
        pepper = _pepper(settings)
        store, cipher, vault_tasks = await _configs(settings, state, stack)
        log, flags, rows, tokens, audit, prepare = await _log_of(settings, state, stack)
        nodes = _nodes(settings, stack)
        resolver = SystemResolver()
        stack.callback(resolver.close)
        cache = _cache(settings, stack)
        publisher = _publisher(settings, stack)
        watched = {
            "configs": Watched("vault" if settings.vault_addr else "embedded", store),
            "flags": Watched("postgres" if settings.database_url else "embedded", flags),
            "changes": Watched("postgres" if settings.database_url else "embedded", log),
            "registry": Watched(
                "zookeeper" if settings.zookeeper_hosts else "embedded", nodes, serves_reads=False
            ),
            "cache": Watched(
                "redis" if settings.redis_host else "absent", cache, serves_reads=False
            ),
            "events": Watched(
                "kafka" if publisher else "absent", publisher or _Absent(), serves_reads=False
            ),
        }
        embedded = [name for name, port in watched.items() if port.adapter == "embedded"]
        if embedded:
            _log.warning(
                "embedded_adapters", ports=embedded, note="one replica only; not for production"
            )
        yield Backends(
            store=store,
            cipher=cipher,
            log=log,
            flags=flags,
            rows=rows,
            tokens=tokens,
            audit=audit,
            signer=_signer(settings),
            nodes=nodes,
            resolve=resolver,
            issuer=_issuer(settings, stack),
            pepper=pepper,
            cache=cache,
            publisher=publisher,
            watched=watched,
            tasks=vault_tasks,
            prepare=prepare,
        )


def _signer(settings: Settings) -> Signer:
    try:
        return signer_of(settings.audit_signing_key_file, Path(settings.pilothouse_data_dir))
    except KeyUnusable as error:
        raise StartRefused([f"AUDIT_SIGNING_KEY_FILE: {error}"]) from error


def _issuer(settings: Settings, stack: AsyncExitStack) -> KeySource | None:
    match settings.oidc_issuer:
        case None:
            return None
        case issuer:
            keys = IssuerKeys(issuer, settings.oidc_jwks_url)
            stack.push_async_callback(keys.close)
            return keys


@asynccontextmanager
async def open_tokens(settings: Settings) -> AsyncIterator[tuple[TokenStore, bytes]]:
    """Open the store of tokens alone, and tell the key of digests, for a command.

    Raises StartRefused, also while a service runs on the embedded state, and LogUnavailable.
    """
    key = derived(_pepper(settings), TOKENS)
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            try:
                state = State(Path(settings.pilothouse_data_dir))
            except StateInUse as error:
                raise StartRefused(
                    [f"PILOTHOUSE_DATA_DIR: {error}: ask that service, at /api/v1/tokens"]
                ) from error
            except StateUnavailable as error:
                raise StartRefused([f"PILOTHOUSE_DATA_DIR: {error}"]) from error
            stack.push_async_callback(state.close)
            yield EmbeddedTokenStore(state, lambda: None), key
        else:
            url = settings.database_url.get_secret_value()
            if settings.pilothouse_mode != "production":
                await _migrated(url)
            engine = open_engine(url)
            stack.push_async_callback(close_engine, engine)
            yield PostgresTokenStore(engine), key


def _pepper(settings: Settings) -> bytes:
    setting = settings.pilothouse_token_pepper
    if setting is None and settings.database_url is not None:
        _log.warning("pepper_not_set", note="replicas share tokens only if they share the pepper")
    try:
        return pepper_of(
            setting.get_secret_value() if setting else None, Path(settings.pilothouse_data_dir)
        )
    except PepperUnusable as error:
        raise StartRefused([f"PILOTHOUSE_TOKEN_PEPPER: {error}"]) from error


async def _opened_state(settings: Settings, stack: AsyncExitStack) -> State | None:
    if settings.vault_addr is not None and settings.database_url is not None:
        return None
    try:
        state = State(Path(settings.pilothouse_data_dir))
    except (StateUnavailable, OSError) as error:
        raise StartRefused([f"PILOTHOUSE_DATA_DIR: {error}"]) from error
    stack.push_async_callback(state.close)
    return state


async def _configs(
    settings: Settings, state: State | None, stack: AsyncExitStack
) -> tuple[ConfigStore, Cipher, Mapping[str, Task]]:
    match settings.vault_addr:
        case None:
            assert state is not None
            folder = Path(settings.pilothouse_data_dir)
            return (
                EmbeddedConfigStore(state, max_versions=settings.vault_max_versions),
                EmbeddedCipher(folder / "secrets.key"),
                {},
            )
        case address:
            vault = VaultClient(
                address,
                _login(settings),
                namespace=settings.vault_namespace,
                ca_file=settings.vault_cacert,
            )
            stack.push_async_callback(vault.close)
            store = VaultConfigStore(
                vault,
                mount=settings.vault_mount_point,
                prefix=settings.vault_prefix,
                max_versions=settings.vault_max_versions,
            )
            await _check_mount(store)
            cipher = VaultCipher(
                vault, mount=settings.vault_transit_mount, prefix=settings.vault_prefix
            )
            return store, cipher, {"keep_token": vault.keep_token}


async def _check_mount(store: VaultConfigStore) -> None:
    """Refuse a mount of the wrong kind now; a Vault that is away is asked again at first use."""
    try:
        await store.check_mount()
    except KvVersionRefused as error:
        raise StartRefused([str(error)]) from error
    except StoreUnavailable as error:
        _log.warning("vault_away_at_start", reason=str(error))


def _login(settings: Settings) -> TokenLogin | AppRoleLogin:
    if settings.vault_role_id and settings.vault_secret_id:
        secret = settings.vault_secret_id.get_secret_value()
        return AppRoleLogin(settings.vault_role_id, secret, settings.vault_approle_mount)
    assert settings.vault_token is not None  # refuse_unsafe has seen to it
    return TokenLogin(settings.vault_token.get_secret_value())


async def _log_of(
    settings: Settings, state: State | None, stack: AsyncExitStack
) -> tuple[ChangeLog, FlagStore, InstanceRows, TokenStore, AuditLog, Task]:
    match settings.database_url:
        case None:
            assert state is not None
            embedded = EmbeddedChangeLog(state)
            flag_store = EmbeddedFlagStore(state, embedded.wake)
            token_store = EmbeddedTokenStore(state, embedded.wake)
            instance_rows = EmbeddedInstanceRows(state, embedded.wake)
            audit_log = EmbeddedAuditLog(state)
            return embedded, flag_store, instance_rows, token_store, audit_log, _nothing
        case secret:
            url = secret.get_secret_value()
            engine = open_engine(url)
            log = PostgresChangeLog(engine, url)
            flags, rows = PostgresFlagStore(engine), PostgresInstanceRows(engine)
            tokens, audit = PostgresTokenStore(engine), PostgresAuditLog(engine)
            stack.push_async_callback(log.close)
            if settings.pilothouse_mode == "production":
                # `python -m app migrate` is a step of its own there.
                return log, flags, rows, tokens, audit, _nothing
            return log, flags, rows, tokens, audit, lambda: _migrated(url)


def _nodes(settings: Settings, stack: AsyncExitStack) -> ServiceRegistryClient:
    match settings.zookeeper_hosts:
        case None:
            return EmbeddedServiceRegistryClient(EmbeddedNodes())
        case hosts:
            nodes = ZooKeeperServiceRegistryClient(
                hosts,
                base=settings.zookeeper_base_path,
                fences=_fences(settings.zookeeper_base_path),
                session_seconds=settings.zookeeper_session_timeout,
                connection_seconds=settings.zookeeper_connection_timeout,
            )
            stack.push_async_callback(nodes.close)
            return nodes


def _fences(base: str) -> str:
    """Installations with bases of their own share no fences either."""
    return FENCES if base == "/services" else FENCES + base.replace("/", "-")


def _publisher(settings: Settings, stack: AsyncExitStack) -> EventPublisher | None:
    match settings.kafka_bootstrap_servers:
        case None:
            return None
        case servers:
            publisher = KafkaPublisher(
                servers,
                settings.kafka_topic_config_updates,
                may_create=settings.kafka_topic_auto_create,
            )
            stack.push_async_callback(publisher.close)
            return publisher


def _cache(settings: Settings, stack: AsyncExitStack) -> Cache:
    match settings.redis_host:
        case None:
            return AbsentCache()
        case host:
            secret = settings.redis_password
            address = RedisAddress(
                host,
                settings.redis_port,
                secret.get_secret_value() if secret else None,
                settings.redis_db,
                settings.redis_tls,
            )
            cache = RedisCache(address, prefix=settings.redis_prefix)
            stack.push_async_callback(cache.close)
            return cache


class _Absent:
    async def ping(self) -> None:
        """Do nothing: what is not there cannot be away."""


async def _migrated(url: str) -> None:
    try:
        await migrate(url)
    except FAILURES as error:
        raise LogUnavailable("Postgres cannot be reached") from error


async def _nothing() -> None:
    return
