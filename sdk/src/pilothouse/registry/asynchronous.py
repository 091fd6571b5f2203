"""The registry for programs with an event loop; the other one runs it."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

from pilothouse.configuration import Configuration
from pilothouse.registry.balancing import Strategy
from pilothouse.registry.instances import Discovered, DiscoveredInstance
from pilothouse.registry.registration import AsyncRegistration, RegistrationClient, instance_of
from pilothouse.registry.view import ServiceView
from pilothouse.sync import Resource


class RegistryClient(RegistrationClient, Protocol):
    """What the registry needs of a client."""

    config: Configuration

    def attach(self, resource: Resource) -> None: ...
    async def attach_and_wait(self, resource: Resource) -> None: ...
    def age_of(self, resource: Resource) -> float: ...


class AsyncRegistry:
    """Registers instances, and discovers those of other services."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client
        self._views: dict[str, ServiceView] = {}
        self._entered: set[AsyncRegistration] = set()

    def register(  # noqa: PLR0913 - each is one thing that an instance may say of itself
        self,
        service_name: str,
        url: str,
        instance_id: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Collection[str] | None = None,
        version: str | None = None,
        weight: int | None = None,
        zone: str | None = None,
        ttl_seconds: int | None = None,
        warmup_seconds: float | None = None,
        health_check_url: str | None = None,
        drain_seconds: float = 0.0,
    ) -> AsyncRegistration:
        """Return a registration, to be entered by `async with`.

        Its heartbeats come three times in each `ttl_seconds` (30). With `health_check_url` the
        service probes the instance, and heartbeats only find out whether it is still registered.
        Without `instance_id` it is a digest of name and URL, so that a program that starts again
        replaces itself. Raises ValueError for what no instance can say.
        """
        instance = instance_of(
            {
                "service_name": service_name,
                "service_url": url,
                "instance_id": instance_id,
                "metadata": None if metadata is None else dict(metadata),
                "tags": None if tags is None else list(tags),
                "version": version,
                "weight": weight,
                "zone": zone,
                "ttl_seconds": ttl_seconds,
                "warmup_seconds": warmup_seconds,
                "health_check_url": health_check_url,
            }
        )
        return AsyncRegistration(self._client, instance, drain_seconds, self._entered)

    async def discover(
        self,
        service: str,
        *,
        tag: str | None = None,
        version: str | None = None,
        zone: str | None = None,
        environment: str | None = None,
    ) -> Discovered:
        """Return the instances of a service that can be used, from memory.

        The first call for a service waits for the answer, at most `start_timeout` seconds; from
        then on they are followed. Raises NothingKnown as long as there never was an answer, and
        ValueError for what cannot be a service's name. Without instances the sequence is empty.
        With `environment` these are the instances that state exactly that one in their metadata: a
        program that may register elsewhere only cannot be among them.
        """
        view = await self.view(service)
        return view.discover(tag=tag, version=version, zone=zone, environment=environment)

    async def url(
        self,
        service: str,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        *,
        zone: str | None = None,
        environment: str | None = None,
    ) -> str:
        """Return the URL of one instance, balanced here; raises NoInstance and NothingKnown.

        `hash` needs a key, and gives the same key to the same instance, here and in the service.
        With a zone its own instances come first, as long as they can bear it. With an environment
        only the instances that state it are used.
        """
        chosen = await self.choose(service, strategy, key, zone=zone, environment=environment)
        return chosen.url

    async def choose(
        self,
        service: str,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        *,
        zone: str | None = None,
        environment: str | None = None,
        without: Collection[str] = (),
    ) -> DiscoveredInstance:
        """Return the whole instance, as `url` does, and none of the ids in `without`."""
        return (await self.view(service)).choose(strategy, key, zone, without, environment)

    def known_view(self, service: str) -> ServiceView | None:
        """Return the view of a service if it is available without waiting."""
        self._client.config.touch()
        view = self._views.get(service)
        if self._client.offline and view is None:
            view = self._views[service] = ServiceView(service, self._is_late)
            self._client.attach(view.resource)  # the snapshot may have it
        return view if view is not None and (view.is_known or self._client.offline) else None

    async def view(self, service: str) -> ServiceView:
        """Return the view of a service; waits for its first answer."""
        known = self.known_view(service)
        if known is not None:
            return known
        view = self._views.get(service)
        if view is None:
            view = self._views[service] = ServiceView(service, self._is_late)
            view.first = asyncio.ensure_future(self._client.attach_and_wait(view.resource))
        first = view.first
        # In a forked process the loop that it would wait on is gone.
        if first is not None and first.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(first)
        return view

    async def close(self) -> None:
        """End all registrations, without waiting for drains."""
        await asyncio.gather(*(one.leave(hurried=True) for one in list(self._entered)))

    def _is_late(self, resource: Resource) -> bool:
        if resource.last_error is not None:
            return True
        return self._client.age_of(resource) > self._client.config.stale_after
