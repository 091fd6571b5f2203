"""The composition root: settings in, application out."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app.access.caller import requires_authentication
from app.audit import denials
from app.background import run_features
from app.cache.provenance import CacheHeader
from app.feature import lifespan_state
from app.features import ROUTES, build_features
from app.production_checks import StartRefused, log_settings, refuse_unsafe
from app.settings import Settings, load_settings
from app.telemetry import configure_logging
from app.web import problem
from app.web.application import Application
from app.web.boundary import RequestBoundary, cors_options
from app.web.parameters import rejects_unknown_parameters
from app.web.path_rules import PathRules
from app.web.proxies import TrustedProxies
from app.wiring import open_backends

VERSION = "0.1.0"
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
    rules = PathRules.of_all(routes.path_rules for routes in ROUTES)
    problem.install(app, rules, [rule for routes in ROUTES for rule in routes.problem_codes])
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
    for routes in ROUTES:
        for router in routes.routers:
            strict = [] if router in routes.lenient else [rejects_unknown_parameters]
            app.include_router(router, dependencies=[requires_authentication, *strict])
    for routes in ROUTES:
        for router in routes.open_routers:
            app.include_router(router)


@asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[dict[str, object]]:
    async with AsyncExitStack() as stack:
        try:
            backends = await stack.enter_async_context(open_backends(settings))
            features = app.state.opened = build_features(settings, VERSION, backends)
            await stack.enter_async_context(run_features(features))
        except StartRefused as refused:
            app.state.refused = refused
            raise
        _log.info("started", mode=settings.pilothouse_mode, access=settings.pilothouse_access)
        yield lifespan_state(features)
        begin_shutdown(app)
