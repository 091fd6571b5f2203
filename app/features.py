"""Builds the features, each from its ports and what it is built on."""

from app.access.feature import TOKEN_ROUTES, build_access
from app.audit.feature import AUDIT_ROUTES, build_audit
from app.changes.feature import build_changes
from app.configs.feature import CONFIG_ROUTES, build_configs
from app.feature import Feature
from app.feed.feature import FEED_ROUTES, build_feed
from app.flags.feature import FLAG_ROUTES, build_flags
from app.foundation import Foundation
from app.proposals.feature import PROPOSAL_ROUTES, Subjects, build_proposals
from app.proposals.promotion.feature import PROMOTION_ROUTES, build_promotions
from app.proposals.releases.feature import (
    RELEASE_ROUTES,
    build_release_basis,
    build_releases,
)
from app.registry.feature import REGISTRY_ROUTES, build_registry
from app.rules.feature import RULE_ROUTES, build_rules, build_schemas
from app.settings import Settings
from app.status.feature import STATUS_ROUTES, build_status
from app.status.monitor import HealthMonitor
from app.status.stats import Stats
from app.webhooks.feature import WEBHOOK_ROUTES, build_webhooks
from app.wiring import Backends

# What every feature adds to the API, in the order in which paths are matched.
ROUTES = (
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


def build_features(settings: Settings, version: str, ports: Backends) -> tuple[Feature, ...]:
    """Give each feature its ports and what it is built on; return all in order of their start."""
    maintenance = ports.changes.maintenance
    changes = build_changes(settings, ports.changes, ports.cache, ports.publisher, ports.prepare)
    access = build_access(settings, changes.follower, ports.tokens, ports.issuer, ports.pepper)
    audit = build_audit(maintenance, ports.audit, ports.signer, ports.publisher, ports.pepper)
    monitor = HealthMonitor(ports.monitored, changes.follower)
    base = Foundation(settings, version, ports.cache, changes, access, audit, monitor)
    rules = build_rules(base, ports.definitions)
    basis = build_release_basis(base, ports.releases, ports.readers, ports.candidates)
    configs = build_configs(base, rules, ports.store, ports.cipher, basis.view)
    schemas = build_schemas(base, rules, configs.configurations)
    flags = build_flags(base, ports.flags, rules.policies)
    registry = build_registry(base, ports.rows, ports.nodes, ports.resolve)
    releases = build_releases(base, basis, configs, registry.view)
    proposals = build_proposals(
        base, rules, Subjects(configs, flags, schemas, releases), ports.proposals
    )
    stats = Stats(configs.reader, ports.changes.log, flags.cache, registry.view)
    return (
        build_status(settings, version, monitor, stats),  # first not ready, once it shuts down
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
