"""The hot-reload manager with awaited calls, for programs written for that form of the API.

A thin layer: the manager, the sources and the manager of the process are those of
`pilothouse.reload`, where their behaviour is documented. Here reads are awaited as well,
subscribers are called with the list of all changes of a reload, times are naive and in UTC, and
the priorities of sources begin at 0.
"""

import inspect
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from pilothouse import reload
from pilothouse.changes import ChangeType, ConfigChange
from pilothouse.reload import default_manager as current
from pilothouse.reload.errors import InvalidConfig
from pilothouse.reload.model import ReloadResult, ReloadStatus
from pilothouse.reload.sources.polling import poll_changes
from pilothouse.reload.sources.port import Closing
from pilothouse.reload.subscriptions import Subscription
from pilothouse.reload.validation import Flaw, Rules, hard_coded
from pilothouse.reload.wiring import OWN, manager_from_environment

__all__ = [
    "ChangeType",
    "ConfigChange",
    "ConfigManager",
    "ConfigMetrics",
    "ConfigSource",
    "ConfigVersion",
    "EnvironmentConfigSource",
    "FileConfigSource",
    "ReloadResult",
    "ReloadStatus",
    "RemoteConfigSource",
    "get_config",
    "get_config_manager",
    "get_config_section",
    "initialize_config_manager",
    "shutdown_config_manager",
]

_POLL_SECONDS = 30.0
Reference = weakref.ReferenceType[Subscription]


@dataclass(frozen=True, slots=True)
class ConfigMetrics:
    """Counts of reloads; the load of `start` is the first one."""

    total_reloads: int = 0
    successful_reloads: int = 0
    failed_reloads: int = 0
    average_reload_time_ms: float = 0.0
    last_reload_time: datetime | None = None
    """Naive, in UTC."""
    config_sources_count: int = 0


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """One version of the merged configuration, without its values."""

    version: int
    created_at: datetime
    """Naive, in UTC."""
    cause: str
    changes: int
    is_current: bool


class ConfigSource(ABC):
    """The base of sources. Subclasses load, and report whether a load would differ."""

    def __init__(self, name: str, priority: int = 0) -> None:
        self.name = name
        self.priority = priority

    @abstractmethod
    async def load_config(self) -> dict[str, Any]:
        """Return the whole content; if it raises, the last good content stays in force."""

    @abstractmethod
    async def is_modified(self) -> bool:
        """Tell whether a load would return something else than the last one."""

    async def validate_config(self, config: Mapping[str, Any]) -> tuple[bool, list[str]]:
        """Return whether `config` is valid, and its flaws.

        If a subclass overrides this, an invalid load is refused. This method names credentials
        written in `config`, which do not refuse a load.
        """
        return _verdict(list(hard_coded(config)))


class _Plain(Protocol):
    """The members that the sources of `pilothouse.reload` share."""

    @property
    def name(self) -> str: ...

    @property
    def priority(self) -> int: ...

    async def load_config(self) -> Mapping[str, Any]: ...

    async def is_modified(self) -> bool: ...

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]: ...


class _Wrapping(ConfigSource):
    """A source of `pilothouse.reload` in this form; `plain` is that one."""

    def __init__(self, plain: _Plain) -> None:
        super().__init__(plain.name, plain.priority)
        self.plain = plain

    async def load_config(self) -> dict[str, Any]:
        return dict(await self.plain.load_config())

    async def is_modified(self) -> bool:
        return await self.plain.is_modified()

    async def validate_config(self, config: Mapping[str, Any]) -> tuple[bool, list[str]]:
        """Return whether `config` has no flaws, and its flaws: of its rules, and credentials.

        Credentials do not refuse a load, unless the rules say so.
        """
        return _verdict(self.plain.validate_config(config))


class FileConfigSource(_Wrapping):
    """As `pilothouse.FileConfigSource`."""

    def __init__(
        self,
        file_path: str | os.PathLike[str],
        name: str | None = None,
        priority: int = 0,
        *,
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(
            reload.FileConfigSource(
                file_path, priority=priority, name=name, environment=environment, rules=rules
            )
        )

    async def validate_config(self, config: Mapping[str, Any]) -> tuple[bool, list[str]]:
        """As for other sources, except that values of the last load from variables are allowed."""
        plain = self.plain
        if not isinstance(plain, reload.FileConfigSource):
            return await super().validate_config(config)
        return _verdict([*plain.rules.flaws(config), *hard_coded(config, plain.from_variables)])


class EnvironmentConfigSource(_Wrapping):
    """As `pilothouse.EnvironmentConfigSource`, with both spellings: `debug.mode`, `debug_mode`."""

    def __init__(  # noqa: PLR0913 - independent options
        self,
        prefix: str,
        name: str | None = None,
        priority: int = 10,
        *,
        flat_names: bool = True,
        secret_files: bool = False,
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
    ) -> None:
        super().__init__(
            reload.EnvironmentConfigSource(
                prefix,
                priority=priority,
                name=name,
                flat_names=flat_names,
                secret_files=secret_files,
                ignore=OWN,
                environment=environment,
                rules=rules,
            )
        )

    async def validate_config(self, config: Mapping[str, Any]) -> tuple[bool, list[str]]:
        """As for other sources, except that credentials are allowed in variables."""
        flaws = self.plain.validate_config(config)
        return _verdict([flaw for flaw in flaws if flaw.kind != "credential"])


class RemoteConfigSource(_Wrapping):
    """As `pilothouse.RemoteConfigSource`."""

    def __init__(  # noqa: PLR0913 - independent options
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        name: str | None = None,
        priority: int = 5,
        *,
        backups: Sequence[str] = (),
        poll_seconds: float | None = _POLL_SECONDS,
        failures: int = 3,
        pause: float = 30.0,
        rules: Rules | None = None,
        proxy: str | None = None,
    ) -> None:
        super().__init__(
            reload.RemoteConfigSource(
                url,
                headers,
                timeout,
                priority,
                name,
                backups=backups,
                poll_seconds=poll_seconds,
                failures=failures,
                pause=pause,
                rules=rules,
                proxy=proxy,
            )
        )

    def _is_circuit_open(self) -> bool:
        """Tell whether the circuit breakers of all servers are open."""
        servers = self.plain.servers if isinstance(self.plain, reload.RemoteConfigSource) else ()
        return bool(servers) and all(server.breaker.is_open for server in servers)


class _Adapted:
    """Adapts a source of this form to the manager: an invalid load is refused."""

    def __init__(self, given: ConfigSource) -> None:
        self.given = given
        self.kind = str(getattr(given, "kind", type(given).__name__))
        self.is_remote = bool(getattr(given, "is_remote", False))

    @property
    def name(self) -> str:
        return self.given.name

    @property
    def priority(self) -> int:
        return self.given.priority

    async def load_config(self) -> Mapping[str, Any]:
        config = await self.given.load_config()
        if getattr(type(self.given), "validate_config", None) is not ConfigSource.validate_config:
            is_valid, errors = await self.given.validate_config(config)
            if not is_valid:
                raise InvalidConfig(errors)
        return config

    async def watch(self) -> AsyncGenerator[None, None]:
        async for _ in poll_changes(self.given.is_modified, _POLL_SECONDS):
            yield

    async def close(self) -> None:
        if isinstance(self.given, Closing):
            await self.given.close()


class ConfigManager:
    """`pilothouse.ConfigManager` with awaited calls; `inner` is that one, for all its methods."""

    def __init__(
        self,
        watch_files: bool = True,  # noqa: FBT001, FBT002 - the signature of this form
        max_config_versions: int = 50,
        *,
        rules: Rules | None = None,
        encryption_key: bytes | str | Sequence[bytes | str] = (),
        metrics_registry: Any = None,
        inner: reload.ConfigManager | None = None,
    ) -> None:
        self.inner = inner or reload.ConfigManager(
            watch_files=watch_files,
            max_config_versions=max_config_versions,
            rules=rules,
            encryption_key=encryption_key,
            metrics_registry=metrics_registry,
        )
        self._given: dict[str, tuple[object, Any]] = {}  # by name: adapted, and as given
        self._last_start: ReloadResult | None = None
        self._start_count, self._start_seconds = 0, 0.0
        self._started_at: datetime | None = None

    async def add_source(
        self, source: ConfigSource | reload.ConfigSource, *, optional: bool | None = None
    ) -> None:
        """Add a source; if the manager runs, returns when it has been loaded."""
        taken = _as_taken(source)
        self.inner.add_source(taken, optional=optional)
        self._given[taken.name] = taken, source
        if self.inner.is_running:
            await self.inner.reload(taken.name)

    async def start(self) -> None:
        """Load and watch all sources. Raises StartFailed."""
        was_running = self.inner.is_running
        result = await self.inner.start()
        if not was_running and result is not self._last_start:  # two at once are one
            self._last_start = result
            self._start_count += 1
            self._start_seconds += result.duration
            self._started_at = datetime.now(timezone.utc)

    async def stop(self) -> None:
        """Stop watching; the last content stays readable."""
        await self.inner.stop()

    async def get_config(self, path: str | None = None, default: Any = None) -> Any:
        """Return the value or section at a dotted path, or everything without a path."""
        return self.inner.get_section() if path is None else self.inner.get_config(path, default)

    async def get_section(self, section: str = "") -> dict[str, Any]:
        """Return a section, {} if there is none. Raises TypeError if there is a value."""
        return self.inner.get_section(section)

    async def reload(self, source_name: str | None = None) -> ReloadResult:
        """Load one source or all of them. Raises LookupError for an unknown name."""
        return await self.inner.reload(source_name)

    async def rollback(self, steps: int = 1) -> ReloadResult:
        """Put the configuration of `steps` versions ago in force: ROLLED_BACK, or FAILED."""
        return await self.inner.rollback(steps)

    def subscribe(
        self, callback: Callable[[list[ConfigChange]], object], path: str | None = None
    ) -> Reference:
        """Call `callback` with the list of all changes of a reload; it may be async.

        The reference is for `unsubscribe`, after which it is dead. Bound methods are referenced
        weakly, functions are kept until then.
        """
        return weakref.ref(self.inner.subscribe_to_batches(callback, path))

    def unsubscribe(self, subscription: Reference) -> None:
        known = subscription()
        if known is not None:
            self.inner.unsubscribe(known)

    def get_metrics(self) -> ConfigMetrics:
        counted = self.inner.get_metrics()
        total = counted["total_reloads"] + self._start_count
        seconds = counted["average_reload_time_ms"] * counted["total_reloads"] / 1000
        times = [one for one in (counted["last_reload_time"], self._started_at) if one is not None]
        return ConfigMetrics(
            total_reloads=total,
            successful_reloads=counted["successful_reloads"] + self._start_count,
            failed_reloads=counted["failed_reloads"],
            average_reload_time_ms=1000 * (seconds + self._start_seconds) / max(total, 1),
            last_reload_time=_naive(max(times)) if times else None,
            config_sources_count=counted["config_sources_count"],
        )

    def get_sources(self) -> list[Any]:
        """Return the sources as they were added, the one that wins over the others first."""
        return [self._as_given(source) for source in self.inner.sources]

    def get_version_history(self) -> list[ConfigVersion]:
        """Return the versions that are kept, the newest first."""
        return [
            ConfigVersion(
                one.version, _naive(one.created_at), one.cause, one.changes, one.is_current
            )
            for one in self.inner.get_version_history()
        ]

    async def __aenter__(self) -> "ConfigManager":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _as_given(self, taken: Any) -> Any:
        known, given = self._given.get(taken.name, (None, None))
        if known is not taken:
            given = _wrap_source(taken)
            self._given[taken.name] = taken, given
        return given


_current: ConfigManager | None = None


async def initialize_config_manager(
    sources: Iterable[ConfigSource | reload.ConfigSource] | None = None,
    watch_files: bool = True,  # noqa: FBT001, FBT002 - the signature of this form
) -> ConfigManager:
    """Start a manager of these sources and make it the one of this process; return it.

    Without sources it is created from `CONFIG_DIR`, `APP_CONFIG_WATCH` and `APP_CONFIG_SOURCES`.
    The previous manager is stopped. Raises StartFailed and BadConfig.
    """
    global _current  # noqa: PLW0603 - one for the process
    if sources is None:
        manager = ConfigManager(inner=manager_from_environment())
    else:
        manager = ConfigManager(watch_files=watch_files)
        for source in sources:
            await manager.add_source(source)
    await manager.start()
    await current.initialize_config_manager(manager.inner)
    _current = manager
    return manager


async def shutdown_config_manager() -> None:
    """Stop the manager of this process, if there is one, and forget it."""
    await current.shutdown_config_manager()


def get_config_manager() -> ConfigManager | None:
    """Return the manager of this process, None if there is none."""
    global _current  # noqa: PLW0603 - one for the process
    inner = current.find_config_manager()
    if inner is None:
        _current = None
    elif _current is None or _current.inner is not inner:
        _current = ConfigManager(inner=inner)
    return _current


async def get_config(path: str | None = None, default: Any = None) -> Any:
    """Return a value of the manager of this process. Raises NotInitialized."""
    inner = current.get_config_manager()
    return inner.get_section() if path is None else inner.get_config(path, default)


async def get_config_section(section: str = "") -> dict[str, Any]:
    """Return a section of the manager of this process. Raises NotInitialized and TypeError."""
    return current.get_config_section(section)


def _as_taken(source: ConfigSource | reload.ConfigSource) -> Any:
    if isinstance(source, _Wrapping):
        return source.plain
    is_awaited = inspect.iscoroutinefunction(getattr(source, "validate_config", None))
    return _Adapted(source) if is_awaited else source  # type: ignore[arg-type]  # it has its shape


def _wrap_source(plain: Any) -> Any:
    """Return a source, added by another part of the program, in the form of this module."""
    forms: dict[type[Any], type[_Wrapping]] = {
        reload.FileConfigSource: FileConfigSource,
        reload.EnvironmentConfigSource: EnvironmentConfigSource,
        reload.RemoteConfigSource: RemoteConfigSource,
    }
    form = forms.get(type(plain))
    if form is None:
        return plain
    wrapped = form.__new__(form)
    _Wrapping.__init__(wrapped, plain)
    return wrapped


def _verdict(flaws: Sequence[Flaw]) -> tuple[bool, list[str]]:
    return not flaws, [str(flaw) for flaw in flaws]


def _naive(time: datetime) -> datetime:
    return time.astimezone(timezone.utc).replace(tzinfo=None)
