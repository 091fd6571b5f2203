"""Builds the service registry from its adapters."""

from collections.abc import Sequence
from ipaddress import ip_network
from ssl import SSLContext

from app.audit.fingerprints import Fingerprints
from app.outbound.addresses import AddressPolicy
from app.outbound.resolver import Resolve
from app.registry.balancing import Balancer
from app.registry.eviction import EVICT_SECONDS, InstanceEvictor
from app.registry.health.checker import HealthChecker
from app.registry.health.probe import Prober
from app.registry.heartbeats import ANSWER_SECONDS, HeartbeatRecorder
from app.registry.instances.port import InstanceStore
from app.registry.nodes.port import ServiceRegistryClient
from app.registry.reconciler import NodeReconciler
from app.registry.row_follower import RowFollower
from app.registry.service import RegistryService
from app.registry.view import RegistryView


def build_service(  # noqa: PLR0913 - settings and adapters of every part
    rows: InstanceStore,
    nodes: ServiceRegistryClient,
    resolve: Resolve,
    *,
    replica: str,
    interval: float,
    allowed_networks: Sequence[str],
    fingerprints: Fingerprints,
    patience: float = ANSWER_SECONDS,
    tls: SSLContext | None = None,
) -> RegistryService:
    """Build the service.

    `interval`, in seconds, and `tls` apply to health checks; `patience` is the time limit of the
    store.
    """
    view = RegistryView()
    policy = AddressPolicy([ip_network(network) for network in allowed_networks])
    prober = Prober(resolve, policy, tls=tls)
    reconciler = NodeReconciler(rows, nodes, view, replica)
    gap = EVICT_SECONDS + patience
    return RegistryService(
        rows=rows,
        nodes=nodes,
        view=view,
        follower=RowFollower(rows, view),
        reconciler=reconciler,
        evictor=InstanceEvictor(rows, nodes, view, reconciler.remove_node, gap=gap),
        checker=HealthChecker(rows, view, prober, replica, interval),
        prober=prober,
        heartbeats=HeartbeatRecorder(rows, view, patience),
        balancer=Balancer(),
        replica=replica,
        fingerprints=fingerprints,
    )
