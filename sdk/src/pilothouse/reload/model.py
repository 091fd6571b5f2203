"""Reports of a configuration manager: changes, results, versions, and the state of its sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TypedDict

from pilothouse.changes import ConfigChange


class ReloadStatus(Enum):
    """The outcome of a reload."""

    SUCCESS = "success"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The outcome of a reload, and the changes it made."""

    status: ReloadStatus
    source: str | None
    """The one source that was loaded; None for all of them."""
    version: int
    """The version in force afterwards."""
    changes: tuple[ConfigChange, ...] = field(default=(), repr=False)
    errors: tuple[str, ...] = ()
    """The failures, each beginning with the name of its source."""
    warnings: tuple[str, ...] = ()
    duration: float = 0.0
    """Seconds."""

    @property
    def succeeded(self) -> bool:
        return self.status is not ReloadStatus.FAILED


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The state of a source."""

    name: str
    kind: str
    priority: int
    is_healthy: bool
    """Whether its last load succeeded."""
    is_watched: bool
    last_loaded: datetime | None
    """The time of the last load that succeeded."""
    error: str | None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of the merged configuration, without its values."""

    version: int
    created_at: datetime
    cause: str
    """What created it, such as `start`, `reload of NAME`, `override of KEY` or `rollback to 1`."""
    changes: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the manager runs, and the last load of each source succeeded."""

    is_healthy: bool
    version: int
    sources: Mapping[str, str | None]
    """The last error of each source by name, None if its last load succeeded."""
    error: str | None = None
    """Why the last merged configuration was refused, None if it was not."""


class Metrics(TypedDict):
    """Counts since the manager was created; the first load is not a reload."""

    total_reloads: int
    successful_reloads: int
    failed_reloads: int
    average_reload_time_ms: float
    last_reload_time: datetime | None
    config_sources_count: int
