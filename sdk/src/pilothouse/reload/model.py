"""Reports of a configuration manager: changes, results, versions, and the state of its sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TypedDict

from pilothouse.changes import ConfigChange


class ReloadStatus(Enum):
    """How a reload ended."""

    SUCCESS = "success"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload did."""

    status: ReloadStatus
    source: str | None
    """The one source that was asked for; None for all of them."""
    version: int
    """The version in force afterwards."""
    changes: tuple[ConfigChange, ...] = field(default=(), repr=False)
    errors: tuple[str, ...] = ()
    """What went wrong, each line beginning with the name of its source."""
    warnings: tuple[str, ...] = ()
    duration: float = 0.0
    """Seconds."""

    @property
    def succeeded(self) -> bool:
        return self.status is not ReloadStatus.FAILED


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """How a source is."""

    name: str
    kind: str
    priority: int
    is_healthy: bool
    """Whether its last load succeeded."""
    is_watched: bool
    last_loaded: datetime | None
    """When it last loaded well."""
    error: str | None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of the merged configuration, without its values."""

    version: int
    created_at: datetime
    cause: str
    """`start`, `reload`, `override` or `rollback`, and of what."""
    changes: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the manager has started and each source loaded well the last time."""

    is_healthy: bool
    version: int
    sources: Mapping[str, str | None]
    """By name what is wrong with a source, None for nothing."""
    error: str | None = None
    """Why the last merged configuration was refused, None where it was not."""


class Metrics(TypedDict):
    """What has been counted since the manager was made; the first load is no reload."""

    total_reloads: int
    successful_reloads: int
    failed_reloads: int
    average_reload_time_ms: float
    last_reload_time: datetime | None
    config_sources_count: int
