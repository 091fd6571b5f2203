"""The use cases of the registry."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from app.access.fingerprints import Fingerprints
from app.registry.balancing import Balancer, Choice, Strategy
from app.registry.checking import Checker
from app.registry.errors import (
    BadInstance,
    BadServiceName,
    InstanceNotFound,
    KeyMissing,
    NodesUnavailable,
    NoInstance,
    OldEpoch,
)
from app.registry.following import RowFollower
from app.registry.heartbeats import Heartbeats
from app.registry.keeping import Keeper
from app.registry.port import ServiceRegistryClient
from app.registry.probing import Probe, Prober
from app.registry.rows import Beat, InstanceRows, Registered, Registration, Row
from app.registry.view import Seen, ServiceView, View
from pilothouse_core.definitions import DefinitionError
from pilothouse_core.instances import (
    Instance,
    default_id,
    instance_json,
    read_registration,
    read_url,
)
from pilothouse_core.names import is_name

_ALIVE: Final = frozenset({"up", "draining"})


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, for the log of changes."""

    actor: str
    request_id: str
    source: str | None = None  # the address it came from


@dataclass(frozen=True, slots=True)
class RegistryService:
    rows: InstanceRows
    nodes: ServiceRegistryClient
    view: View
    follower: RowFollower
    keeper: Keeper
    checker: Checker
    prober: Prober
    heartbeats: Heartbeats
    balancer: Balancer
    replica: str
    fingerprints: Fingerprints

    @property
    def is_stale(self) -> bool:
        """Whether ZooKeeper's side of the view is the last known one."""
        return not (self.nodes.is_current and self.follower.is_read)

    async def register(self, body: Mapping[str, Any], requester: Requester) -> Registered:
        """Register an instance, anew if it is registered already; its node follows soon.

        Raises BadInstance, TooManyInstances and RegistryUnavailable.
        """
        instance = _read(body)
        if instance.health_check_url is not None:
            refusal = await self.prober.refusal(instance.health_check_url)
            if refusal is not None:
                raise BadInstance("/health_check_url", refusal, "forbidden_address")
        text = json.dumps(instance_json(instance), ensure_ascii=False, separators=(",", ":"))
        registered = await self.rows.register(
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
            )
        )
        self.view.learn([registered.row])
        with suppress(
            NodesUnavailable
        ):  # it is registered; its node appears when ZooKeeper returns
            await self.keeper.place(registered.row)
        return registered

    async def deregister(
        self, service: str, instance_id: str, epoch: int | None, requester: Requester
    ) -> Row:
        """Take an instance out; raises InstanceNotFound, OldEpoch and RegistryUnavailable."""
        _check(service, instance_id)
        row = await self.rows.deregister(
            service,
            instance_id,
            epoch,
            requester.actor,
            requester.request_id,
            requester.source,
        )
        self.view.learn([row])
        with suppress(NodesUnavailable):  # hidden by its row; its keeper sweeps the node away
            await self.keeper.remove(row)
        return row

    def id_of(self, service: str, url: str) -> str:
        """Return the id of the instance that is registered with a URL; raises BadInstance."""
        try:
            asked = read_url(url)
        except DefinitionError as error:
            raise BadInstance("/service_url", error.detail, error.code) from error
        there = [
            seen.row
            for seen in self.view.service(service).seen
            if seen.row is not None and seen.instance is not None and seen.instance.url == asked
        ]
        if not there:
            return default_id(service, asked)
        # Only one can be at one address now: another died there under another id.
        return max(there, key=lambda row: row.registered_at).instance_id

    async def heartbeat(self, service: str, instance_id: str, epoch: int | None) -> Row:
        """Note a heartbeat; raises InstanceNotFound, OldEpoch and RegistryUnavailable."""
        _check(service, instance_id)
        row = await self.heartbeats.beat(Beat(service, instance_id, epoch))
        if row is not None:
            return row
        known = await self.rows.row(service, instance_id)
        if known is not None and known.state == "registered" and epoch is not None:
            raise OldEpoch(known.epoch)
        raise InstanceNotFound(service, instance_id)

    async def drain(
        self,
        service: str,
        instance_id: str,
        epoch: int | None,
        grace_seconds: float,
        requester: Requester,
    ) -> Row:
        """Take an instance out of discovery at once, and out of the registry after its grace."""
        _check(service, instance_id)
        row = await self.rows.drain(
            service,
            instance_id,
            epoch,
            grace_seconds,
            requester.actor,
            requester.request_id,
            requester.source,
        )
        self.view.learn([row])
        with suppress(NodesUnavailable):
            await self.keeper.remove(row)
        return row

    def service(self, name: str) -> ServiceView:
        """Return what is seen of a service; raises BadServiceName."""
        found = self.view.service(name)
        # Others, who write to ZooKeeper themselves, give their services other names too.
        if not found.seen and not is_name(name):
            raise BadServiceName(name)
        return found

    def choose(self, name: str, strategy: Strategy, zone: str | None, key: str | None) -> Choice:
        """Return one instance for a caller; raises NoInstance and KeyMissing."""
        if strategy == "hash" and key is None:
            raise KeyMissing
        found = self.balancer.choose(self.service(name), strategy, zone, key)
        if found is None:
            raise NoInstance(name)
        return found

    async def check(self, name: str) -> Sequence[tuple[Seen, Probe]]:
        """Probe all instances of a service that can be, now; of the others tell how they are."""
        seen = self.service(name).seen
        rows = [one.row for one in seen if one.row is not None and one.row.lease == "probe"]
        probes = {row.instance_id: check.probe for row, check in await self.checker.check(rows)}
        now = self.view.service(name)
        told = [now.instance(one.id) or one for one in seen]
        return [(one, probes.get(one.id) or _unprobed(one)) for one in told]


def _unprobed(seen: Seen) -> Probe:
    judge = "node" if seen.row is None else "heartbeats"
    reason = f"has no health_check_url; by its {judge} it is {seen.status}"
    return Probe(seen.status in _ALIVE, reason, 0.0)


def _read(body: Mapping[str, Any]) -> Instance:
    try:
        return read_registration(body)
    except DefinitionError as error:
        raise BadInstance.of(error) from error


def _check(service: str, instance_id: str) -> None:
    for name in (service, instance_id):
        if not is_name(name):
            raise BadServiceName(name)
