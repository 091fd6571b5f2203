"""Deprecated alias of `pilothouse.sync`."""

import warnings
from typing import Any

from pilothouse import sync

_NAMES = {
    "Follower": sync.Follower,
    "Mode": sync.Mode,
    "Pace": sync.RefreshPolicy,
    "Resource": sync.Resource,
}


def __getattr__(name: str) -> Any:
    """Return the object of that name, with a warning."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "pilothouse.following is deprecated: use pilothouse.sync", DeprecationWarning, stacklevel=2
    )
    return _NAMES[name]
