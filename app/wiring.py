"""Chooses the adapter of each port: the only module that knows adapters."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.access.oidc.authenticator import KeySource
from app.access.oidc.jwks import IssuerKeys
from app.access.root_secret import TOKENS, RootSecretUnusable, derive_key, load_root_secret
from app.access.tokens.embedded import EmbeddedTokenStore
from app.access.tokens.port import TokenStore
from app.access.tokens.postgres import PostgresTokenStore
from app.audit.embedded import EmbeddedAuditLog
from app.audit.keys import SigningKey, SigningKeyUnusable, load_signing_key
from app.audit.port import AuditLog
from app.audit.postgres import PostgresAuditLog
from app.cache.absent import AbsentCache
from app.cache.guarded import PURPOSE as SIGNATURES
from app.cache.guarded import GuardedCache
from app.cache.port import Cache
from app.cache.redis import RedisAddress, RedisCache
from app.changes.errors import LogUnavailable
from app.changes.events.kafka import KafkaPublisher
from app.changes.events.port import EventPublisher
from app.changes.log.embedded.log import EmbeddedChangeLog
from app.changes.log.embedded.ports import embedded_ports
from app.changes.log.port import LogPorts
from app.changes.log.postgres.connection import LogConnection
from app.changes.log.postgres.ports import postgres_ports
from app.configs.errors import StoreUnavailable
from app.configs.store.embedded import EmbeddedCipher, EmbeddedConfigStore
from app.configs.store.port import Cipher, ConfigStore
from app.configs.store.vault import KvVersionRefused, VaultCipher, VaultConfigStore
from app.configs.store.vault_client import AppRoleLogin, TokenLogin, VaultClient
from app.feature import Task
from app.flags.store.embedded import EmbeddedFlagStore
from app.flags.store.port import FlagStore
from app.flags.store.postgres import PostgresFlagStore
from app.outbound.resolver import Resolve, SystemResolver
from app.postgres.engine import FAILURES, close_engine, open_engine
from app.postgres.failures import explain_failure
from app.postgres.migration import migrate
from app.production_checks import StartRefused, refuse_unsafe
from app.proposals.bodies.embedded import EmbeddedProposalBodies
from app.proposals.bodies.port import ProposalBodies
from app.proposals.bodies.vault import VaultProposalBodies
from app.proposals.feature import ProposalPorts
from app.proposals.promotion.store.embedded import EmbeddedPromotionStore
from app.proposals.promotion.store.port import PromotionStore
from app.proposals.promotion.store.postgres import PostgresPromotionStore
from app.proposals.releases.bodies import CandidateBodies, ProposedCandidates
from app.proposals.releases.readers.embedded import EmbeddedReaderStore
from app.proposals.releases.readers.port import ReaderStore
from app.proposals.releases.readers.postgres import PostgresReaderStore
from app.proposals.releases.store.embedded import EmbeddedReleaseStore
from app.proposals.releases.store.port import ReleaseStore
from app.proposals.releases.store.postgres import PostgresReleaseStore
from app.proposals.store.embedded import EmbeddedProposalStore
from app.proposals.store.port import ProposalStore
from app.proposals.store.postgres import PostgresProposalStore
from app.registry.instances.embedded import EmbeddedInstanceStore
from app.registry.instances.port import InstanceStore
from app.registry.instances.postgres import PostgresInstanceStore
from app.registry.nodes.embedded import EmbeddedNodes, EmbeddedServiceRegistryClient
from app.registry.nodes.port import ServiceRegistryClient
from app.registry.nodes.zookeeper.client import FENCES, ZooKeeperServiceRegistryClient
from app.rules.definitions.embedded import EmbeddedDefinitionStore
from app.rules.definitions.port import DefinitionStore
from app.rules.definitions.postgres import PostgresDefinitionStore
from app.settings import Settings
from app.sqlite.state import SQLiteState, StateInUse, StateUnavailable
from app.status.monitor import MonitoredPort
from app.webhooks.store.embedded import EmbeddedDeliveryStore
from app.webhooks.store.port import DeliveryStore
from app.webhooks.store.postgres import PostgresDeliveryStore

_log = structlog.get_logger(__name__)
# A silent server is reported after this time, however long its callers may wait.
_MAX_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Backends:
    store: ConfigStore
    cipher: Cipher
    changes: LogPorts
    flags: FlagStore
    definitions: DefinitionStore
    deliveries: DeliveryStore
    proposals: ProposalPorts
    releases: ReleaseStore
    readers: ReaderStore
    candidates: CandidateBodies
    promotions: PromotionStore
    rows: InstanceStore
    tokens: TokenStore
    audit: AuditLog
    signer: SigningKey
    nodes: ServiceRegistryClient
    resolve: Resolve
    issuer: KeySource | None  # None: only tokens of machines are accepted
    pepper: bytes  # what every secret of this installation is derived from
    cache: Cache
    publisher: EventPublisher | None  # None: changes are not published
    monitored: Mapping[str, MonitoredPort]
    tasks: Mapping[str, Task]  # background tasks of the adapters
    prepare: Task  # runs once before the log is followed


@dataclass(frozen=True, slots=True)
class _ConfigPorts:
    """What Vault keeps, or the embedded state."""

    store: ConfigStore
    cipher: Cipher
    proposal_bodies: ProposalBodies
    tasks: Mapping[str, Task]


@dataclass(frozen=True, slots=True)
class _DatabasePorts:
    """What Postgres keeps, or the embedded state."""

    changes: LogPorts
    flags: FlagStore
    definitions: DefinitionStore
    deliveries: DeliveryStore
    proposals: ProposalStore
    releases: ReleaseStore
    readers: ReaderStore
    promotions: PromotionStore
    rows: InstanceStore
    tokens: TokenStore
    audit: AuditLog
    prepare: Task


@asynccontextmanager
async def open_backends(settings: Settings) -> AsyncIterator[Backends]:
    """Open every adapter the settings name; raises StartRefused."""
    refuse_unsafe(settings)
    async with AsyncExitStack() as stack:
        state = await _open_state(settings, stack)
        pepper = _load_root_secret(settings)
        vault = await _open_config_store(settings, state, stack)
        database = _open_database(settings, state, stack)
        nodes = _open_nodes(settings, stack)
        resolver = SystemResolver()
        stack.callback(resolver.close)
        cache = _open_cache(settings, pepper, stack)
        publisher = _open_publisher(settings, stack)
        database_adapter = "postgres" if settings.database_url else "embedded"
        ask_database = _probe_seconds(settings.database_timeout_seconds / 2)
        embedded_writes = _no_failure if state is None else state.write_failure
        log_writes = _no_failure if settings.database_url else embedded_writes
        # Each a little longer than the port's own time-out, whose error names the cause.
        monitored = {
            "configs": MonitoredPort(
                "vault" if settings.vault_addr else "embedded",
                vault.store,
                seconds=_probe_seconds(settings.vault_timeout_seconds + 0.2),
                write_failure=_no_failure if settings.vault_addr else embedded_writes,
            ),
            "flags": MonitoredPort(
                database_adapter, database.flags, seconds=ask_database, write_failure=log_writes
            ),
            "changes": MonitoredPort(
                database_adapter,
                database.changes.log,
                seconds=ask_database,
                write_failure=log_writes,
            ),
            "registry": MonitoredPort(
                "zookeeper" if settings.zookeeper_hosts else "embedded",
                nodes,
                serves_reads=False,
                seconds=_probe_seconds(settings.zookeeper_timeout_seconds * 0.45),
            ),
            "cache": MonitoredPort(
                "redis" if settings.redis_host else "absent",
                cache,
                serves_reads=False,
                seconds=_probe_seconds(settings.redis_timeout_seconds + 0.85),
            ),
            "events": MonitoredPort(
                "kafka" if publisher else "absent",
                publisher or _AbsentPort(),
                serves_reads=False,
                seconds=_probe_seconds(settings.kafka_timeout_seconds * 0.3),
            ),
        }
        embedded = [name for name, port in monitored.items() if port.adapter == "embedded"]
        if embedded:
            _log.warning(
                "embedded_adapters", ports=embedded, note="one replica only; not for production"
            )
        yield Backends(
            store=vault.store,
            cipher=vault.cipher,
            changes=database.changes,
            flags=database.flags,
            definitions=database.definitions,
            deliveries=database.deliveries,
            proposals=ProposalPorts(database.proposals, vault.proposal_bodies),
            releases=database.releases,
            readers=database.readers,
            candidates=ProposedCandidates(vault.proposal_bodies),
            promotions=database.promotions,
            rows=database.rows,
            tokens=database.tokens,
            audit=database.audit,
            signer=_load_signing_key(settings),
            nodes=nodes,
            resolve=resolver,
            issuer=_open_issuer(settings, stack),
            pepper=pepper,
            cache=cache,
            publisher=publisher,
            monitored=monitored,
            tasks=vault.tasks,
            prepare=database.prepare,
        )


def _probe_seconds(seconds: float) -> float:
    return min(seconds, _MAX_PROBE_SECONDS)


def _load_signing_key(settings: Settings) -> SigningKey:
    try:
        return load_signing_key(settings.audit_signing_key_file, Path(settings.pilothouse_data_dir))
    except SigningKeyUnusable as error:
        raise StartRefused([f"AUDIT_SIGNING_KEY_FILE: {error}"]) from error


def _open_issuer(settings: Settings, stack: AsyncExitStack) -> KeySource | None:
    match settings.oidc_issuer:
        case None:
            return None
        case issuer:
            keys = IssuerKeys(issuer, settings.oidc_jwks_url, settings.oidc_timeout_seconds)
            stack.push_async_callback(keys.close)
            return keys


@asynccontextmanager
async def open_token_store(settings: Settings) -> AsyncIterator[tuple[TokenStore, bytes]]:
    """Open only the token store, for a command; yield it with the key for digests.

    Raises StartRefused, also while a service runs on the embedded state, and LogUnavailable.
    """
    key = derive_key(_load_root_secret(settings), TOKENS)
    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            try:
                state = SQLiteState(Path(settings.pilothouse_data_dir))
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
                await _migrate_or_raise(url)
            engine = open_engine(url, settings.database_timeout_seconds)
            stack.push_async_callback(close_engine, engine)
            yield PostgresTokenStore(engine), key


def _load_root_secret(settings: Settings) -> bytes:
    setting = settings.pilothouse_token_pepper
    if setting is None and (settings.database_url is not None or settings.redis_host is not None):
        note = "replicas share tokens, and what is in Redis, only if they share the pepper"
        _log.warning("pepper_not_set", note=note)
    try:
        return load_root_secret(
            setting.get_secret_value() if setting else None, Path(settings.pilothouse_data_dir)
        )
    except RootSecretUnusable as error:
        raise StartRefused([f"PILOTHOUSE_TOKEN_PEPPER: {error}"]) from error


async def _open_state(settings: Settings, stack: AsyncExitStack) -> SQLiteState | None:
    if settings.vault_addr is not None and settings.database_url is not None:
        return None
    try:
        state = SQLiteState(Path(settings.pilothouse_data_dir))
    except (StateUnavailable, OSError) as error:
        raise StartRefused([f"PILOTHOUSE_DATA_DIR: {error}"]) from error
    stack.push_async_callback(state.close)
    return state


async def _open_config_store(
    settings: Settings, state: SQLiteState | None, stack: AsyncExitStack
) -> _ConfigPorts:
    match settings.vault_addr:
        case None:
            assert state is not None
            folder = Path(settings.pilothouse_data_dir)
            return _ConfigPorts(
                EmbeddedConfigStore(state, max_versions=settings.vault_max_versions),
                EmbeddedCipher(folder / "secrets.key"),
                EmbeddedProposalBodies(state),
                {},
            )
        case address:
            vault = VaultClient(
                address,
                _vault_login(settings),
                namespace=settings.vault_namespace,
                ca_file=settings.vault_cacert,
                seconds=settings.vault_timeout_seconds,
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
            bodies = VaultProposalBodies(
                vault, mount=settings.vault_mount_point, prefix=settings.vault_prefix
            )
            return _ConfigPorts(store, cipher, bodies, {"keep_token": vault.keep_token})


async def _check_mount(store: VaultConfigStore) -> None:
    """Refuse a mount of the wrong kind now; an unavailable Vault is checked at first use."""
    try:
        await store.check_mount()
    except KvVersionRefused as error:
        raise StartRefused([str(error)]) from error
    except StoreUnavailable as error:
        _log.warning("vault_away_at_start", reason=str(error))
        return
    with suppress(StoreUnavailable):
        if expiry := await store.find_expiry():
            _log.warning("vault_mount_expires_versions", delete_version_after=expiry)


def _vault_login(settings: Settings) -> TokenLogin | AppRoleLogin:
    if settings.vault_role_id and settings.vault_secret_id:
        secret = settings.vault_secret_id.get_secret_value()
        return AppRoleLogin(settings.vault_role_id, secret, settings.vault_approle_mount)
    assert settings.vault_token is not None  # refuse_unsafe has seen to it
    return TokenLogin(settings.vault_token.get_secret_value())


def _open_database(
    settings: Settings, state: SQLiteState | None, stack: AsyncExitStack
) -> _DatabasePorts:
    match settings.database_url:
        case None:
            assert state is not None
            log = EmbeddedChangeLog(state)
            return _DatabasePorts(
                changes=embedded_ports(state, log),
                flags=EmbeddedFlagStore(state, log.wake),
                definitions=EmbeddedDefinitionStore(state, log.wake),
                deliveries=EmbeddedDeliveryStore(state),
                proposals=EmbeddedProposalStore(state, log.wake),
                releases=EmbeddedReleaseStore(state, log.wake),
                readers=EmbeddedReaderStore(state),
                promotions=EmbeddedPromotionStore(state),
                rows=EmbeddedInstanceStore(state, log.wake),
                tokens=EmbeddedTokenStore(state, log.wake),
                audit=EmbeddedAuditLog(state),
                prepare=_do_nothing,
            )
        case secret:
            url = secret.get_secret_value()
            engine = open_engine(url, settings.database_timeout_seconds)
            connection = LogConnection(engine, url)
            stack.push_async_callback(connection.close)
            # In production, `python -m app migrate` is a step of its own.
            is_migrated = settings.pilothouse_mode == "production"
            return _DatabasePorts(
                changes=postgres_ports(connection),
                flags=PostgresFlagStore(engine),
                definitions=PostgresDefinitionStore(engine),
                deliveries=PostgresDeliveryStore(engine),
                proposals=PostgresProposalStore(engine),
                releases=PostgresReleaseStore(engine),
                readers=PostgresReaderStore(engine),
                promotions=PostgresPromotionStore(engine),
                rows=PostgresInstanceStore(engine),
                tokens=PostgresTokenStore(engine),
                audit=PostgresAuditLog(engine),
                prepare=_do_nothing if is_migrated else lambda: _migrate_or_raise(url),
            )


def _open_nodes(settings: Settings, stack: AsyncExitStack) -> ServiceRegistryClient:
    match settings.zookeeper_hosts:
        case None:
            return EmbeddedServiceRegistryClient(EmbeddedNodes())
        case hosts:
            nodes = ZooKeeperServiceRegistryClient(
                hosts,
                base=settings.zookeeper_base_path,
                fences=_fences_path(settings.zookeeper_base_path),
                session_seconds=settings.zookeeper_session_timeout,
                connection_seconds=settings.zookeeper_connection_timeout,
                call_seconds=settings.zookeeper_timeout_seconds,
            )
            stack.push_async_callback(nodes.close)
            return nodes


def _fences_path(base: str) -> str:
    """Return the path of fences, different for each base path."""
    return FENCES if base == "/services" else FENCES + base.replace("/", "-")


def _open_publisher(settings: Settings, stack: AsyncExitStack) -> EventPublisher | None:
    match settings.kafka_bootstrap_servers:
        case None:
            return None
        case servers:
            publisher = KafkaPublisher(
                servers,
                settings.kafka_topic_config_updates,
                may_create=settings.kafka_topic_auto_create,
                seconds=settings.kafka_timeout_seconds,
            )
            stack.push_async_callback(publisher.close)
            return publisher


def _open_cache(settings: Settings, pepper: bytes, stack: AsyncExitStack) -> Cache:
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
            cache = RedisCache(
                address, prefix=settings.redis_prefix, seconds=settings.redis_timeout_seconds
            )
            stack.push_async_callback(cache.close)
            return GuardedCache(cache, derive_key(pepper, SIGNATURES))


class _AbsentPort:
    async def ping(self) -> None:
        """Do nothing: the port is not configured."""


async def _migrate_or_raise(url: str) -> None:
    try:
        await migrate(url)
    except FAILURES as error:
        raise LogUnavailable(explain_failure(error)) from error


async def _do_nothing() -> None:
    return


def _no_failure() -> str | None:
    return None
