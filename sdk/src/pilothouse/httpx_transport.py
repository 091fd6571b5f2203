"""Transports of httpx that send `service://NAME/path` to an instance of that service.

```python
http = httpx.Client(mounts={"service://": ServiceTransport(client.registry)})
http.get("service://asr-service/health")
```
"""

from collections.abc import Callable

import httpx

from pilothouse.errors import PilothouseError
from pilothouse.registry import AsyncRegistry, DiscoveredInstance, Registry
from pilothouse.registry.addresses import ATTEMPTS, SCHEME, may_go_on, target
from pilothouse.registry.balancing import Strategy

Key = Callable[[httpx.Request], str]
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)


class ServiceTransport(httpx.BaseTransport):
    """Sends by `transport`, a plain one of its own if none is given; other schemes pass through.

    Method, body and headers stay as they are; `Host` becomes that of the instance, unless the
    caller set another. An instance that cannot be connected to is passed over, for idempotent
    methods and up to `attempts` instances in all. If no instance is known, httpx.ConnectError is
    raised. `hash` needs `key`, a function of the request. With
    `environment` only the instances that state it are asked.
    """

    def __init__(  # noqa: PLR0913 - each is one thing that a caller may choose
        self,
        registry: Registry,
        *,
        strategy: Strategy = "round_robin",
        zone: str | None = None,
        environment: str | None = None,
        key: Key | None = None,
        attempts: int = ATTEMPTS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._registry = registry
        self._strategy, self._zone, self._key = strategy, zone, key
        self._environment = environment
        self._attempts = attempts
        self._inner = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme != SCHEME:
            return self._inner.handle_request(request)
        tried: list[str] = []
        failure: httpx.TransportError | None = None
        while True:
            try:
                chosen = self._registry.choose(
                    request.url.host,
                    self._strategy,
                    self._key and self._key(request),
                    zone=self._zone,
                    environment=self._environment,
                    without=tried,
                )
                onward = _onward(request, chosen)
            except (PilothouseError, ValueError) as error:
                raise failure or _nobody(error, request) from error
            try:
                return self._inner.handle_request(onward)
            except _NOT_CONNECTED as error:
                tried.append(chosen.instance_id)
                failure = error
                if not may_go_on(request.method, len(tried), self._attempts):
                    raise

    def close(self) -> None:
        self._inner.close()


class AsyncServiceTransport(httpx.AsyncBaseTransport):
    """`ServiceTransport` for httpx.AsyncClient, with the registry of an AsyncPilothouse."""

    def __init__(  # noqa: PLR0913 - each is one thing that a caller may choose
        self,
        registry: AsyncRegistry,
        *,
        strategy: Strategy = "round_robin",
        zone: str | None = None,
        environment: str | None = None,
        key: Key | None = None,
        attempts: int = ATTEMPTS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._registry = registry
        self._strategy, self._zone, self._key = strategy, zone, key
        self._environment = environment
        self._attempts = attempts
        self._inner = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme != SCHEME:
            return await self._inner.handle_async_request(request)
        tried: list[str] = []
        failure: httpx.TransportError | None = None
        while True:
            try:
                chosen = await self._registry.choose(
                    request.url.host,
                    self._strategy,
                    self._key and self._key(request),
                    zone=self._zone,
                    environment=self._environment,
                    without=tried,
                )
                onward = _onward(request, chosen)
            except (PilothouseError, ValueError) as error:
                raise failure or _nobody(error, request) from error
            try:
                return await self._inner.handle_async_request(onward)
            except _NOT_CONNECTED as error:
                tried.append(chosen.instance_id)
                failure = error
                if not may_go_on(request.method, len(tried), self._attempts):
                    raise

    async def aclose(self) -> None:
        await self._inner.aclose()


def _onward(request: httpx.Request, instance: DiscoveredInstance) -> httpx.Request:
    url = httpx.URL(target(instance, request.url.raw_path.decode("ascii")))
    headers = request.headers.copy()
    if headers.get("host") == request.url.netloc.decode("ascii"):  # as httpx wrote it
        headers["host"] = url.netloc.decode("ascii")
    return httpx.Request(
        request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
    )


def _nobody(error: Exception, request: httpx.Request) -> httpx.ConnectError:
    return httpx.ConnectError(str(error), request=request)
