"""The client of Pilothouse: configurations, feature flags and service discovery, held in memory."""

from typing import TYPE_CHECKING, Any

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.classic import ConfigWatcher, RegistryConfigProvider
from pilothouse.client import AsyncPilothouse, Pilothouse
from pilothouse.configuration import Configuration
from pilothouse.errors import PilothouseError
from pilothouse.following import Pace
from pilothouse.transport import Limits

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
    "ConfigWatcher",
    "Configuration",
    "DatabaseConfigSource",
    "DirectoryConfigSource",
    "EnvironmentConfigSource",
    "FileConfigSource",
    "Limits",
    "Pace",
    "Pilothouse",
    "PilothouseConfigSource",
    "PilothouseError",
    "RegistryConfigProvider",
    "ReloadResult",
    "ReloadStatus",
    "RemoteConfigSource",
    "VaultConfigSource",
    "get_config",
    "get_config_manager",
    "get_config_section",
    "initialize_config_manager",
    "initialize_config_manager_sync",
]


def __getattr__(name: str) -> Any:
    """Import the hot-reload manager when somebody asks for it: a start should not wait for it."""
    if name in __all__:
        from pilothouse import reload  # noqa: PLC0415 - see above

        return getattr(reload, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
