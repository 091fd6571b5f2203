"""The configuration of a program, merged from sources and kept up to date while it runs."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, cast

from pilothouse.conversions import (
    UNREADABLE,
    read_boolean,
    read_integer,
    read_list,
    read_number,
    read_text,
)
from pilothouse.copies import deep_copy
from pilothouse.reload.encryption import read_key
from pilothouse.reload.errors import InvalidConfig
from pilothouse.reload.home import HomeLoop
from pilothouse.reload.lifecycle import Lifecycle
from pilothouse.reload.members import Members
from pilothouse.reload.metrics import Tally, measures_for
from pilothouse.reload.model import Health, Metrics, ReloadResult, SourceInfo, VersionInfo
from pilothouse.reload.paths import ABSENT, read, value_at
from pilothouse.reload.reloader import Reloader
from pilothouse.reload.sources.port import ConfigSource
from pilothouse.reload.state import ManagedState
from pilothouse.reload.subscriptions import BatchCallback, Callback, Subscription, Subscriptions
from pilothouse.reload.validation import Rules
from pilothouse.reload.watchers import LOOP_ENDED, Watchers
from pilothouse_core.trees import Tree

_log = logging.getLogger(__name__)


class ConfigManager:
    """Sources merged by priority, higher over lower, with `override` over all of them.

    Reads answer from memory and never wait. `start`, `stop`, `reload` and `rollback` are awaited;
    a program without an event loop uses the methods of the same name with `_sync`, or `with`.
    Every method may be called from any thread and any task. Callbacks run on the loop on which the
    manager was started (after `start_sync`: in its thread). In a forked process (gunicorn, Celery)
    a manager that was started with `start_sync` starts again at the first call; one that was
    started on a loop, which does not run there, keeps its content until it is started again.

    `watch_files=False` reads files only once. `max_config_versions` are kept for `rollback`; parts
    that do not change between them are kept once. The merged configuration has to satisfy `rules`.
    `encryption_key` is the key of values that `encrypt_value` created, or several keys, of which
    any may decrypt a value. `metrics_registry` is a registry of prometheus-client.
    """

    def __init__(
        self,
        *,
        watch_files: bool = True,
        max_config_versions: int = 50,
        rules: Rules | None = None,
        encryption_key: bytes | str | Sequence[bytes | str] = (),
        metrics_registry: Any = None,
    ) -> None:
        if max_config_versions < 1:
            raise ValueError("at least one version is kept: the one in force")
        given = [encryption_key] if isinstance(encryption_key, (bytes, str)) else encryption_key
        keys = [read_key(key) for key in given]
        self._members = Members()
        self._subscriptions = Subscriptions()
        check = partial(_check, rules or Rules())
        self._state = ManagedState(max_config_versions, check, self._subscriptions.note)
        self._tally = Tally(measures_for(metrics_registry))
        self._home = HomeLoop()
        self._notify = partial(self._home.call, self._subscriptions.notify)
        self._reloader = Reloader(self._members, self._state, keys, self._tally, self._notify)
        self._watchers = Watchers(self._members, self._reloader.reload, watch_files=watch_files)
        self._life = Lifecycle(
            self._home,
            self._reloader,
            self._watchers,
            self._subscriptions,
            watch_files=watch_files,
        )
        self._touch = self._life.touch  # begins again in a forked process

    # Sources

    def add_source(self, source: ConfigSource, *, optional: bool | None = None) -> None:
        """Add a source. An optional one may be unavailable when the manager starts.

        With `optional=False` it is required. By default, a remote source may be unavailable as long
        as another source has content: a backup, a file, the environment.

        Of two sources of the same priority the later one wins. When the manager runs, the source
        is loaded and watched from now on; `reload(source.name)` waits for its first load. Raises
        ValueError if the name is taken.
        """
        self._touch()
        member = self._members.add(source, optional=optional)
        if self._life.is_running:
            self._home.call_soon(partial(self._watchers.begin, member, load_first=True))

    def remove_source(self, name: str) -> None:
        """Remove a source with all its values; a rollback does not restore them.

        Raises LookupError for an unknown name, and InvalidConfig if the rest breaks the rules: then
        the source stays.
        """
        self._touch()
        member = self._members.get(name)
        self._state.remove_source(name)
        self._members.remove(name)
        self._home.spawn(partial(self._watchers.end, member))
        self._notify()

    def get_sources(self) -> list[SourceInfo]:
        """Return the states of the sources, the one that wins over the others first."""
        self._touch()
        return [member.info() for member in self._members.by_precedence()]

    @property
    def sources(self) -> tuple[ConfigSource, ...]:
        """The sources themselves, in the order of `get_sources`."""
        return tuple(member.source for member in self._members.by_precedence())

    # Starting and stopping

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and the loop it was started on still runs."""
        return self._life.is_running

    async def start(self) -> ReloadResult:
        """Load all sources and watch those that can be watched; does nothing while it runs.

        The loop that awaits this watches the sources, as long as it runs. When it has ended,
        `health` reports that, and another `start` begins again on the loop that awaits it. A second
        call while the first one is under way waits for it.

        Raises StartFailed, which names every required source that could not be loaded, and then
        nothing has been started. Remote sources may be unavailable while another source has
        content, be it remote, a file or the environment: they are merged when they are back.
        """
        return await self._life.start()

    async def stop(self) -> None:
        """Stop watching and close connections. Reads continue to return the last content."""
        await self._life.stop()

    def start_sync(self) -> ReloadResult:
        """Start as `start` does, on an event loop in a thread of its own."""
        return self._life.start_sync()

    def stop_sync(self) -> None:
        """Stop as `stop` does, and end the thread."""
        self._life.stop_sync()

    async def __aenter__(self) -> "ConfigManager":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> "ConfigManager":
        self.start_sync()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_sync()

    # Reading

    def get_config(self, path: str, default: Any = None) -> Any:
        """Return the value or the section at a dotted path, `default` if there is none.

        A null is a value. Lists and sections are copies, which may be changed.
        """
        self._touch()
        value = read(self._state.data, path)
        return default if value is ABSENT else deep_copy(value)

    def get_section(self, path: str = "") -> dict[str, Any]:
        """Return a section as a copy, without a path everything; an absent section is empty.

        Raises TypeError if there is a value at the path.
        """
        self._touch()
        value = value_at(self._state.data, path) if path else self._state.data
        if value is ABSENT:
            return {}
        if not isinstance(value, dict):
            raise TypeError(f"{path} is a value, not a section")
        return dict(deep_copy(value))

    def get_str(self, path: str, default: str | None = None) -> str | None:
        """Return a text, a number or a boolean as text; else `default`."""
        return cast("str | None", self._read(path, default, read_text))

    def get_int(self, path: str, default: int | None = None) -> int | None:
        """Return a whole number, also one that is spelled as text; else `default`."""
        return cast("int | None", self._read(path, default, read_integer))

    def get_float(self, path: str, default: float | None = None) -> float | None:
        """Return a finite number, also one that is spelled as text; else `default`."""
        return cast("float | None", self._read(path, default, read_number))

    def get_bool(self, path: str, default: bool | None = None) -> bool | None:  # noqa: FBT001 - a value
        """Return a boolean; true, yes, on, 1 and their opposites, in any case, are read as well."""
        return cast("bool | None", self._read(path, default, read_boolean))

    def get_list(self, path: str, default: list[Any] | None = None) -> list[Any] | None:
        """Return a list; text is split at its commas."""
        return cast("list[Any] | None", self._read(path, default, read_list))

    def _read(self, path: str, default: Any, read: Callable[[Any], Any]) -> Any:
        value = self.get_config(path, ABSENT)
        if value is ABSENT:
            return default
        result = read(value)
        if result is UNREADABLE:
            _log.warning("%s is not of the requested type; the default is used", path)
            return default
        return result

    def get_origin(self, path: str) -> str | None:
        """Return the name of the source of a value, `runtime` for an override."""
        return self._state.origin(path)

    # Changing

    async def reload(self, source_name: str | None = None) -> ReloadResult:
        """Load one source, or all of them, and put their content in force at once.

        A source that cannot be loaded keeps its last good content; the result is then FAILED and
        has the reason, also if others could be loaded and are in force. A configuration that breaks
        the rules changes nothing. Raises LookupError for an unknown name.
        """
        if source_name is not None:
            self._members.get(source_name)
        return await self._life.run(partial(self._reloader.reload, source_name))

    def reload_sync(self, source_name: str | None = None) -> ReloadResult:
        """Reload as `reload` does, and wait for it."""
        if source_name is not None:
            self._members.get(source_name)
        return self._life.load_sync(partial(self._reloader.reload, source_name))

    async def rollback(self, steps: int = 1) -> ReloadResult:
        """Put the configuration of `steps` versions ago in force again, overrides included.

        It is a new version, from which further steps lead further back. It applies to each source
        until that source changes, or is reloaded. The result is ROLLED_BACK, or FAILED if no such
        version is kept.
        """
        return await self._life.run(partial(self._reloader.roll_back, _checked_steps(steps)))

    def rollback_sync(self, steps: int = 1) -> ReloadResult:
        """Roll back as `rollback` does, and wait for it."""
        return self._life.run_sync(partial(self._reloader.roll_back, _checked_steps(steps)))

    def override(self, path: str, value: Any) -> None:
        """Set a value, or the members of a section, over all sources, until it is cleared.

        Raises InvalidConfig if the rules forbid it, and KeysConflict if `path` lies below a value
        that was overridden.
        """
        self._touch()
        self._state.override(path, value)
        self._notify()

    def clear_override(self, path: str | None = None) -> None:
        """Remove the overrides at and below `path`; without a path all of them."""
        self._touch()
        self._state.clear_override(path)
        self._notify()

    # Subscriptions and state

    def subscribe(self, callback: Callback, path: str | None = None) -> Subscription:
        """Call `callback` with each change, at and below `path` or anywhere; return a reference.

        The initial content is not a change. A bound method is referenced weakly: its subscription
        ends with its object. Functions and lambdas are kept until `unsubscribe`. An async callback
        is awaited, one change after the other. The exceptions of callbacks are logged.
        """
        self._touch()
        return self._subscriptions.add(callback, path)

    def subscribe_to_batches(
        self, callback: BatchCallback, path: str | None = None
    ) -> Subscription:
        """Subscribe as `subscribe` does; a call has the list of all changes of one reload."""
        self._touch()
        return self._subscriptions.add_batch(callback, path)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """End a subscription; return whether it was subscribed."""
        return self._subscriptions.remove(subscription)

    def get_metrics(self) -> Metrics:
        return self._tally.metrics(len(self._members))

    def get_version_history(self) -> list[VersionInfo]:
        """Return the versions that are kept, the newest first."""
        return self._state.history()

    def health(self) -> Health:
        """Return whether the manager runs and all its sources were loaded; never waits."""
        self._touch()
        sources = self._members.errors()
        error = self._reloader.refusal
        if error is None and self._life.has_lost_loop:
            error = LOOP_ENDED
        is_healthy = self._life.is_started and error is None and not any(sources.values())
        return Health(is_healthy, self._state.version, sources, error)


def _check(rules: Rules, config: Tree) -> None:
    if flaws := rules.flaws(config):
        raise InvalidConfig(flaws)


def _checked_steps(steps: int) -> int:
    if steps < 1:
        raise ValueError("a rollback goes at least one step back")
    return steps
