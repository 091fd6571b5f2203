"""Builds the registry's part of the service."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from app.changes.turns import in_turns
from app.feature import Feature, Routes
from app.foundation import Foundation
from app.outbound.resolver import Resolve
from app.outbound.trust import load_trust
from app.registry.api.fast_path import FastDiscover, FastUrl, RegistryFastPath
from app.registry.api.problem_codes import PROBLEM_CODES
from app.registry.api.router import REGISTRY
from app.registry.api.router import router as registry_router
from app.registry.api.router_discovery import router as discovery_router
from app.registry.instances.port import InstanceStore
from app.registry.nodes.port import ServiceRegistryClient
from app.registry.self_registration import SelfRegistration
from app.registry.service import RegistryService
from app.registry.view import RegistryView
from app.registry.wiring import build_service
from app.settings import Settings
from app.web.path_rules import PathRules

REGISTRY_ROUTES = Routes(
    routers=(registry_router, discovery_router),
    path_rules=PathRules(
        prefixes=(REGISTRY,),
        foreign_segments={
            "agent": "register",
            **dict.fromkeys(("apps", "catalog", "eureka", "instances"), "services"),
        },
    ),
    problem_codes=PROBLEM_CODES,
)
_REAP_EVERY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Registry:
    view: RegistryView
    feature: Feature


def build_registry(
    base: Foundation, rows: InstanceStore, nodes: ServiceRegistryClient, resolve: Resolve
) -> Registry:
    """Build it; raises StartRefused if the certificates of health checks cannot be read."""
    settings, follower = base.settings, base.changes.follower
    service = build_service(
        rows,
        nodes,
        resolve,
        replica=uuid4().hex,
        interval=settings.service_health_check_interval,
        allowed_networks=settings.allowed_networks,
        fingerprints=base.audit.fingerprints,
        patience=settings.registry_seconds,
        tls=load_trust(settings.health_check_ca_file),
    )
    follower.listeners.before_apply(service.follower.prepare)
    fast_path = RegistryFastPath(service, follower, base.fresh)
    own = _build_self_registration(settings, service, base.version)
    reap = in_turns(base.changes.maintenance, "reap", _REAP_EVERY_SECONDS, service.evictor.reap)

    def leave() -> None:
        if own is not None:
            own.leave()

    def begin_shutdown() -> None:
        service.view.wake_waiters()
        leave()

    feature = Feature(
        state={"registry": service},
        fast_gets=(FastDiscover(fast_path), FastUrl(fast_path)),
        tasks={
            "reap_instances": reap,
            "follow_nodes": service.nodes.follow,
            "keep_nodes": service.reconciler.run,
            "evict": service.evictor.run_evictions,
            "forget_instances": service.evictor.run_forgetting,
            "check_instances": service.checker.run,
            **({} if own is None else {"register_itself": own.run}),
        },
        facts=lambda: _protection_facts(service.view),
        announce_shutdown=leave,
        begin_shutdown=begin_shutdown,
        close=service.prober.close,
    )
    return Registry(service.view, feature)


def _build_self_registration(
    settings: Settings, service: RegistryService, version: str
) -> SelfRegistration | None:
    if not settings.service_registry_enabled:
        return None
    url = settings.service_url or f"http://{settings.host}:{settings.port}"
    return SelfRegistration(service, url, settings.service_instance_id, version)


def _protection_facts(view: RegistryView) -> Mapping[str, object]:
    protection = view.protection
    return {
        "protected_services": len(protection.services),
        "protected_instances": protection.silent,
    }
