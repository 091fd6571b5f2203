"""The composition root: settings in, application out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import SSLContext
from typing import TypedDict
from uuid import uuid4

import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

from app.access.authentication import Authenticator, OpenAccess
from app.access.caller import authenticate_request, requires_authentication
from app.access.limits import RateLimiter
from app.access.oidc.authenticator import OidcAuthenticator, RoleMapping
from app.access.root_secret import TOKENS, derive_key
from app.access.tickets import StreamTickets
from app.access.tokens.authenticator import TokenAuthenticator
from app.access.tokens.cache import TokenCache
from app.access.tokens.last_used import LastUsedRecorder
from app.access.tokens.router import router as tokens_router
from app.access.tokens.service import TokenService
from app.audit import denials
from app.audit.aggregation import EventAggregator
from app.audit.fingerprints import PURPOSE as FINGERPRINTS
from app.audit.fingerprints import Fingerprints
from app.audit.head_signing import SIGN_SECONDS, HeadSigner
from app.audit.port import AuditLog
from app.audit.recorder import AuditRecorder
from app.audit.router import router as audit_router
from app.background import run_background_tasks
from app.cache.provenance import CacheHeader
from app.changes.events.relay import Relay
from app.changes.follower import Follower
from app.changes.log.port import ChangeLog
from app.changes.retention import KEPT_OF_EACH, TRIM_SECONDS, Retention
from app.changes.stream.hub import Hub
from app.changes.warm_start.pointers import PointerSnapshots
from app.configs.api.fast_path import ConfigFastPath, FastEffective, FastKey
from app.configs.api.router_copy import router as copy_router
from app.configs.api.router_documents import router as documents_router
from app.configs.api.router_keys import router as keys_router
from app.configs.api.router_transfer import router as transfer_router
from app.configs.checks.credentials import CredentialPolicy, Exemption
from app.configs.documents.cache import DocumentCache
from app.configs.documents.reader import DocumentReader
from app.configs.documents.recovery import RECONCILE_SECONDS, Reconciler, Scanner
from app.configs.documents.writer import DocumentWriter
from app.configs.formats import yaml_text
from app.configs.services.documents import DocumentService
from app.configs.services.keys import KeyService
from app.configs.services.transfer import TransferService
from app.errors import Unavailable
from app.feed.router import router as changes_router
from app.feed.router_stream import router as stream_router
from app.flags.api.fast_path import FlagFastPath, fast_posts
from app.flags.api.router import router as flags_router
from app.flags.api.router_evaluation import router as evaluation_router
from app.flags.api.router_lifecycle import router as flag_lifecycle_router
from app.flags.api.router_ofrep import router as ofrep_router
from app.flags.api.router_targets import LARGER_LIST
from app.flags.api.router_targets import router as flag_targets_router
from app.flags.api.router_transfer import LARGER_IMPORT
from app.flags.api.router_transfer import router as flag_transfer_router
from app.flags.cache import FlagCache
from app.flags.evaluation.evaluator import FlagEvaluator
from app.flags.evaluation.usage import UsageCounter
from app.flags.service import FlagService
from app.flags.transfer import FlagTransfer
from app.flags.warm_start import FlagSnapshots
from app.flags.writer import FlagWriter
from app.production_checks import StartRefused, find_waived, refuse_unsafe
from app.registry.api.fast_path import FastDiscover, FastUrl, RegistryFastPath
from app.registry.api.router import router as registry_router
from app.registry.api.router_discovery import router as discovery_router
from app.registry.health.probe import trusting_context
from app.registry.self_registration import SelfRegistration
from app.registry.service import RegistryService
from app.registry.wiring import background_tasks, build_registry
from app.settings import Settings, load_settings
from app.status.monitor import HealthMonitor
from app.status.router import router as health_router
from app.status.stats import Stats
from app.status.stats import router as stats_router
from app.telemetry import CHECKS_WAIVED, configure_logging
from app.web import problem
from app.web.bodies import Authenticate
from app.web.boundary import RequestBoundary, cors_options
from app.web.fast_path import FastGet, FastPathApp, FastPost
from app.web.head_requests import as_get
from app.web.pages import router as pages_router
from app.web.parameters import rejects_unknown_parameters
from app.web.proxies import TrustedProxies
from app.web.sites import SitePolicy
from app.wiring import Backends, Task, open_backends

VERSION = "0.1.0"
_REAP_EVERY_SECONDS = 600.0
_log = structlog.get_logger(__name__)


class AppState(TypedDict):
    keys: KeyService
    documents: DocumentService
    transfer: TransferService
    log: ChangeLog
    follower: Follower
    health: HealthMonitor
    collect_metrics: Callable[[], None]  # adds counts that are kept elsewhere for speed
    stats: Stats
    hub: Hub
    flags: FlagService
    flag_transfer: FlagTransfer
    evaluator: FlagEvaluator
    registry: RegistryService
    sites: SitePolicy
    authenticator: Authenticator
    authenticate: Authenticate
    read_yaml: Callable[[str], list[dict[str, object]]]
    own: SelfRegistration | None
    token_cache: TokenCache
    tokens: TokenService
    audit: AuditLog
    recorder: AuditRecorder
    tally: EventAggregator
    unknown_rates: RateLimiter
    fast_gets: tuple[FastGet, ...]
    fast_posts: Mapping[bytes, FastPost]


class _Application(FastPathApp):
    """Reports a refused start in one line; a traceback would hide the reason."""

    proxies: TrustedProxies | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.proxies is not None and scope["type"] == "http":
            scope = self.proxies.resolve(scope)
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = as_get(scope, send)

        async def without_traceback(message: Message) -> None:
            refused = getattr(self.state, "refused", None)
            if refused is not None and message["type"] == "lifespan.startup.failed":
                message = {**message, "message": f"refused to start: {refused}"}
            await send(message)

        is_lifespan = scope["type"] == "lifespan"
        await super().__call__(scope, receive, without_traceback if is_lifespan else send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened before its lifespan starts."""
    settings = settings or load_settings()
    configure_logging(
        settings.log_level,
        json=settings.log_format == "json",
        has_colors=not settings.no_color,
        secrets=settings.secrets,
    )
    refuse_unsafe(settings)
    _log_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[AppState]:
        async with AsyncExitStack() as stack:
            try:
                backends = await stack.enter_async_context(open_backends(settings))
            except StartRefused as refused:
                app.state.refused = refused
                raise
            state, tasks = _build_state(settings, backends)
            app.state.opened = state
            await _contact_log(backends, state["follower"])
            _warn_without_admin(settings, state["token_cache"])
            stack.push_async_callback(state["recorder"].flush)
            stack.callback(state["tally"].flush)  # before that, since the last is called first
            stack.push_async_callback(state["registry"].prober.close)
            await stack.enter_async_context(run_background_tasks(tasks))
            _log.info("started", mode=settings.pilothouse_mode, access=settings.pilothouse_access)
            yield state
            begin_shutdown(app)

    app = _Application(
        title="Pilothouse",
        version=VERSION,
        description="Configurations, feature flags and service discovery behind one API.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # with assets of our own: see app.web.pages
        redoc_url=None,
    )
    if settings.proxies:
        app.proxies = TrustedProxies(settings.proxies)
    problem.install(app)
    denials.install_handlers(app)
    if settings.pilothouse_mode == "development":
        app.add_middleware(CacheHeader)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, **cors_options(settings.allowed_origins))
    app.add_middleware(RequestBoundary, larger=(LARGER_IMPORT, LARGER_LIST))
    for router in (
        keys_router,
        documents_router,
        transfer_router,
        copy_router,
        evaluation_router,
        flag_transfer_router,
        flag_lifecycle_router,
        flag_targets_router,
        flags_router,
        changes_router,
        stream_router,
        registry_router,
        discovery_router,
        tokens_router,
        audit_router,
        stats_router,
    ):
        writes = router is not evaluation_router  # all but one of its routes, which says so
        app.include_router(
            router, dependencies=[requires_authentication, *[rejects_unknown_parameters] * writes]
        )
    # OpenFeature's streams accept tickets; health and the pages need no authentication.
    for router in (ofrep_router, health_router, pages_router):
        app.include_router(router)
    return app


def announce_shutdown(app: FastAPI) -> None:
    """Report to load balancers and discovery that this replica is stopping, and keep serving."""
    opened: AppState | None = getattr(app.state, "opened", None)
    if opened is not None:
        opened["health"].is_leaving = True
        if opened["own"] is not None:
            opened["own"].leave()


def _log_settings(settings: Settings) -> None:
    """Log ignored variables, and the checks of production mode that are waived."""
    for unheeded in settings.ignored_variables:
        facts = {} if unheeded.nearest is None else {"nearest": unheeded.nearest}
        _log.warning("setting_ignored", name=unheeded.name, reason=unheeded.reason, **facts)
    if settings.pilothouse_mode != "production":
        return
    found = find_waived(settings)
    for check, reason in settings.waivers.items():
        accepted = [str(one.reason) for one in found if one.check == check]
        _log.warning("production_check_waived", check=check, reason=reason, accepted=accepted)
        CHECKS_WAIVED.labels(check).set(len(accepted))


def begin_shutdown(app: FastAPI) -> None:
    """Begin the shutdown: not ready any more, and waiting requests are answered."""
    opened: AppState | None = getattr(app.state, "opened", None)
    if opened is not None:
        opened["health"].serving = False
        opened["follower"].wake_waiters()
        opened["hub"].drain()
        opened["registry"].view.wake_waiters()
        if opened["own"] is not None:
            opened["own"].leave()


def _health_check_trust(settings: Settings) -> SSLContext | None:
    try:
        return trusting_context(settings.health_check_ca_file)
    except OSError as error:  # what ssl raises for a file without certificates is one as well
        raise StartRefused([f"HEALTH_CHECK_CA_FILE: {error}"]) from error


def _build_state(settings: Settings, backends: Backends) -> tuple[AppState, Mapping[str, Task]]:
    store, log, cipher = backends.store, backends.log, backends.cipher
    follower = Follower(log)
    keep = settings.vault_max_versions
    memory_bytes = settings.cache_memory_bytes
    cached = DocumentCache(backends.cache, max_versions=keep)
    reader = DocumentReader(
        store,
        follower,
        cached,
        max_versions=keep,
        memory_bytes=memory_bytes,
        seconds=settings.read_seconds,
    )
    allowances = [Exemption(*parts) for parts in settings.allowances]
    credential_policy = CredentialPolicy(settings.production_patterns, allowances)
    fingerprints = Fingerprints(derive_key(backends.pepper, FINGERPRINTS))
    writer = DocumentWriter(
        store,
        log,
        cipher,
        reader,
        max_versions=keep,
        fingerprints=fingerprints,
        credential_policy=credential_policy,
        seconds=settings.write_seconds,
    )
    sets = FlagCache(backends.flags)
    follower.before_apply(sets.prepare)
    last_flags = FlagSnapshots(sets, backends.cache)
    last_pointers = PointerSnapshots(follower, backends.cache, [last_flags])
    flag_writer = FlagWriter(backends.flags, sets, fingerprints)
    evaluator = FlagEvaluator(sets)
    counter = UsageCounter(backends.flags, evaluator)
    registry = build_registry(
        backends.rows,
        backends.nodes,
        backends.resolve,
        replica=uuid4().hex,
        interval=settings.service_health_check_interval,
        allowed_networks=settings.allowed_networks,
        fingerprints=fingerprints,
        patience=settings.registry_seconds,
        tls=_health_check_trust(settings),
    )
    follower.before_apply(registry.follower.prepare)
    key = derive_key(backends.pepper, TOKENS)
    token_cache = TokenCache(
        backends.tokens, follower, key, _secret_text(settings.pilothouse_admin_token)
    )
    hub = Hub(settings.stream_limit, settings.caller_stream_limit, token_cache.is_ended)
    follower.before_apply(token_cache.prepare)
    token_cache.listen(hub.close_streams_of)
    authenticator = _build_authenticator(settings, backends, token_cache)
    follower.on_change(hub.publish)
    relay = Relay(log, backends.publisher, follower) if backends.publisher else None
    retention = Retention(
        log, settings.change_retention_days, max(keep, KEPT_OF_EACH), relayed=relay is not None
    )
    recorder = AuditRecorder(backends.audit)
    tally = EventAggregator(recorder)
    head_signer = HeadSigner(backends.audit, backends.signer, backends.publisher)
    waived = tuple(settings.waivers) if settings.pilothouse_mode == "production" else ()
    health = HealthMonitor(
        backends.monitored, follower, VERSION, relay, registry.view, waived=waived
    )
    tells_source = settings.pilothouse_mode == "development"
    config_fast_path = ConfigFastPath.over(
        reader, health, memory_bytes // 4, tells_source=tells_source
    )
    registry_fast_path = RegistryFastPath(registry, follower, health)
    state = AppState(
        keys=KeyService(reader, writer, cipher, log),
        documents=DocumentService(reader, writer, log),
        transfer=TransferService(reader, writer),
        log=log,
        follower=follower,
        health=health,
        collect_metrics=counter.collect,
        stats=Stats(reader, log, sets, registry.view),
        hub=hub,
        flags=FlagService(backends.flags, sets, flag_writer, counter),
        flag_transfer=FlagTransfer(sets, flag_writer),
        evaluator=evaluator,
        registry=registry,
        sites=_build_site_policy(settings),
        authenticator=authenticator,
        authenticate=lambda request: authenticate_request(request, authenticator),
        read_yaml=yaml_text.read,
        token_cache=token_cache,
        tokens=TokenService(backends.tokens, token_cache, key),
        audit=backends.audit,
        recorder=recorder,
        tally=tally,
        unknown_rates=RateLimiter(settings.unknown_caller_limit),
        own=_build_self_registration(settings, registry),
        fast_gets=(
            FastKey(config_fast_path),
            FastEffective(config_fast_path),
            FastDiscover(registry_fast_path),
            FastUrl(registry_fast_path),
        ),
        fast_posts=fast_posts(
            FlagFastPath(evaluator, follower, health, authenticator.issue_ticket)
        ),
    )
    reconciler = Reconciler(store, log, writer)
    scanner = Scanner(store, reader, writer)
    health.count_documents = lambda: {
        "malformed_documents": reader.malformed_count,
        "expiring_documents": scanner.expiring,
    }

    async def follow() -> None:
        if not follower.is_following:  # once: a migration waits far longer than a replica may lag
            await last_pointers.adopt()  # nothing is token_cache yet if the log is away
            await backends.prepare()
        await follower.follow()

    tasks: dict[str, Task] = {
        "follow": follow,
        "tidy": lambda: _tidy_memory(reader, config_fast_path, settings.vault_scan_interval),
        "keep_pointers": last_pointers.keep_saving,
        "watch": health.run,
        "count_evaluations": counter.flush_periodically,
        "note_uses_of_tokens": LastUsedRecorder(backends.tokens, token_cache).run,
        "expire_tokens": token_cache.watch_expiry,
        "reconcile": lambda: _run_periodically(
            log, "reconcile", RECONCILE_SECONDS, reconciler.reconcile
        ),
        "scan": lambda: _run_periodically(log, "scan", settings.vault_scan_interval, scanner.scan),
        "trim": lambda: _run_periodically(log, "trim", TRIM_SECONDS, retention.trim),
        "forget": lambda: _run_periodically(
            log, "forget", TRIM_SECONDS, flag_writer.delete_expired_keys
        ),
        "reap_instances": lambda: _run_periodically(
            log, "reap", _REAP_EVERY_SECONDS, registry.reconciler.reap
        ),
        "record": recorder.run,
        "tally": tally.run,
        "seal": lambda: _run_periodically(log, "seal", SIGN_SECONDS, head_signer.sign_head),
        **background_tasks(registry),
        **backends.tasks,
    }
    if (own := state["own"]) is not None:
        tasks["register_itself"] = own.run
    if relay is not None:
        tasks |= {"relay": relay.run, "watch_relay": relay.watch}
    return state, tasks


async def _tidy_memory(reader: DocumentReader, fast_path: ConfigFastPath, every: float) -> None:
    """Drop superseded documents from memory, and find malformed ones, for ever."""
    while True:
        await asyncio.sleep(every)
        await reader.forget_superseded()
        await fast_path.forget_superseded()
        await reader.find_malformed()


def _secret_text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _build_authenticator(
    settings: Settings, backends: Backends, token_cache: TokenCache
) -> Authenticator:
    if settings.pilothouse_access == "open":
        return OpenAccess()
    protected = settings.protected_environments
    people = None
    if backends.issuer is not None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None  # refuse_unsafe has seen to it
        people = OidcAuthenticator(
            backends.issuer,
            settings.oidc_issuer,
            settings.oidc_audience,
            name_claim=settings.oidc_name_claim,
            roles_claim=settings.oidc_roles_claim,
            roles=[RoleMapping(**found.model_dump()) for found in settings.roles_of_claims],
            protected=protected,
            clients=settings.allowed_clients,
        )
    tickets = StreamTickets(derive_key(backends.pepper, "tickets"))
    return TokenAuthenticator(
        token_cache, people, tickets, RateLimiter(settings.caller_request_limit), protected
    )


def _build_site_policy(settings: Settings) -> SitePolicy:
    if settings.pilothouse_access == "required":
        return SitePolicy.of_required_access(settings.allowed_origins)
    return SitePolicy.of_open_access(
        settings.host, settings.allowed_host_names, settings.allowed_origins
    )


def _build_self_registration(
    settings: Settings, registry: RegistryService
) -> SelfRegistration | None:
    if not settings.service_registry_enabled:
        return None
    url = settings.service_url or f"http://{settings.host}:{settings.port}"
    return SelfRegistration(registry, url, settings.service_instance_id, VERSION)


async def _run_periodically(log: ChangeLog, name: str, every: float, task: Task) -> None:
    """Run `task` for ever, once in `every` seconds over all replicas."""
    while True:
        await asyncio.sleep(every)
        if await log.acquire_turn(name, every * 0.9):
            await task()


def _warn_without_admin(settings: Settings, token_cache: TokenCache) -> None:
    if (
        settings.pilothouse_access == "required"
        and token_cache.is_loaded
        and not token_cache.has_admin
    ):
        _log.warning(
            "no_admin_token",
            note="nobody can create tokens: set PILOTHOUSE_ADMIN_TOKEN, or run"
            " `python -m app token create --class admin --name NAME`",
        )


async def _contact_log(backends: Backends, follower: Follower) -> None:
    """Read the log before the first request; if that fails, a background task retries."""
    try:
        await backends.prepare()
        await follower.start()
    except Exception as error:  # noqa: BLE001 - the same is tried, and told, by the background task
        reason = str(error) if isinstance(error, Unavailable) else type(error).__name__
        _log.warning("log_away_at_start", reason=reason)
