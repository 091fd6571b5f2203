"""A loader for dynaconf: `LOADERS_FOR_DYNACONF=["pilothouse.dynaconf_loader", ...]`.

The arguments of `Pilothouse` are in `PILOTHOUSE_FOR_DYNACONF`, with `section` for the dotted key
below which the settings are; those that are missing in the environment, as for all of us.
"""

from typing import Any

from dynaconf.base import Settings  # type: ignore[import-untyped]
from dynaconf.loaders.base import SourceMetadata  # type: ignore[import-untyped]

from pilothouse.reading import read_once

IDENTIFIER = "pilothouse"
OPTIONS = "PILOTHOUSE_FOR_DYNACONF"


def load(
    obj: Settings,
    env: str | None = None,
    silent: bool = True,  # noqa: ARG001, FBT001, FBT002 - dynaconf's signature
    key: str | None = None,
    filename: str | None = None,  # noqa: ARG001
) -> None:
    """Set all settings, or the one of `key`.

    Raises a PilothouseError if the service fails and there is no snapshot, also where dynaconf
    is silent about errors: settings that are not there would go unnoticed.
    """
    options = {str(name).lower(): value for name, value in dict(obj.get(OPTIONS) or {}).items()}
    data: dict[str, Any] = read_once(**options)
    if key is not None:
        data = {name: value for name, value in data.items() if name.upper() == key.upper()}
    if data:
        obj.update(data, loader_identifier=SourceMetadata(IDENTIFIER, "effective", env or ""))
