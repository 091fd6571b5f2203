"""Two helpers with the names and arguments that programs of this kind have used for long.

Both hold the effective configuration as `Pilothouse` does: changes arrive by the stream, and the
interval that is given is the net below it.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pilothouse.changes import ConfigChange
from pilothouse.client import Pilothouse
from pilothouse.config_state import ConfigState
from pilothouse.errors import PilothouseError, Unavailable
from pilothouse.sync import RefreshPolicy
from pilothouse.transport import Token

_PATIENCE = 2.0  # seconds to wait for the service when a program starts


class RegistryConfigProvider:
    """Values of a service's configuration, with defaults for absent keys.

    The constructor waits two seconds at most for the service. While it is unavailable the
    defaults are used; with `required=True` the constructor raises instead, for programs that fall
    back to something else.
    """

    def __init__(
        self,
        registry_url: str,
        service_name: str,
        environment: str = "default",
        cache_ttl_seconds: float = 60.0,
        *,
        token: Token = None,
        required: bool = False,
    ) -> None:
        """Load the configuration; `cache_ttl_seconds` is its maximum age.

        With `required` raises PilothouseError where the service has not delivered it in time.
        """
        self.client = Pilothouse(
            registry_url,
            service_name,
            environment,
            token,
            flags=False,
            start_timeout=_PATIENCE,
            pace=RefreshPolicy(poll_interval=max(0.1, cache_ttl_seconds)),
        )
        if required and not self.client.ready(0):
            reason = self.client.last_error or Unavailable(f"no answer within {_PATIENCE:g} s")
            self.close()
            raise reason

    def get(self, key: str, default: Any = None) -> Any:
        return self.client.config.get(key, default)

    def get_int(self, key: str, default: int = 0) -> int:
        return self.client.config.get_int(key, default)

    def get_bool(self, key: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - as known
        return self.client.config.get_bool(key, default)

    def refresh(self) -> bool:
        """Read now; return whether that succeeded. If it fails, the earlier values stay."""
        try:
            self.client.refresh()
        except PilothouseError:
            return False
        return True

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> "RegistryConfigProvider":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ConfigWatcher:
    """Calls `on_change` with the whole new configuration, as nested dicts, when it changes."""

    def __init__(
        self,
        registry_url: str,
        service_name: str,
        environment: str = "default",
        poll_interval_seconds: float = 30.0,
        on_change: Callable[[dict[str, Any]], object] | None = None,
        *,
        token: Token = None,
    ) -> None:
        self._arguments = (registry_url, service_name, environment, token)
        self._pace = RefreshPolicy(poll_interval=max(0.1, poll_interval_seconds))
        self._on_change = on_change
        self._client: Pilothouse | None = None
        self._stopped = threading.Event()

    @property
    def is_running(self) -> bool:
        return self._client is not None

    def start(self, *, block: bool = True) -> None:
        """Watch, and return when `stop` is called: on another thread, or by `on_change`.

        With `block=False` return at once, and watch on a thread. What the configuration is when it
        begins is no change; what it becomes is.
        """
        if self._client is None:
            self._stopped.clear()
            self._client = Pilothouse(
                *self._arguments, flags=False, start_timeout=_PATIENCE, pace=self._pace
            )
            self._client.config.on_update(self._notify)
        if block:
            try:
                self._stopped.wait()
            except BaseException:  # Ctrl-C: nothing else would stop it
                self.stop()
                raise

    def _notify(self, held: ConfigState, _: tuple[ConfigChange, ...]) -> object:
        return self._on_change(held.own_data()) if self._on_change is not None else None

    def stop(self) -> None:
        """End; may be called twice, and from `on_change`."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._stopped.set()
