"""Builds the part of the service that reports its own health."""

from app.feature import Feature, Routes
from app.settings import Settings
from app.status.monitor import HealthMonitor
from app.status.router import router
from app.status.stats import Stats
from app.status.stats import router as stats_router
from app.web.pages import router as pages_router
from app.web.path_rules import PathRules
from app.web.problem_codes import ACCESS_CODES

STATUS_ROUTES = Routes(
    routers=(stats_router,),
    open_routers=(router, pages_router),  # for orchestrators, which have no token; the docs
    path_rules=PathRules(
        # Requested by orchestrators with any host; they contain no secrets.
        any_host=frozenset({"/live", "/ready", "/metrics"}),
        # Requested every few seconds.
        quiet=frozenset({"/live", "/ready"}),
        foreign_segments={
            "healthz": "health",
            "livez": "live",
            "readyz": "ready",
            "status": "health",
        },
    ),
    problem_codes=((r"GET /stats", f"{ACCESS_CODES} change_log_unavailable"),),
)


def build_status(settings: Settings, version: str, monitor: HealthMonitor, stats: Stats) -> Feature:
    waived = list(settings.waivers) if settings.pilothouse_mode == "production" else []

    def announce_shutdown() -> None:
        monitor.is_leaving = True

    def begin_shutdown() -> None:
        monitor.serving = False

    return Feature(
        state={"health": monitor, "stats": stats},
        tasks={"watch": monitor.run},
        facts=lambda: {"version": version, "production_checks_waived": waived},
        announce_shutdown=announce_shutdown,
        begin_shutdown=begin_shutdown,
    )
