"""The composition root: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.access.caller import requires_authentication
from app.access.feature import TOKEN_ROUTES, build_access
from app.audit import denials
from app.audit.feature import AUDIT_ROUTES, build_audit
from app.background import run_features
from app.cache.provenance import CacheHeader
from app.changes.feature import build_changes
from app.configs.feature import CONFIG_ROUTES, build_configs
from app.feature import Feature, lifespan_state
from app.feed.feature import FEED_ROUTES, build_feed
from app.flags.feature import FLAG_ROUTES, build_flags
from app.foundation import Foundation
from app.production_checks import StartRefused, log_settings, refuse_unsafe
from app.proposals.feature import PROPOSAL_ROUTES, build_proposals
from app.proposals.promotion.feature import PROMOTION_ROUTES, build_promotions
from app.proposals.releases.feature import (
    RELEASE_ROUTES,
    build_release_basis,
    build_releases,
)
from app.registry.feature import REGISTRY_ROUTES, build_registry
from app.rules.feature import RULE_ROUTES, build_rules, build_schemas
from app.settings import Settings, load_settings
from app.status.feature import STATUS_ROUTES, build_status
from app.status.monitor import HealthMonitor
from app.status.stats import Stats
from app.telemetry import configure_logging
from app.web import problem
from app.web.application import Application
from app.web.boundary import RequestBoundary, cors_options
from app.web.parameters import rejects_unknown_parameters
from app.web.path_rules import PathRules
from app.web.proxies import TrustedProxies
from app.webhooks.feature import WEBHOOK_ROUTES, build_webhooks
from app.wiring import Backends, open_backends

VERSION = "0.1.0"
# What every feature adds to the API, in the order in which paths are matched.
_ROUTES = (
    CONFIG_ROUTES,
    RULE_ROUTES,
    FLAG_ROUTES,
    PROPOSAL_ROUTES,
    PROMOTION_ROUTES,
    FEED_ROUTES,
    WEBHOOK_ROUTES,
    REGISTRY_ROUTES,
    RELEASE_ROUTES,
    TOKEN_ROUTES,
    AUDIT_ROUTES,
    STATUS_ROUTES,
)
_log = structlog.get_logger(__name__)


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
    log_settings(settings)
    app = Application(
        title="Pilothouse",
        version=VERSION,
        description="Configurations, feature flags and service discovery behind one API.",
        lifespan=partial(_lifespan, settings),
    )
    if settings.proxies:
        app.proxies = TrustedProxies(settings.proxies)
    rules = PathRules.of_all(routes.path_rules for routes in _ROUTES)
    problem.install(app, rules, [rule for routes in _ROUTES for rule in routes.problem_codes])
    denials.install_handlers(app)
    if settings.pilothouse_mode == "development":
        app.add_middleware(CacheHeader)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, **cors_options(settings.allowed_origins))
    app.add_middleware(RequestBoundary, rules=rules)
    _include_routers(app)
    return app


def announce_shutdown(app: FastAPI) -> None:
    """Report to load balancers and discovery that this replica is stopping, and keep serving."""
    for feature in getattr(app.state, "opened", ()):
        feature.announce_shutdown()


def begin_shutdown(app: FastAPI) -> None:
    """Begin the shutdown: not ready any more, and waiting requests are answered."""
    for feature in getattr(app.state, "opened", ()):
        feature.begin_shutdown()


def _include_routers(app: FastAPI) -> None:
    for routes in _ROUTES:
        for router in routes.routers:
            strict = [] if router in routes.lenient else [rejects_unknown_parameters]
            app.include_router(router, dependencies=[requires_authentication, *strict])
    for routes in _ROUTES:
        for router in routes.open_routers:
            app.include_router(router)


@asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[dict[str, object]]:
    async with AsyncExitStack() as stack:
        try:
            backends = await stack.enter_async_context(open_backends(settings))
            features = app.state.opened = _build_features(settings, backends)
            await stack.enter_async_context(run_features(features))
        except StartRefused as refused:
            app.state.refused = refused
            raise
        _log.info("started", mode=settings.pilothouse_mode, access=settings.pilothouse_access)
        yield lifespan_state(features)
        begin_shutdown(app)


def _build_features(settings: Settings, ports: Backends) -> tuple[Feature, ...]:
    """Give each feature its ports and what it is built on; return all in order of their start."""
    maintenance = ports.changes.maintenance
    changes = build_changes(settings, ports.changes, ports.cache, ports.publisher, ports.prepare)
    access = build_access(settings, changes.follower, ports.tokens, ports.issuer, ports.pepper)
    audit = build_audit(maintenance, ports.audit, ports.signer, ports.publisher, ports.pepper)
    monitor = HealthMonitor(ports.monitored, changes.follower)
    base = Foundation(settings, VERSION, ports.cache, changes, access, audit, monitor)
    rules = build_rules(base, ports.definitions)
    basis = build_release_basis(base, ports.releases, ports.readers, ports.candidates)
    configs = build_configs(base, rules, ports.store, ports.cipher, basis.view)
    schemas = build_schemas(base, rules, configs.configurations)
    flags = build_flags(base, ports.flags, rules.policies)
    proposals = build_proposals(base, rules, configs, flags, ports.proposals)
    registry = build_registry(base, ports.rows, ports.nodes, ports.resolve)
    releases = build_releases(base, basis, configs, registry.view)
    stats = Stats(configs.reader, ports.changes.log, flags.cache, registry.view)
    return (
        build_status(settings, VERSION, monitor, stats),  # first not ready, once it shuts down
        changes.feature,  # followed before anything else runs
        access.feature,
        audit.feature,  # closed after the features whose denials and reads it records
        configs.feature,
        schemas.feature,
        flags.feature,
        proposals.feature,
        build_promotions(rules, configs, flags, ports.promotions),
        build_feed(base, schemas.verifier, basis.view.describe),
        build_webhooks(base, rules, ports.deliveries, ports.cipher, ports.resolve),
        registry.feature,
        releases.feature,
        Feature(tasks=ports.tasks),
    )
