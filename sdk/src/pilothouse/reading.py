"""A configuration read once, for libraries that build their settings when a program begins.

Unlike the reads of a client these fail: settings that are built from nothing would go unnoticed.
"""

import os
from collections.abc import Mapping
from typing import Any

from pilothouse.client import Pilothouse
from pilothouse.errors import PilothouseError, Unavailable

_VARIABLES = {
    "url": "PILOTHOUSE_URL",
    "service": "PILOTHOUSE_SERVICE",
    "environment": "PILOTHOUSE_ENVIRONMENT",
    "token": "PILOTHOUSE_TOKEN",
}


def read_once(section: str = "", **arguments: Any) -> dict[str, Any]:
    """Open a client, read, and close it; `arguments` are those of `Pilothouse`.

    Those that are not given are read from PILOTHOUSE_URL, PILOTHOUSE_SERVICE,
    PILOTHOUSE_ENVIRONMENT and PILOTHOUSE_TOKEN; raises ValueError where the first two are missing,
    and whatever `load_section` raises.
    """
    with Pilothouse(**_with_environment(arguments), flags=False) as client:
        return load_section(client, section)


def load_section(client: Pilothouse, section: str = "") -> dict[str, Any]:
    """Return a section as nested dicts; "" is the whole configuration.

    Raises a PilothouseError when neither the service nor the snapshot on disk has answered.
    """
    if client.config.source == "defaults" and not client.client.offline:
        reason: PilothouseError = client.last_error or Unavailable("the service has not answered")
        raise reason
    return client.config.section(section)


def _with_environment(arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        name: os.environ[variable]
        for name, variable in _VARIABLES.items()
        if os.environ.get(variable)
    }
    known.update(arguments)
    for name in ("url", "service"):
        if not known.get(name):
            raise ValueError(f"no {name}: give one, or set {_VARIABLES[name]}")
    return known
