"""The last known instances of one service: a resource and its reads."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pilothouse.errors import BadAnswer
from pilothouse.registry.balancing import Balancer, Strategy
from pilothouse.registry.errors import NoInstance, NothingKnown
from pilothouse.registry.instances import Discovered, DiscoveredInstance, read_discovered
from pilothouse.sync import Resource
from pilothouse.transport import Answer
from pilothouse_core.names import is_service_path

_DISCOVER = "/api/v1/registry/discover"


class ServiceView:
    """Reads use memory only, on any thread.

    `is_late` returns whether the service may have something newer.
    """

    def __init__(self, service: str, is_late: Callable[[Resource], bool]) -> None:
        """Raise ValueError for what cannot be the name of a service."""
        if not is_service_path(service):
            raise ValueError(f"{service!r} cannot name a service")
        self.service = service
        self.first: asyncio.Future[None] | None = None  # when the first answer was waited for
        self._is_late = is_late
        self._held: Discovered | None = None
        self._body: Mapping[str, Any] | None = None
        self._balancer = Balancer()
        self.resource = Resource(
            f"services/{service}",
            f"{_DISCOVER}/{service}",
            {},
            self._accept,
            kinds=frozenset({"instance"}),
            concerns=self._concerns,
            saved=lambda: self._body,
            restore=self._hold,
            is_held=True,  # the stream does not report foreign instances in ZooKeeper
        )

    @property
    def is_known(self) -> bool:
        return self._held is not None

    def discover(
        self,
        *,
        tag: str | None = None,
        version: str | None = None,
        zone: str | None = None,
        environment: str | None = None,
    ) -> Discovered:
        """Return the instances that match; raises NothingKnown."""
        held = self._require_known()
        return Discovered(
            tuple(one for one in held if one.matches(zone, tag, version, environment)),
            held.is_stale or self._is_late(self.resource),
            held.is_protected,
        )

    def choose(
        self,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        zone: str | None = None,
        without: Collection[str] = (),
        environment: str | None = None,
    ) -> DiscoveredInstance:
        """Return one instance; raises NoInstance and NothingKnown."""
        chosen = self._balancer.choose(strategy, key, zone, without, environment)
        if chosen is None:
            self._require_known()
            raise NoInstance(self.service, environment)
        return chosen

    def _require_known(self) -> Discovered:
        if self._held is None:
            raise NothingKnown(self.service, str(self.resource.last_error or "no answer in time"))
        return self._held

    def _concerns(self, change: Mapping[str, Any]) -> bool:
        return str(change.get("name")).startswith(f"{self.service}/")

    async def _accept(self, answer: Answer) -> None:
        self._hold(answer.object())

    def _hold(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise BadAnswer("a snapshot without instances")
        held = read_discovered(body)
        self._balancer.swap(held.instances)
        self._held, self._body = held, body
