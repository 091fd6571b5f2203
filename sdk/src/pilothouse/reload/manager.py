"""The configuration of a program, merged from sources and kept up to date while it runs."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from datetime import datetime, timezone
from itertools import count
from time import perf_counter
from types import TracebackType
from typing import Any, TypeVar, cast

from pilothouse.conversions import (
    UNREADABLE,
    read_boolean,
    read_integer,
    read_list,
    read_number,
    read_text,
)
from pilothouse.copies import deep_copy
from pilothouse.forks import ForkLock, keep_of_parent
from pilothouse.loop_thread import LoopThread, run_and_wait
from pilothouse.reload.encryption import read_key
from pilothouse.reload.errors import InvalidConfig, StartFailed
from pilothouse.reload.loader import Loaded, Member, load
from pilothouse.reload.metrics import Tally, measures_for
from pilothouse.reload.model import (
    Health,
    Metrics,
    ReloadResult,
    ReloadStatus,
    SourceInfo,
    VersionInfo,
)
from pilothouse.reload.paths import ABSENT, read, value_at
from pilothouse.reload.sources.file_watch import prepare
from pilothouse.reload.sources.port import Closing, ConfigSource, Watched
from pilothouse.reload.state import (
    RUNTIME,
    Commit,
    ManagedState,
    NoSuchVersion,
    Parts,
    with_part,
    with_runtime,
)
from pilothouse.reload.subscriptions import BatchCallback, Callback, Subscription, Subscriptions
from pilothouse.reload.validation import Rules
from pilothouse_core.trees import Tree, set_in, without_key
from pilothouse_core.trees import copy_sections as with_own_sections

Result = TypeVar("Result")
_MERGED = "configuration"
"""What errors of the merged configuration begin with; no source can have this name."""
_LOOP_ENDED = "the event loop that the manager was started on has ended: nothing is watched"
_LONGEST_PAUSE_SECONDS = 60.0
_THREAD = "pilothouse-config"
_guard = ForkLock()  # of every start
_log = logging.getLogger(__name__)


class ConfigManager:
    """Sources merged by priority, higher over lower, with `override` over all of them.

    Reads answer from memory and never wait. `start`, `stop`, `reload` and `rollback` are awaited;
    a program without an event loop uses the methods of the same name with `_sync`, or `with`.
    Everything may be called from any thread and any task. Callbacks run on the loop the manager
    was started on (after `start_sync`: in its thread). In a forked process (gunicorn, Celery) a
    manager that was started with `start_sync` begins anew with the first call; one that was started
    on a loop, which does not come along, keeps what it had until it is started again.

    `watch_files=False` leaves files alone once they are read. `max_config_versions` are kept for
    `rollback`; parts that do not change between them are kept once. `rules` are what the merged
    configuration is held against. `encryption_key` (or several: any may open a value) is for
    values that `encrypt_value` made. `metrics_registry` is a registry of prometheus-client.
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
        self._watch_files = watch_files
        self._rules = rules or Rules()
        given = [encryption_key] if isinstance(encryption_key, (bytes, str)) else encryption_key
        self._keys = [read_key(key) for key in given]
        self._members: dict[str, Member] = {}
        self._subscriptions = Subscriptions()
        self._state = ManagedState(max_config_versions, self._check, self._subscriptions.note)
        self._tally = Tally(measures_for(metrics_registry))
        self._loads = count(1)
        self._orders = count()
        self._home: asyncio.AbstractEventLoop | None = None
        self._thread: LoopThread | None = None
        self._is_started = False
        self._is_stopping = False
        self._starting: Future[ReloadResult] | None = None
        self._pid = os.getpid()
        self._refused: str | None = None

    # Sources

    def add_source(self, source: ConfigSource, *, optional: bool | None = None) -> None:
        """Add a source. An optional one may be away when the manager starts.

        With `optional=False` it must be there then. Without either a remote source may be away as
        long as another source brings something: a backup, a file, the environment.

        Of two sources of the same priority the later one wins. When the manager runs, the source
        is loaded and watched from now on; `reload(source.name)` waits for its first load. Raises
        ValueError where the name is taken.
        """
        self._touch()
        if source.name in self._members or source.name in {RUNTIME, _MERGED}:
            raise ValueError(f"there is a source {source.name!r} already")
        member = Member(source, next(self._orders), optional)
        self._members = {**self._members, source.name: member}
        home = self._loop()
        if self._is_started and home is not None:
            home.call_soon_threadsafe(self._begin_watching, member, True)  # noqa: FBT003

    def remove_source(self, name: str) -> None:
        """Take a source out, with all it brought; a rollback does not bring it back.

        Raises LookupError for an unknown name, and InvalidConfig where the rest breaks the rules:
        then the source stays.
        """
        self._touch()
        member = self._members.get(name)
        if member is None:
            raise LookupError(f"there is no source {name!r}")
        self._state.remove_source(name)
        self._members = {key: one for key, one in self._members.items() if key != name}
        home = self._loop()
        if home is not None:
            asyncio.run_coroutine_threadsafe(_end(member), home)
        self._tell()

    def get_sources(self) -> list[SourceInfo]:
        """Return how the sources are, the one that wins over the others first."""
        return [member.info() for member in self._sorted_members()]

    @property
    def sources(self) -> tuple[ConfigSource, ...]:
        """The sources themselves, in the order of `get_sources`."""
        return tuple(member.source for member in self._sorted_members())

    def _sorted_members(self) -> list[Member]:
        self._touch()
        return sorted(
            self._members.values(),
            key=lambda member: (member.source.priority, member.order),
            reverse=True,
        )

    # Life

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and the loop it was started on still runs."""
        return self._loop() is not None and self._is_started

    async def start(self) -> ReloadResult:
        """Load all sources and watch those that can be watched; does nothing while it runs.

        Sources are watched by the loop this is awaited on, as long as it runs. When it has ended,
        `health` says so, and another `start` begins again on the loop of its own. A second call
        while the first one is under way waits for it.

        Raises StartFailed, which names every source that is neither optional nor could be loaded,
        and then nothing has been started. Remote sources may be away where another source brings
        something, be it remote, a file or the environment: they join when they come back.
        """
        self._touch()
        self._leave_ended_loop()
        if self._is_started:
            return ReloadResult(ReloadStatus.SUCCESS, None, self._state.version)
        with _guard.lock:
            before = self._starting
            starting: Future[ReloadResult] = Future()
            if before is None:
                self._starting = starting
        if before is not None:
            return await asyncio.shield(asyncio.wrap_future(before))
        try:
            result = await self._start()
        except asyncio.CancelledError:
            self._home = None
            starting.set_exception(RuntimeError("the start was cancelled"))
            raise
        except BaseException as error:
            self._home = None
            starting.set_exception(error)
            raise
        else:
            starting.set_result(result)
            return result
        finally:
            self._starting = None

    async def _start(self) -> ReloadResult:
        self._home = asyncio.get_running_loop()
        if self._watch_files and any(one.kind == "file" for one in self._members.values()):
            await asyncio.to_thread(prepare)
        began, started = next(self._loads), perf_counter()
        outcomes = await self._load(list(self._members.values()))
        errors = {
            one.member.name: one.error
            for one in outcomes
            if one.error is not None and not one.member.optional and not _has_backup(one, outcomes)
        }
        if not errors:
            result = await self._apply_outcomes(outcomes, began, started, None, is_start=True)
            if self._refused is not None:
                errors = {_MERGED: self._refused}
        if errors:
            await self._close_sources()
            raise StartFailed(errors)
        self._is_started, self._is_stopping = True, False
        self._tally.measures.open()
        for member in self._members.values():
            self._begin_watching(member)
        return result

    def _leave_ended_loop(self) -> None:
        """Forget a loop that has ended without `stop`, as after `asyncio.run(manager.start())`."""
        if not self._is_started or self._loop() is not None:
            return
        for member in self._members.values():
            watcher, member.watcher = member.watcher, None
            if watcher is not None and not watcher.get_loop().is_closed():
                watcher.cancel()
        self._tally.measures.close()
        self._home, self._is_started = None, False

    async def stop(self) -> None:
        """Stop watching and let go of connections. Reads go on answering what was last loaded."""
        self._touch()
        self._leave_ended_loop()
        await self._at_home(self._stop)
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.close)

    async def _stop(self) -> None:
        self._is_stopping = True
        watchers = [one.watcher for one in self._members.values() if one.watcher is not None]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await self._close_sources()
        if self._is_started:
            self._tally.measures.close()
        self._is_started = False
        self._home = None

    def start_sync(self) -> ReloadResult:
        """Start as `start` does, on an event loop in a thread of its own."""
        self._touch()
        self._leave_ended_loop()
        if self._is_started:
            return ReloadResult(ReloadStatus.SUCCESS, None, self._state.version)
        thread = LoopThread(_THREAD)
        try:
            result = run_and_wait(self.start(), thread.loop)
        except BaseException:
            thread.close()
            raise
        if self._home is thread.loop:
            self._thread = thread
        else:  # it was being started elsewhere
            thread.close()
        return result

    def stop_sync(self) -> None:
        """Stop as `stop` does, and end the thread."""
        self._touch()
        self._leave_ended_loop()
        run_and_wait(self._at_home(self._stop), self._loop())
        if self._thread is not None:
            self._thread.close()
            self._thread = None

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
        """Return the value or the section at a dotted path, `default` where there is none.

        A null is a value. Lists and sections are copies, which may be changed.
        """
        self._touch()
        value = read(self._state.data, path)
        return default if value is ABSENT else deep_copy(value)

    def get_section(self, path: str = "") -> dict[str, Any]:
        """Return a section as a copy, without a path all of it; an absent one is empty.

        Raises TypeError where there is a value instead.
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
            _log.warning("%s is not of the type that was asked for: the default counts", path)
            return default
        return result

    def get_origin(self, path: str) -> str | None:
        """Return the name of the source a value comes from, `runtime` for an override."""
        return self._state.origin(path)

    # Changing

    async def reload(self, source_name: str | None = None) -> ReloadResult:
        """Load one source, or all of them, and put what they hold in force at once.

        A source that cannot be loaded keeps its last good part; the result is then FAILED and says
        why, also when others could be loaded and are in force. A configuration that breaks the
        rules changes nothing. Raises LookupError for a name nobody has.
        """
        if source_name is not None and source_name not in self._members:
            raise LookupError(f"there is no source {source_name!r}")
        return await self._at_home(lambda: self._reload(source_name))

    def reload_sync(self, source_name: str | None = None) -> ReloadResult:
        """Reload as `reload` does, and wait for it."""
        home = self._loop()
        if home is not None:
            return run_and_wait(self.reload(source_name), home)

        async def once() -> ReloadResult:
            try:
                return await self.reload(source_name)
            finally:
                await self._close_sources()

        return run_and_wait(once(), None)

    async def rollback(self, steps: int = 1) -> ReloadResult:
        """Put the configuration of `steps` versions ago in force again, overrides included.

        It is a new version, from which further steps lead further back. It holds for each source
        until that source changes, or is reloaded. The result is ROLLED_BACK, or FAILED where no
        such version is kept.
        """
        if steps < 1:
            raise ValueError("a rollback goes at least one step back")
        return await self._at_home(lambda: self._roll_back(steps))

    def rollback_sync(self, steps: int = 1) -> ReloadResult:
        """Roll back as `rollback` does, and wait for it."""
        return run_and_wait(self.rollback(steps), self._loop())

    def override(self, path: str, value: Any) -> None:
        """Set a value, or the members of a section, over all sources, until it is cleared.

        Raises InvalidConfig where the rules forbid it, and KeysConflict where `path` lies below a
        value that was overridden.
        """
        if not all(path.split(".")):
            raise ValueError(f"{path!r} is not a dotted path")
        self._touch()
        own = deep_copy(value)

        def change(parts: Parts) -> Parts:
            runtime = with_own_sections(without_key(parts.runtime, path))
            set_in(runtime, path, own)
            return with_runtime(parts, runtime)

        self._state.commit(f"override of {path}", change)
        self._tell()

    def clear_override(self, path: str | None = None) -> None:
        """Take back what was overridden at and below `path`; without a path everything."""
        self._touch()

        def change(parts: Parts) -> Parts:
            runtime: Tree = {} if path is None else without_key(parts.runtime, path)
            return with_runtime(parts, runtime)

        self._state.commit(f"clearing of {path or 'all overrides'}", change)
        self._tell()

    # Being told

    def subscribe(self, callback: Callback, path: str | None = None) -> Subscription:
        """Call `callback` with each change, at and below `path` or anywhere; return a reference.

        What the manager starts with is no change.
        A bound method is held weakly: when its object goes, so does the subscription. Functions
        and lambdas are held until `unsubscribe`. An async callback is awaited, one change after
        the other. What a callback raises is logged.
        """
        self._touch()
        return self._subscriptions.add(callback, path)

    def subscribe_to_batches(
        self, callback: BatchCallback, path: str | None = None
    ) -> Subscription:
        """Subscribe as `subscribe` does, to the list of all changes of one reload at once."""
        self._touch()
        return self._subscriptions.add_batch(callback, path)

    def unsubscribe(self, subscription: Subscription) -> bool:
        """Tell whether it was subscribed."""
        return self._subscriptions.remove(subscription)

    def get_metrics(self) -> Metrics:
        return self._tally.metrics(len(self._members))

    def get_version_history(self) -> list[VersionInfo]:
        """Return the versions that are kept, the newest first."""
        return self._state.history()

    def health(self) -> Health:
        """Tell whether everything is as it should be; never waits."""
        self._touch()
        sources = {name: member.error for name, member in self._members.items()}
        error = self._refused
        if error is None and self._is_started and self._loop() is None:
            error = _LOOP_ENDED
        is_healthy = self._is_started and error is None and not any(sources.values())
        return Health(is_healthy, self._state.version, sources, error)

    # Inside

    def _touch(self) -> None:
        """Begin anew if this is a forked process: what ran in its parent does not run here."""
        if self._pid != os.getpid():
            self._begin_anew()

    def _begin_anew(self) -> None:
        with _guard.lock:
            if self._pid == os.getpid():
                return
            members = list(self._members.values())
            watchers = [member.watcher for member in members]
            keep_of_parent(self._home, self._thread, watchers, self._subscriptions.renew())
            for member in members:
                member.watcher = None
            is_begun = self._is_started and self._thread is not None
            self._home, self._thread, self._is_started = None, None, False
            self._starting = None
            if is_begun:
                self._thread = LoopThread(_THREAD)
                self._home, self._is_started = self._thread.loop, True
                for member in members:
                    self._home.call_soon_threadsafe(self._begin_watching, member)
            self._pid = os.getpid()

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        self._touch()
        home = self._home
        return home if home is not None and home.is_running() else None

    async def _at_home(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run it on the loop the manager was started on: connections and callbacks live there."""
        home = self._loop()
        if home is None or home is asyncio.get_running_loop():
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), home))

    async def _reload(self, name: str | None) -> ReloadResult:
        began, started = next(self._loads), perf_counter()
        members = list(self._members.values()) if name is None else [self._members[name]]
        outcomes = await self._load(members)
        result = await self._apply_outcomes(outcomes, began, started, name)
        self._tally.record_reload(result.status, result.duration)
        return result

    async def _load(self, members: Sequence[Member]) -> list[Loaded]:
        return await asyncio.gather(*(load(member, self._keys) for member in members))

    async def _apply_outcomes(
        self,
        outcomes: Sequence[Loaded],
        began: int,
        started: float,
        name: str | None,
        *,
        is_start: bool = False,
    ) -> ReloadResult:
        cause = "start" if is_start else f"reload of {name or 'all sources'}"
        errors = [self._record_error(one) for one in outcomes if one.error is not None]
        commit = Commit(self._state.version, ())
        try:
            commit = await asyncio.to_thread(
                self._state.commit,
                cause,
                lambda parts: _with(parts, self._current_outcomes(outcomes), began),
                is_start=is_start,
            )
        except InvalidConfig as error:
            self._refused = str(error)
            errors.append(f"{_MERGED}: {error}")
            _log.warning("the merged configuration is refused, the last one stays: %s", error)
        else:
            self._refused = None
        for one in outcomes:
            if one.error is None:
                one.member.error, one.member.last_loaded = None, datetime.now(timezone.utc)
        self._tell()
        self._tally.measures.sources_healthy(
            sum(one.error is None and one.last_loaded is not None for one in self._members.values())
        )
        return ReloadResult(
            status=ReloadStatus.FAILED if errors else ReloadStatus.SUCCESS,
            source=name,
            version=commit.version,
            changes=commit.changes,
            errors=tuple(errors),
            warnings=tuple(warning for one in outcomes for warning in one.warnings),
            duration=perf_counter() - started,
        )

    def _current_outcomes(self, outcomes: Sequence[Loaded]) -> list[Loaded]:
        """Return the outcomes of sources that have not been removed meanwhile."""
        return [one for one in outcomes if self._members.get(one.member.name) is one.member]

    def _record_error(self, outcome: Loaded) -> str:
        member = outcome.member
        if member.error != outcome.error:  # a source that stays away is told of once
            _log.warning("%s stays as it is: %s", member.name, outcome.error)
        member.error = outcome.error
        return f"{member.name}: {outcome.error}"

    async def _roll_back(self, steps: int) -> ReloadResult:
        started = perf_counter()
        try:
            commit = await asyncio.to_thread(self._state.roll_back, steps)
        except NoSuchVersion as error:
            return ReloadResult(
                ReloadStatus.FAILED,
                None,
                self._state.version,
                errors=(f"{_MERGED}: {error}",),
                duration=perf_counter() - started,
            )
        self._tell()
        seconds = perf_counter() - started
        self._tally.measures.record_reload(ReloadStatus.ROLLED_BACK, seconds)
        return ReloadResult(
            ReloadStatus.ROLLED_BACK, None, commit.version, commit.changes, duration=seconds
        )

    def _check(self, config: Tree) -> None:
        if flaws := self._rules.flaws(config):
            raise InvalidConfig(flaws)

    def _tell(self) -> None:
        home = self._loop()
        if home is None or home is _running_loop():
            self._subscriptions.tell()
        else:
            home.call_soon_threadsafe(self._subscriptions.tell)

    def _begin_watching(self, member: Member, load_first: bool = False) -> None:  # noqa: FBT001, FBT002
        is_left_alone = member.kind == "file" and not self._watch_files
        if load_first or (isinstance(member.source, Watched) and not is_left_alone):
            member.watcher = asyncio.get_running_loop().create_task(
                self._watch(member, load_first=load_first, watch=not is_left_alone)
            )

    async def _watch(self, member: Member, *, load_first: bool, watch: bool) -> None:
        source = member.source
        if load_first:
            await self._reload(member.name)
        failures = 0
        while watch and isinstance(source, Watched):
            try:
                async with aclosing(source.watch()) as stirrings:
                    async for _ in stirrings:
                        failures = 0
                        await self._reload(member.name)
            except asyncio.CancelledError:
                if not self._is_stopping and self._members.get(member.name) is member:
                    _log.warning("%s: %s", member.name, _LOOP_ENDED)
                    await _close(source)
                raise
            except Exception as error:  # noqa: BLE001 - a source may be anybody's
                failures += 1
                reason = f"{type(error).__name__}: {error}"
                _log.warning("%s is not watched for now: %s", member.name, reason)
                longest = min(_LONGEST_PAUSE_SECONDS, 2.0**failures)
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - full jitter
            else:
                return

    async def _close_sources(self) -> None:
        for member in self._members.values():
            await _close(member.source)


async def _close(source: object) -> None:
    if isinstance(source, Closing):
        await source.close()


async def _end(member: Member) -> None:
    if member.watcher is not None:
        member.watcher.cancel()
        await asyncio.gather(member.watcher, return_exceptions=True)
    await _close(member.source)


def _with(parts: Parts, outcomes: Sequence[Loaded], began: int) -> Parts:
    for one in outcomes:
        if one.data is not None and began > one.member.began:
            one.member.began = began
            parts = with_part(parts, one.member.name, one.member.part(one.data))
    return parts


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _has_backup(away: Loaded, outcomes: Sequence[Loaded]) -> bool:
    """Tell whether a remote source is away while another one, of any kind, brings something."""
    return (
        away.is_away
        and _is_remote(away)
        and away.member.optional is None
        and any(other.error is None and (other.data or _is_remote(other)) for other in outcomes)
    )


def _is_remote(one: Loaded) -> bool:
    return bool(getattr(one.member.source, "is_remote", False))
