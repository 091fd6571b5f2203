"""The client of Pilothouse: configurations, feature flags and service discovery, held in memory."""

from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.classic import ConfigWatcher, RegistryConfigProvider
from pilothouse.client import AsyncPilothouse, Pilothouse
from pilothouse.configuration import Configuration
from pilothouse.errors import PilothouseError
from pilothouse.following import Pace
from pilothouse.transport import Limits

__all__ = [
    "AsyncPilothouse",
    "ChangeType",
    "ConfigChange",
    "ConfigWatcher",
    "Configuration",
    "Limits",
    "Pace",
    "Pilothouse",
    "PilothouseError",
    "RegistryConfigProvider",
]
