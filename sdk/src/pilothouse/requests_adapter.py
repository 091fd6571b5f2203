"""An adapter of requests that sends `service://NAME/path` to an instance of that service.

```python
session = requests.Session()
session.mount("service://", ServiceAdapter(client.registry))
session.get("service://asr-service/health")
```

requests leaves URLs of schemes that it does not know as they are: `params` is not added to them.
Mounted at `http+service://` as well, with such URLs, it is.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import should_bypass_proxies
from urllib3.exceptions import NewConnectionError

from pilothouse.errors import PilothouseError
from pilothouse.registry import Registry
from pilothouse.registry.addresses import ATTEMPTS, may_go_on, target
from pilothouse.registry.balancing import Strategy

Key = Callable[[requests.PreparedRequest], str]


class ServiceAdapter(BaseAdapter):
    """Sends by `adapter`, a plain HTTPAdapter of its own if none is given.

    Method, body and headers stay as they are; `Host` is that of the instance, unless the caller
    set another. An instance that cannot be connected to is passed over, for idempotent methods and
    up to `attempts` instances in all. If no instance is known, requests.ConnectionError is raised.
    `hash` needs `key`, a function of the request. With
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
        adapter: BaseAdapter | None = None,
    ) -> None:
        super().__init__()
        self._registry = registry
        self._strategy, self._zone, self._key = strategy, zone, key
        self._environment = environment
        self._attempts = attempts
        self._inner = adapter or HTTPAdapter()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002
        timeout: Any = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        tried: list[str] = []
        failure: requests.ConnectionError | None = None
        while True:
            try:
                chosen, url = self._choose_instance(request, tried)
            except (PilothouseError, ValueError) as error:
                raise failure or requests.ConnectionError(str(error), request=request) from error
            onward = request.copy()
            onward.url = url
            # The session has judged by the name of the service, which no `no_proxy` holds.
            through = None if should_bypass_proxies(url, None) else proxies
            try:
                return self._inner.send(onward, stream, timeout, verify, cert, through)
            except requests.ConnectionError as error:
                tried.append(chosen)
                failure = error
                going_on = may_go_on(request.method or "", len(tried), self._attempts)
                if not (going_on and _reached_nobody(error)):
                    raise

    def close(self) -> None:
        self._inner.close()

    def _choose_instance(
        self, request: requests.PreparedRequest, tried: list[str]
    ) -> tuple[str, str]:
        """Return the id of an instance, and the URL to ask there."""
        parts = urlsplit(request.url or "")
        chosen = self._registry.choose(
            parts.netloc,
            self._strategy,
            self._key and self._key(request),
            zone=self._zone,
            environment=self._environment,
            without=tried,
        )
        query = f"?{parts.query}" if parts.query else ""
        return chosen.instance_id, target(chosen, parts.path + query)


def _reached_nobody(error: requests.ConnectionError) -> bool:
    """Tell whether there was no connection; a connection that breaks is something else."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)
