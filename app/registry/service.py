"""Use cases of the service registry."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from app.audit.fingerprints import Fingerprints
from app.registry.balancing import Balancer, Choice, Strategy
from app.registry.environments import EnvironmentGuard, Requester
from app.registry.errors import (
    BadInstance,
    BadServiceName,
    InstanceNotFound,
    KeyMissing,
    NodesUnavailable,
    NoInstance,
    OldEpoch,
    RegistryUnavailable,
)
from app.registry.eviction import InstanceEvictor
from app.registry.health.addresses import AddressWarning, address_warning
from app.registry.health.checker import HealthChecker
from app.registry.health.probe import Prober, ProbeResult
from app.registry.heartbeats import HeartbeatRecorder
from app.registry.instances.port import InstanceStore
from app.registry.model import (
    Heartbeat,
    InstanceRow,
    Registration,
    RegistrationResult,
)
from app.registry.nodes.port import ServiceRegistryClient
from app.registry.reconciler import NodeReconciler
from app.registry.row_follower import RowFollower
from app.registry.view import InstanceView, RegistryView, ServiceView
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import (
    ENVIRONMENT,
    Instance,
    default_id,
    environment_in,
    instance_json,
    read_registration,
    read_url,
)
from pilothouse_core.names import NAME_GRAMMAR, is_instance_id, is_name, is_service_path

_ALIVE: Final = frozenset({"up", "draining"})
# Path segments that follow a service name in a URL; no later part of a name may be one of them.
RESERVED_SUFFIXES: Final = ("url", "health", "instances", "release", "drain")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RegistryService:
    rows: InstanceStore
    nodes: ServiceRegistryClient
    view: RegistryView
    follower: RowFollower
    reconciler: NodeReconciler
    evictor: InstanceEvictor
    checker: HealthChecker
    prober: Prober
    heartbeats: HeartbeatRecorder
    balancer: Balancer
    replica: str
    fingerprints: Fingerprints

    @property
    def guard(self) -> EnvironmentGuard:
        return EnvironmentGuard(self.rows, self.view)

    @property
    def is_stale(self) -> bool:
        """Whether the view may be outdated because a backend is unavailable."""
        return not (self.nodes.is_current and self.follower.is_read)

    async def register(self, body: Mapping[str, Any], requester: Requester) -> RegistrationResult:
        """Register an instance or replace its registration; its node follows soon.

        Raises BadInstance, Denied, TooManyInstances and RegistryUnavailable.
        """
        instance = _read_instance(body)
        requester.demand(instance.service_name, environment_in(instance.metadata))
        if instance.health_check_url is not None:
            refusal = await self.prober.refusal(instance.health_check_url)
            if refusal is not None:
                raise BadInstance("/health_check_url", refusal, "forbidden_address")
        text = json.dumps(instance_json(instance), ensure_ascii=False, separators=(",", ":"))
        registered = await self.guard.register(
            Registration(
                service=instance.service_name,
                instance_id=instance.instance_id,
                definition=text,
                lease="probe" if instance.health_check_url is not None else "heartbeat",
                ttl_seconds=instance.ttl_seconds,
                owner=self.replica,
                actor=requester.actor,
                request_id=requester.request_id,
                source=requester.source,
                fingerprint=self.fingerprints.of(text),
            ),
            requester,
        )
        self.view.learn([registered.row])
        for warning in self.warnings(registered.row, requester):
            key = registered.row.key
            _log.warning("address_unreachable", service=key[0], instance=key[1], code=warning.code)
        with suppress(
            NodesUnavailable
        ):  # it is registered; its node is put when ZooKeeper is available again
            await self.reconciler.put_node(registered.row)
        return registered

    def warnings(self, row: InstanceRow, requester: Requester) -> Sequence[AddressWarning]:
        """Return warnings about the registered address of an instance."""
        instance = self.view.instance(row)
        warning = None if instance is None else address_warning(instance.url.host, requester.source)
        return [] if warning is None else [warning]

    async def deregister(
        self, service: str, instance_id: str, epoch: int | None, requester: Requester
    ) -> InstanceRow:
        """Deregister an instance.

        Raises Denied, InstanceNotFound, OldEpoch and RegistryUnavailable.
        """
        _check_names(service, instance_id)

        async def deregister(epoch: int | None) -> InstanceRow:
            return await self.rows.deregister(
                service,
                instance_id,
                epoch,
                requester.actor,
                requester.request_id,
                requester.source,
            )

        row = await self.guard.change(service, instance_id, epoch, requester, deregister)
        self.view.learn([row])
        with suppress(NodesUnavailable):  # hidden by its row; its owner removes the node
            await self.reconciler.remove_node(row)
        return row

    def id_of(self, service: str, url: str) -> str:
        """Return the id of the instance registered with a URL; raises BadInstance."""
        try:
            parsed = read_url(url)
        except DefinitionError as error:
            raise BadInstance("/service_url", error.detail, error.code) from error
        rows = [
            seen.row
            for seen in self.view.service(service).instances
            if seen.row is not None and seen.instance is not None and seen.instance.url == parsed
        ]
        if not rows:
            return default_id(service, parsed)
        # Only one instance can use a URL now: others with it have ended under other ids.
        return max(rows, key=lambda row: row.registered_at).instance_id

    async def heartbeat(
        self, service: str, instance_id: str, epoch: int | None, requester: Requester
    ) -> InstanceRow:
        """Record a heartbeat; raises Denied, InstanceNotFound, OldEpoch and RegistryUnavailable."""
        _check_names(service, instance_id)

        async def record(epoch: int | None) -> InstanceRow:
            return await self.record_heartbeat(service, instance_id, epoch)

        row = await self.guard.change(service, instance_id, epoch, requester, record)
        self.evictor.heartbeat_history.record()
        return row

    async def record_heartbeat(
        self, service: str, instance_id: str, epoch: int | None
    ) -> InstanceRow:
        """Record a heartbeat of this replica itself, which says nothing about the network."""
        _check_names(service, instance_id)
        row = await self.heartbeats.record(Heartbeat(service, instance_id, epoch))
        if row is not None:
            return row
        known = await self.rows.row(service, instance_id)
        if known is not None and known.state == "registered" and epoch is not None:
            raise OldEpoch(known.epoch)
        raise InstanceNotFound(service, instance_id)

    async def release(self, service: str | None, requester: Requester) -> int:
        """End the protection of silent instances of a service, or of all; return their number.

        Those that are due are evicted at once. Raises BadServiceName and RegistryUnavailable.
        """
        if service is not None:
            self.service(service)
        released = await self.rows.release(
            service, requester.actor, requester.request_id, requester.source
        )
        with suppress(RegistryUnavailable):  # they are evicted when the store is available again
            await self.evictor.evict_silent()
        return len(released)

    async def drain(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        requester: Requester,
    ) -> InstanceRow:
        """Remove an instance from discovery at once, and from the registry after the grace."""
        _check_names(service, instance_id)

        async def drain(epoch: int | None) -> InstanceRow:
            return await self.rows.drain(
                service,
                instance_id,
                epoch,
                grace_seconds,
                requester.actor,
                requester.request_id,
                requester.source,
            )

        row = await self.guard.change(service, instance_id, epoch, requester, drain)
        self.view.learn([row])
        with suppress(NodesUnavailable):
            await self.reconciler.remove_node(row)
        return row

    def service(self, name: str) -> ServiceView:
        """Return the view of a service; raises BadServiceName."""
        view = self.view.service(name)
        # Clients that write to ZooKeeper directly also use other names.
        if not view.instances and not is_service_path(name):
            raise BadServiceName(name)
        return view

    def choose(
        self,
        name: str,
        strategy: Strategy,
        zone: str | None,
        key: str | None,
        environment: str | None = None,
    ) -> Choice:
        """Return one instance for a caller; raises NoInstance and KeyMissing.

        With an environment, only instances that state it are candidates.
        """
        if strategy == "hash" and key is None:
            raise KeyMissing
        choice = self.balancer.choose(self.service(name), strategy, zone, key, environment)
        if choice is None:
            raise NoInstance(name, environment)
        return choice

    async def check(
        self, name: str, requester: Requester
    ) -> Sequence[tuple[InstanceView, ProbeResult]]:
        """Probe all instances of a service that have a URL for it; report the status of others.

        Instances in environments where the caller may not write are not probed.
        """
        seen = self.service(name).instances
        rows = [
            one.row
            for one in seen
            if one.row is not None
            and one.row.lease == "probe"
            and requester.may_write(name, one.environment)
        ]
        probes = {row.instance_id: check.probe for row, check in await self.checker.check(rows)}
        now = self.view.service(name)
        current = [now.instance(one.id) or one for one in seen]
        return [(one, probes.get(one.id) or _result_without_probe(one)) for one in current]


def is_addressable(name: str) -> bool:
    """Whether the name of a service can be used in a URL."""
    return all(part and part not in RESERVED_SUFFIXES for part in name.split("/")[1:])


def _result_without_probe(seen: InstanceView) -> ProbeResult:
    source = "node" if seen.row is None else "heartbeats"
    reason = f"has no health_check_url; by its {source} it is {seen.status}"
    if seen.row is not None and seen.row.lease == "probe":
        reason = (
            f"is in the environment {seen.environment}, where the caller may not write:"
            f" it was not checked now, and is {seen.status}"
        )
    return ProbeResult(seen.status in _ALIVE, reason, 0.0)


def _read_instance(body: Mapping[str, Any]) -> Instance:
    try:
        instance = read_registration(body)
    except DefinitionError as error:
        raise BadInstance.of(error) from error
    # Checked only here: older rows may contain any text for it.
    if ENVIRONMENT in instance.metadata and environment_in(instance.metadata) is None:
        detail = f"is not a valid name of an environment: {NAME_GRAMMAR}"
        raise BadInstance(f"/metadata/{ENVIRONMENT}", detail, "bad_name")
    return instance


def _check_names(service: str, instance_id: str) -> None:
    if not is_name(service):
        raise BadServiceName(service)
    if not is_instance_id(instance_id):
        raise BadServiceName(instance_id)
