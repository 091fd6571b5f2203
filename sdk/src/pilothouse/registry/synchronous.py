"""The registry for programs without an event loop: the same, run on the client's own."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from types import TracebackType

from pilothouse.background import RunOnLoop
from pilothouse.errors import PilothouseError
from pilothouse.registry.asynchronous import AsyncRegistry
from pilothouse.registry.balancing import Strategy
from pilothouse.registry.instances import Discovered, DiscoveredInstance
from pilothouse.registry.registration import AsyncRegistration
from pilothouse.registry.view import ServiceView


class Registration:
    """As `AsyncRegistration`, entered by `with`; `inner` is that one."""

    def __init__(self, inner: AsyncRegistration, run: RunOnLoop) -> None:
        self.inner = inner
        self._run = run

    @property
    def service_name(self) -> str:
        return self.inner.service_name

    @property
    def instance_id(self) -> str:
        return self.inner.instance_id

    @property
    def epoch(self) -> int | None:
        """None while it is not registered."""
        return self.inner.epoch

    @property
    def is_registered(self) -> bool:
        return self.inner.is_registered

    @property
    def last_error(self) -> PilothouseError | None:
        """Why it is not registered, or its heartbeats fail."""
        return self.inner.last_error

    def drain(self) -> None:
        """Take the instance out of discovery now, to be left later; never raises."""
        if self.inner.is_entered:
            with suppress(PilothouseError):  # the client is closed, and has left for us
                self._run(self.inner.drain())

    def __enter__(self) -> "Registration":
        if not self.inner.is_offline:
            self._run(self.inner.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.inner.is_entered:
            with suppress(PilothouseError):
                self._run(self.inner.leave())


class Registry:
    """Registers instances, and discovers those of other services; safe to use from every thread."""

    def __init__(self, inner: AsyncRegistry, run: RunOnLoop) -> None:
        self._inner = inner
        self._run = run

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
    ) -> Registration:
        """Return a registration, to be entered by `with`; else as `AsyncRegistry.register`."""
        inner = self._inner.register(
            service_name,
            url,
            instance_id,
            metadata=metadata,
            tags=tags,
            version=version,
            weight=weight,
            zone=zone,
            ttl_seconds=ttl_seconds,
            warmup_seconds=warmup_seconds,
            health_check_url=health_check_url,
            drain_seconds=drain_seconds,
        )
        return Registration(inner, self._run)

    def discover(
        self,
        service: str,
        *,
        tag: str | None = None,
        version: str | None = None,
        zone: str | None = None,
        environment: str | None = None,
    ) -> Discovered:
        """Return the instances of a service that can be used; else as `AsyncRegistry.discover`."""
        return self._view(service).discover(
            tag=tag, version=version, zone=zone, environment=environment
        )

    def url(
        self,
        service: str,
        strategy: Strategy = "round_robin",
        key: str | None = None,
        *,
        zone: str | None = None,
        environment: str | None = None,
    ) -> str:
        """Return the URL of one instance, balanced here; else as `AsyncRegistry.url`."""
        return self.choose(service, strategy, key, zone=zone, environment=environment).url

    def choose(
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
        return self._view(service).choose(strategy, key, zone, without, environment)

    def _view(self, service: str) -> ServiceView:
        return self._inner.known_view(service) or self._run(self._inner.view(service))
