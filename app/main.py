"""The composition root: settings in, application out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypedDict
from uuid import uuid4

import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

from app.access import refusals
from app.access.auditing import AuditLog
from app.access.caller import caller_of, lets_in
from app.access.fingerprints import PURPOSE as FINGERPRINTS
from app.access.fingerprints import Fingerprints
from app.access.gate import Gate, GuardedGate, OpenGate
from app.access.known import KnownTokens
from app.access.limits import Rates
from app.access.people import People, RoleMapping
from app.access.pepper import TOKENS, derived
from app.access.recorder import Recorder
from app.access.router_audit import router as audit_router
from app.access.router_tokens import router as tokens_router
from app.access.sealing import SEAL_SECONDS, Sealer
from app.access.service import TokenService
from app.access.tickets import Tickets
from app.access.uses import LastUses
from app.background import running
from app.cache.provenance import CacheHeader
from app.changes.follower import Follower
from app.changes.keeping import LastPointers
from app.changes.port import ChangeLog
from app.changes.relay import Relay
from app.changes.retention import KEPT_OF_EACH, TRIM_SECONDS, Retention
from app.changes.stream import Hub
from app.configs.cached import CachedDocuments
from app.configs.documents import DocumentService
from app.configs.hot import HotConfigs, HotEffective, HotKey
from app.configs.keys import KeyService
from app.configs.plain_values import Allowance, PlainValues
from app.configs.reading import Reader
from app.configs.recovery import RECONCILE_SECONDS, Reconciler, Scanner
from app.configs.router_documents import router as documents_router
from app.configs.router_keys import router as keys_router
from app.configs.router_transfer import router as transfer_router
from app.configs.transfer import TransferService
from app.configs.writing import Writer
from app.feed.router import router as changes_router
from app.feed.router_stream import router as stream_router
from app.flags.evaluating import Evaluator
from app.flags.hot import HotFlags, hot_posts
from app.flags.keeping import LastFlags
from app.flags.router import router as flags_router
from app.flags.router_evaluation import router as evaluation_router
from app.flags.router_ofrep import router as ofrep_router
from app.flags.router_transfer import router as flag_transfer_router
from app.flags.service import FlagService
from app.flags.sets import FlagSets
from app.flags.transfer import FlagTransfer
from app.flags.usage import UsageCounter
from app.flags.writing import FlagWriter
from app.registry.assembling import assembled, tasks_of
from app.registry.hot import HotDiscover, HotRegistry, HotUrl
from app.registry.own import OwnRegistration
from app.registry.router import router as registry_router
from app.registry.router_discovery import router as discovery_router
from app.registry.service import RegistryService
from app.settings import Settings
from app.stats import Stats
from app.stats import router as stats_router
from app.telemetry import configure_logging
from app.vitals import Vitals
from app.web import problem
from app.web.bodies import Doorkeeper
from app.web.head import as_get
from app.web.health import router as health_router
from app.web.hot import HotFastAPI, HotPost, HotRead
from app.web.middleware import Edge, cors
from app.web.parameters import knows_parameters
from app.wiring import Backends, StartRefused, Task, open_backends, refuse_unsafe

VERSION = "0.1.0"
_REAP_EVERY_SECONDS = 600.0
_log = structlog.get_logger(__name__)


class State(TypedDict):
    keys: KeyService
    documents: DocumentService
    transfer: TransferService
    log: ChangeLog
    follower: Follower
    health: Vitals
    collect_metrics: Callable[[], None]  # what is counted elsewhere first, to be fast
    stats: Stats
    hub: Hub
    flags: FlagService
    flag_transfer: FlagTransfer
    evaluator: Evaluator
    registry: RegistryService
    gate: Gate
    doorkeeper: Doorkeeper
    own: OwnRegistration | None
    known: KnownTokens
    tokens: TokenService
    audit: AuditLog
    recorder: Recorder
    hot: tuple[HotRead, ...]
    hot_posts: Mapping[bytes, HotPost]


class _Application(HotFastAPI):
    """Tells a refusal to start in one line; a traceback would hide the reason."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
    settings = settings or Settings()
    configure_logging(settings.log_level, json=settings.log_format == "json")
    refuse_unsafe(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            try:
                backends = await stack.enter_async_context(open_backends(settings))
            except StartRefused as refused:
                app.state.refused = refused
                raise
            state, tasks = _assembled(settings, backends)
            app.state.opened = state
            await _first_contact(backends, state["follower"])
            _warn_of_no_admin(settings, state["known"])
            stack.push_async_callback(state["recorder"].flush)
            stack.push_async_callback(state["registry"].prober.close)
            await stack.enter_async_context(running(tasks))
            _log.info("started", mode=settings.pilothouse_mode, access=settings.pilothouse_access)
            yield state
            release(app)

    app = _Application(
        title="Pilothouse",
        version=VERSION,
        description="Configurations, feature flags and service discovery behind one API.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    problem.install(app)
    refusals.install(app)
    if settings.pilothouse_mode == "development":
        app.add_middleware(CacheHeader)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, **cors(settings.allowed_origins))
    app.add_middleware(Edge)
    for router in (
        keys_router,
        documents_router,
        transfer_router,
        evaluation_router,
        flag_transfer_router,
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
        app.include_router(router, dependencies=[lets_in, *[knows_parameters] * writes])
    # OpenFeature's streams may be opened by a ticket, and health by anybody.
    for router in (ofrep_router, health_router):
        app.include_router(router)
    return app


def release(app: FastAPI) -> None:
    """Begin the shutdown: no longer ready, and nobody is kept waiting for a change."""
    opened: State | None = getattr(app.state, "opened", None)
    if opened is not None:
        opened["health"].serving = False
        opened["follower"].release()
        opened["hub"].drain()
        opened["registry"].view.release()
        if opened["own"] is not None:
            opened["own"].leave()


def _assembled(settings: Settings, backends: Backends) -> tuple[State, Mapping[str, Task]]:
    store, log, cipher = backends.store, backends.log, backends.cipher
    follower = Follower(log)
    keep = settings.vault_max_versions
    memory_bytes = settings.cache_memory_bytes
    cached = CachedDocuments(backends.cache, max_versions=keep)
    reader = Reader(store, follower, cached, max_versions=keep, memory_bytes=memory_bytes)
    allowances = [Allowance(*parts) for parts in settings.allowances]
    plain_values = PlainValues(settings.production_patterns, allowances)
    fingerprints = Fingerprints(derived(backends.pepper, FINGERPRINTS))
    writer = Writer(
        store,
        log,
        cipher,
        reader,
        max_versions=keep,
        fingerprints=fingerprints,
        plain_values=plain_values,
    )
    sets = FlagSets(backends.flags)
    follower.prepare(sets.prepare)
    last_flags = LastFlags(sets, backends.cache)
    last_pointers = LastPointers(follower, backends.cache, [last_flags])
    flag_writer = FlagWriter(backends.flags, sets, fingerprints)
    evaluator = Evaluator(sets)
    counter = UsageCounter(backends.flags, evaluator)
    registry = assembled(
        backends.rows,
        backends.nodes,
        backends.resolve,
        replica=uuid4().hex,
        interval=settings.service_health_check_interval,
        allowed_networks=settings.allowed_networks,
        fingerprints=fingerprints,
    )
    follower.prepare(registry.follower.prepare)
    key = derived(backends.pepper, TOKENS)
    known = KnownTokens(backends.tokens, follower, key, _plain(settings.pilothouse_admin_token))
    hub = Hub(settings.stream_limit, settings.caller_stream_limit, known.has_ended)
    follower.prepare(known.prepare)
    known.listen(hub.dismiss)
    gate = _gate(settings, backends, known)
    follower.listen(hub.publish)
    relay = Relay(log, backends.publisher, follower) if backends.publisher else None
    retention = Retention(
        log, settings.change_retention_days, max(keep, KEPT_OF_EACH), relayed=relay is not None
    )
    recorder = Recorder(backends.audit)
    sealer = Sealer(backends.audit, backends.signer, backends.publisher)
    vitals = Vitals(backends.watched, follower, VERSION, relay)
    tells_source = settings.pilothouse_mode == "development"
    hot = HotConfigs.over(reader, vitals, memory_bytes // 4, tells_source=tells_source)
    hot_registry = HotRegistry(registry, follower, vitals)
    state = State(
        keys=KeyService(reader, writer, cipher, log),
        documents=DocumentService(reader, writer, log),
        transfer=TransferService(reader, writer),
        log=log,
        follower=follower,
        health=vitals,
        collect_metrics=counter.collect,
        stats=Stats(reader, log, sets, registry.view),
        hub=hub,
        flags=FlagService(backends.flags, sets, flag_writer, counter),
        flag_transfer=FlagTransfer(sets, flag_writer),
        evaluator=evaluator,
        registry=registry,
        gate=gate,
        doorkeeper=lambda request: caller_of(request, gate),
        known=known,
        tokens=TokenService(backends.tokens, known, key),
        audit=backends.audit,
        recorder=recorder,
        own=_own(settings, registry),
        hot=(
            HotKey(hot),
            HotEffective(hot),
            HotDiscover(hot_registry),
            HotUrl(hot_registry),
        ),
        hot_posts=hot_posts(HotFlags(evaluator, follower, vitals, gate.ticket)),
    )
    reconciler = Reconciler(store, log, writer)
    scanner = Scanner(store, reader, writer)

    async def follow() -> None:
        if not follower.is_following:  # once: a migration waits far longer than a replica may lag
            await last_pointers.adopt()  # nothing is known yet if the log is away
            await backends.prepare()
        await follower.follow()

    tasks: dict[str, Task] = {
        "follow": follow,
        "keep_pointers": last_pointers.keep,
        "watch": vitals.watch,
        "count_evaluations": counter.keep,
        "note_uses_of_tokens": LastUses(backends.tokens, known).keep,
        "expire_tokens": known.watch,
        "reconcile": lambda: _repeated(log, "reconcile", RECONCILE_SECONDS, reconciler.reconcile),
        "scan": lambda: _repeated(log, "scan", settings.vault_scan_interval, scanner.scan),
        "trim": lambda: _repeated(log, "trim", TRIM_SECONDS, retention.trim),
        "forget": lambda: _repeated(log, "forget", TRIM_SECONDS, flag_writer.forget),
        "reap_instances": lambda: _repeated(log, "reap", _REAP_EVERY_SECONDS, registry.keeper.reap),
        "record": recorder.run,
        "seal": lambda: _repeated(log, "seal", SEAL_SECONDS, sealer.seal),
        **tasks_of(registry),
        **backends.tasks,
    }
    if (own := state["own"]) is not None:
        tasks["register_itself"] = own.keep
    if relay is not None:
        tasks |= {"relay": relay.run, "watch_relay": relay.watch}
    return state, tasks


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _gate(settings: Settings, backends: Backends, known: KnownTokens) -> Gate:
    if settings.pilothouse_access == "open":
        return OpenGate()
    protected = settings.protected_environments
    people = None
    if backends.issuer is not None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None  # refuse_unsafe has seen to it
        people = People(
            backends.issuer,
            settings.oidc_issuer,
            settings.oidc_audience,
            name_claim=settings.oidc_name_claim,
            roles_claim=settings.oidc_roles_claim,
            roles=[RoleMapping(**found.model_dump()) for found in settings.roles_of_claims],
            protected=protected,
        )
    tickets = Tickets(derived(backends.pepper, "tickets"))
    return GuardedGate(known, people, tickets, Rates(settings.caller_request_limit), protected)


def _own(settings: Settings, registry: RegistryService) -> OwnRegistration | None:
    if not settings.service_registry_enabled:
        return None
    url = settings.service_url or f"http://{settings.host}:{settings.port}"
    return OwnRegistration(registry, url, settings.service_instance_id, VERSION)


async def _repeated(log: ChangeLog, name: str, every: float, task: Task) -> None:
    """Do `task` for ever, once in `every` seconds over all replicas."""
    while True:
        await asyncio.sleep(every)
        if await log.claim(name, every * 0.9):
            await task()


def _warn_of_no_admin(settings: Settings, known: KnownTokens) -> None:
    if settings.pilothouse_access == "required" and known.is_read and not known.has_admin:
        _log.warning(
            "no_admin_token",
            note="nobody can make tokens: set PILOTHOUSE_ADMIN_TOKEN, or run"
            " `python -m app token create --class admin --name NAME`",
        )


async def _first_contact(backends: Backends, follower: Follower) -> None:
    """Read the log before the first request if it can be had; the background goes on trying."""
    try:
        await backends.prepare()
        await follower.start()
    except Exception:  # noqa: BLE001 - the same is tried, and told, by the background task
        _log.warning("log_away_at_start")
