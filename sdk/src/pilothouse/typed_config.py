"""A service's configuration read once, as a mapping with attributes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pilothouse.compat import RegistryConfigProvider
from pilothouse.conversions import UNREADABLE, read_boolean, read_integer
from pilothouse.errors import PilothouseError
from pilothouse.transport import Token
from pilothouse_core.trees import node_at

_URL, _ENVIRONMENT, _TOKEN = "PILOTHOUSE_URL", "PILOTHOUSE_ENVIRONMENT", "PILOTHOUSE_TOKEN"


class ConfigValidationError(PilothouseError):
    """A configuration cannot be used; `errors` says why, line by line."""

    code = "config_invalid"

    def __init__(self, message: str, errors: Sequence[str] = (), **facts: Any) -> None:
        super().__init__(message, **facts)
        self.errors = tuple(errors) or (message,)


class TypedConfig(Mapping[str, Any]):
    """Nested values, read as `config["db"]["host"]`, `config["db.host"]` or `config.db.host`.

    Names that are no attributes (`max-size`, `items`) are read with brackets. It never changes.
    """

    __slots__ = ("_data",)
    _data: dict[str, Any]

    def __init__(self, data: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_data", dict(data))

    def __getitem__(self, key: str) -> Any:
        if key in self._data:
            return _readable(self._data[key])
        try:
            value = node_at(self._data, key, UNREADABLE)
        except ValueError:  # it is no key
            value = UNREADABLE
        if value is UNREADABLE:
            raise KeyError(key)
        return _readable(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copy and pickle look for
            raise AttributeError(name)
        if name not in self._data:
            raise AttributeError(f"the configuration has no {name!r}")
        return _readable(self._data[name])

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a configuration that was read does not change: {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"TypedConfig({', '.join(self._data)})"  # values may be secret

    def get_int(self, key: str, default: int = 0) -> int:
        """Return a whole number, also one that is spelled as text; else `default`."""
        value = read_integer(self.get(key))
        return default if value is UNREADABLE else int(value)

    def get_bool(self, key: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - as known
        """Return a boolean; true, yes, on, 1 and their opposites are read as well."""
        value = read_boolean(self.get(key))
        return default if value is UNREADABLE else bool(value)


def load_typed_config(
    service_name: str,
    registry_url: str | None = None,
    environment: str | None = None,
    *,
    token: Token = None,
    config_data: Mapping[str, Any] | None = None,
) -> TypedConfig:
    """Return what `RegistryConfigProvider` of this service holds now.

    What is not given is read from PILOTHOUSE_URL, PILOTHOUSE_ENVIRONMENT, and PILOTHOUSE_TOKEN or
    PILOTHOUSE_TOKEN_FILE. With `config_data` that is looked at instead of what the service holds.
    Raises ConfigValidationError where the service is unreachable or refuses, and for what is no
    configuration.
    """
    if config_data is not None:
        if not isinstance(config_data, Mapping):
            raise ConfigValidationError(
                f"{service_name}: {type(config_data).__name__} is no configuration: a mapping is"
            )
        return TypedConfig(config_data)
    url = registry_url or os.environ.get(_URL)
    if not url:
        raise ConfigValidationError(f"{service_name}: no registry_url, and {_URL} is not set")
    try:
        with RegistryConfigProvider(
            url,
            service_name,
            environment or os.environ.get(_ENVIRONMENT) or "default",
            token=token or _token_of_environment(),
            required=True,
        ) as provider:
            return TypedConfig(provider.client.config.section())
    except (PilothouseError, ValueError) as error:
        raise ConfigValidationError(f"{service_name}: {error}") from error


def _token_of_environment() -> Token:
    path = os.environ.get(f"{_TOKEN}_FILE")
    return Path(path).read_text if path else os.environ.get(_TOKEN)


def _readable(value: Any) -> Any:
    return TypedConfig(value) if isinstance(value, Mapping) else deepcopy(value)
