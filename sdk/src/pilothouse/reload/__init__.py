"""Configuration from files, variables and servers, merged, and reloaded while a program runs."""

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.reload.default_manager import (
    get_config,
    get_config_manager,
    get_config_section,
    initialize_config_manager,
    initialize_config_manager_sync,
    shutdown_config_manager,
    shutdown_config_manager_sync,
)
from pilothouse.reload.encryption import encrypt_value, key_from_file, new_key
from pilothouse.reload.errors import (
    BadConfig,
    InvalidConfig,
    MissingVariable,
    NotInitialized,
    ReloadError,
    SourceUnavailable,
    StartFailed,
    Undecryptable,
)
from pilothouse.reload.manager import ConfigManager
from pilothouse.reload.model import (
    Health,
    Metrics,
    ReloadResult,
    ReloadStatus,
    SourceInfo,
    VersionInfo,
)
from pilothouse.reload.sources.database import DatabaseConfigSource
from pilothouse.reload.sources.directory import DirectoryConfigSource
from pilothouse.reload.sources.environment import EnvironmentConfigSource
from pilothouse.reload.sources.file import FileConfigSource
from pilothouse.reload.sources.port import ConfigSource
from pilothouse.reload.sources.remote import RemoteConfigSource
from pilothouse.reload.sources.service import PilothouseConfigSource
from pilothouse.reload.sources.vault import VaultConfigSource
from pilothouse.reload.subscriptions import Subscription
from pilothouse.reload.validation import Flaw, Rules
from pilothouse.reload.wiring import manager_from_environment

__all__ = [
    "BadConfig",
    "ChangeType",
    "ConfigChange",
    "ConfigManager",
    "ConfigSource",
    "DatabaseConfigSource",
    "DirectoryConfigSource",
    "EnvironmentConfigSource",
    "FileConfigSource",
    "Flaw",
    "Health",
    "InvalidConfig",
    "Metrics",
    "MissingVariable",
    "NotInitialized",
    "PilothouseConfigSource",
    "ReloadError",
    "ReloadResult",
    "ReloadStatus",
    "RemoteConfigSource",
    "Rules",
    "SourceInfo",
    "SourceUnavailable",
    "StartFailed",
    "Subscription",
    "Undecryptable",
    "VaultConfigSource",
    "VersionInfo",
    "encrypt_value",
    "get_config",
    "get_config_manager",
    "get_config_section",
    "initialize_config_manager",
    "initialize_config_manager_sync",
    "key_from_file",
    "manager_from_environment",
    "new_key",
    "shutdown_config_manager",
    "shutdown_config_manager_sync",
]
