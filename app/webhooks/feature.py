"""Builds webhooks: what is stored of them, and the deliveries."""

import asyncio
from ipaddress import ip_network

from app.changes.turns import in_turns
from app.feature import Feature, Routes
from app.foundation import Foundation
from app.outbound.addresses import AddressPolicy
from app.outbound.resolver import Resolve
from app.outbound.trust import load_trust
from app.rules.feature import Rules
from app.web.path_rules import PathRules
from app.webhooks.deliverer import Deliverer
from app.webhooks.delivery_service import DeliveryService
from app.webhooks.problem_codes import PROBLEM_CODES
from app.webhooks.router import router
from app.webhooks.router_deliveries import router as deliveries_router
from app.webhooks.secrets import Encryption, WebhookSecrets
from app.webhooks.sender import Sender
from app.webhooks.service import WebhookService
from app.webhooks.store.port import DeliveryStore
from app.webhooks.worker import DeliveryPorts

WEBHOOK_ROUTES = Routes(
    routers=(router, deliveries_router),
    path_rules=PathRules(
        foreign_segments=dict.fromkeys(("hooks", "notifications", "subscriptions"), "webhooks")
    ),
    problem_codes=PROBLEM_CODES,
)
_AT_ONCE = 128  # requests to receivers
_CLEAN_EVERY_SECONDS = 600.0


def build_webhooks(
    base: Foundation,
    rules: Rules,
    store: DeliveryStore,
    encryption: Encryption,
    resolve: Resolve,
) -> Feature:
    """Build them; raises StartRefused if the certificates of receivers cannot be read."""
    policy = AddressPolicy([ip_network(each) for each in base.settings.allowed_networks])
    sender = Sender(resolve, policy, tls=load_trust(base.settings.health_check_ca_file))
    secrets = WebhookSecrets(encryption)
    follower = base.changes.follower
    service = WebhookService(
        rules.store,
        rules.catalog,
        store,
        secrets,
        sender,
        follower,
        rules.policies,
        base.audit.fingerprints,
    )
    ports = DeliveryPorts(
        store,
        base.changes.log,
        follower,
        secrets,
        sender,
        asyncio.Semaphore(_AT_ONCE),
        service.disable,
    )
    deliverer = Deliverer(ports, rules.catalog)
    clean = in_turns(
        base.changes.maintenance, "webhooks", _CLEAN_EVERY_SECONDS, deliverer.delete_leftovers
    )
    return Feature(
        state={
            "webhooks": service,
            "webhook_deliveries": DeliveryService(store, secrets, sender),
        },
        tasks={
            "deliver_webhooks": deliverer.run,
            "watch_webhooks": deliverer.watch,
            "clean_webhooks": clean,
        },
        facts=deliverer.facts,
        close=sender.close,
    )
