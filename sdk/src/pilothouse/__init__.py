"""The client of Pilothouse: configurations, feature flags and service discovery, held in memory."""

import warnings
from typing import TYPE_CHECKING, Any

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.client import AsyncPilothouse, Pilothouse
from pilothouse.compat import ConfigWatcher, RegistryConfigProvider
from pilothouse.configuration import Configuration
from pilothouse.documents import ConfigUpdate, Document
from pilothouse.errors import PilothouseError
from pilothouse.sync import RefreshPolicy
from pilothouse.transport import Limits
from pilothouse.typed_config import ConfigValidationError, TypedConfig, load_typed_config

if TYPE_CHECKING:
    from pilothouse.reload import (
        ConfigManager,
        DatabaseConfigSource,
        DirectoryConfigSource,
        EnvironmentConfigSource,
        FileConfigSource,
        PilothouseConfigSource,
        ReloadResult,
        ReloadStatus,
        RemoteConfigSource,
        VaultConfigSource,
        get_config,
        get_config_manager,
        get_config_section,
        initialize_config_manager,
        initialize_config_manager_sync,
    )

__all__ = [
    "AsyncPilothouse",
    "ChangeType",
    "ConfigChange",
    "ConfigManager",
    "ConfigUpdate",
    "ConfigValidationError",
    "ConfigWatcher",
    "Configuration",
    "DatabaseConfigSource",
    "DirectoryConfigSource",
    "Document",
    "EnvironmentConfigSource",
    "FileConfigSource",
    "Limits",
    "Pilothouse",
    "PilothouseConfigSource",
    "PilothouseError",
    "RefreshPolicy",
    "RegistryConfigProvider",
    "ReloadResult",
    "ReloadStatus",
    "RemoteConfigSource",
    "TypedConfig",
    "VaultConfigSource",
    "get_config",
    "get_config_manager",
    "get_config_section",
    "initialize_config_manager",
    "initialize_config_manager_sync",
    "load_typed_config",
]


def __getattr__(name: str) -> Any:
    """Import the hot-reload manager when it is first used, so that other programs start faster."""
    if name == "Pace":
        warnings.warn(
            "pilothouse.Pace is deprecated: use pilothouse.RefreshPolicy",
            DeprecationWarning,
            stacklevel=2,
        )
        return RefreshPolicy
    if name in __all__:
        from pilothouse import reload  # noqa: PLC0415 - see above

        return getattr(reload, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
