"""How the registry is put together, whichever adapters it stands on."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_network

from app.access.fingerprints import Fingerprints
from app.registry.addresses import AddressPolicy
from app.registry.balancing import Balancer
from app.registry.checking import Checker
from app.registry.following import RowFollower
from app.registry.heartbeats import Heartbeats
from app.registry.keeping import Keeper
from app.registry.port import ServiceRegistryClient
from app.registry.probing import Prober, Resolve
from app.registry.rows import InstanceRows
from app.registry.service import RegistryService
from app.registry.view import View


def assembled(  # noqa: PLR0913 - what stands around every registration
    rows: InstanceRows,
    nodes: ServiceRegistryClient,
    resolve: Resolve,
    *,
    replica: str,
    interval: float,
    allowed_networks: Sequence[str],
    fingerprints: Fingerprints,
) -> RegistryService:
    """Build the service; `interval` is that of health checks, in seconds."""
    view = View()
    policy = AddressPolicy([ip_network(network) for network in allowed_networks])
    prober = Prober(resolve, policy)
    return RegistryService(
        rows=rows,
        nodes=nodes,
        view=view,
        follower=RowFollower(rows, view),
        keeper=Keeper(rows, nodes, view, replica),
        checker=Checker(rows, view, prober, replica, interval),
        prober=prober,
        heartbeats=Heartbeats(rows, view),
        balancer=Balancer(),
        replica=replica,
        fingerprints=fingerprints,
    )


def tasks_of(registry: RegistryService) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return what has to run as long as the service does."""
    return {
        "follow_nodes": registry.nodes.follow,
        "keep_nodes": registry.keeper.keep,
        "evict": registry.keeper.evict,
        "forget_instances": registry.keeper.forget,
        "check_instances": registry.checker.keep,
    }
