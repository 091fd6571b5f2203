"""Deprecated alias of `pilothouse.compat`."""

import warnings
from typing import Any

from pilothouse import compat

_NAMES = {
    "ConfigWatcher": compat.ConfigWatcher,
    "RegistryConfigProvider": compat.RegistryConfigProvider,
}


def __getattr__(name: str) -> Any:
    """Return the object of that name, with a warning."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "pilothouse.classic is deprecated: use pilothouse.compat", DeprecationWarning, stacklevel=2
    )
    return _NAMES[name]
