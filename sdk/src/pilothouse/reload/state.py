"""The configuration in force and the versions before it; replaced whole, so reads need no lock."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from pilothouse.changes import ConfigChange, differences
from pilothouse.copies import deep_copy
from pilothouse.forks import ForkLock
from pilothouse.reload.merge import merge_layers
from pilothouse.reload.model import VersionInfo
from pilothouse.reload.paths import ABSENT, value_at
from pilothouse.reload.sharing import share_unchanged
from pilothouse_core.trees import Tree, copy_sections, is_section, set_in, without_key

RUNTIME = "runtime"
"""The layer of `override`, above all sources; no source can have this name."""


@dataclass(frozen=True, slots=True)
class Part:
    """The last content of one source."""

    priority: int
    order: int
    data: Tree


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts from which a configuration is merged."""

    sources: Mapping[str, Part] = field(default_factory=dict)
    runtime: Tree = field(default_factory=dict)

    def layers(self) -> list[tuple[str, Tree]]:
        """Lowest first: higher priorities win; of the same priority, the source added later."""
        lowest_first = sorted(
            self.sources.items(), key=lambda item: (item[1].priority, item[1].order)
        )
        return [*((name, part.data) for name, part in lowest_first), (RUNTIME, self.runtime)]

    def merged_tree(self) -> Tree:
        return merge_layers(data for _, data in self.layers())

    def origin(self, path: str) -> str | None:
        """Return the highest layer that has a value at `path`."""
        for name, data in reversed(self.layers()):
            value = value_at(data, path)
            if value is not ABSENT:
                return None if is_section(value) else name
        return None


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    before: int | None  # the version to which a rollback of one step leads
    created_at: datetime
    cause: str
    changes: int
    parts: Parts


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of a change: the version in force, and its differences from the one before."""

    version: int
    changes: tuple[ConfigChange, ...]


class NoSuchVersion(LookupError):
    """A rollback goes further back than versions are kept."""


class ManagedState:
    """Changes run one at a time; a read sees one merged configuration, never a mixture of two."""

    def __init__(
        self,
        max_versions: int,
        check: Callable[[Tree], None],
        note: Callable[[tuple[ConfigChange, ...]], None],
    ) -> None:
        self._check = check
        self._note = note
        self._lock = ForkLock()
        self._parts = Parts()
        self._merged: Tree = {}
        self._versions: deque[_Version] = deque(maxlen=max_versions)
        self._number = 0

    @property
    def data(self) -> Mapping[str, Any]:
        """The merged configuration, shared by all readers: it must not be changed."""
        return self._merged

    def origin(self, path: str) -> str | None:
        return self._parts.origin(path)

    @property
    def version(self) -> int:
        return self._number

    @property
    def runtime(self) -> Mapping[str, Any]:
        return self._parts.runtime

    def commit(
        self, cause: str, change: Callable[[Parts], Parts], *, is_start: bool = False
    ) -> Commit:
        """Merge, check and swap. Raises what the check raises, and then nothing has changed."""
        with self._lock.lock:
            return self._commit(cause, change(self._parts), is_start=is_start)

    def remove_source(self, name: str) -> Commit:
        """Remove the content of a source, from the versions before as well.

        Raises what the check raises, and then nothing has changed.
        """
        with self._lock.lock:
            commit = self._commit(f"removal of {name}", without_part(self._parts, name))
            kept = [replace(one, parts=without_part(one.parts, name)) for one in self._versions]
            self._versions.clear()
            self._versions.extend(kept)
            return commit

    def override(self, path: str, value: Any) -> Commit:
        """Set a value, or the members of a section, in the runtime layer.

        Raises ValueError, KeysConflict, and what the check raises.
        """
        if not all(path.split(".")):
            raise ValueError(f"{path!r} is not a dotted path")
        own = deep_copy(value)

        def change(parts: Parts) -> Parts:
            runtime = copy_sections(without_key(parts.runtime, path))
            set_in(runtime, path, own)
            return with_runtime(parts, runtime)

        return self.commit(f"override of {path}", change)

    def clear_override(self, path: str | None) -> Commit:
        """Remove the overrides at and below `path`, or all. Raises what the check raises."""

        def change(parts: Parts) -> Parts:
            runtime: Tree = {} if path is None else without_key(parts.runtime, path)
            return with_runtime(parts, runtime)

        return self.commit(f"clearing of {path or 'all overrides'}", change)

    def roll_back(self, steps: int) -> Commit:
        """Put all parts back as they were `steps` versions ago, as a new version.

        Raises NoSuchVersion.
        """
        with self._lock.lock:
            kept = {version.number: version for version in self._versions}
            target = self._versions[-1] if self._versions else None
            for _ in range(steps):
                target = None if target is None else kept.get(target.before or 0)
            if target is None:
                raise NoSuchVersion(f"no version {steps} steps before {self._number} is kept")
            return self._commit(f"rollback to {target.number}", target.parts, target=target)

    def _commit(
        self, cause: str, parts: Parts, *, is_start: bool = False, target: _Version | None = None
    ) -> Commit:
        tree = parts.merged_tree()
        is_first = is_start and self._number == 0
        changes = tuple(differences(self._merged, tree))
        if changes and target is None:
            self._check(tree)
        if is_start:
            self._versions.clear()
        if changes or is_start or target is not None:
            self._append(cause, parts, len(changes), target)
            self._merged = tree
        elif self._versions:
            # Values that others override may differ: a later rollback restores them.
            last = self._versions[-1]
            self._versions[-1] = replace(last, parts=parts)
            self._merged = tree
        self._parts = parts
        if not is_first:  # the initial content is not a change
            self._note(changes)  # within the lock, to keep the order of the changes
        return Commit(self._number, changes)

    def _append(self, cause: str, parts: Parts, changes: int, target: _Version | None) -> None:
        before = self._versions[-1].number if self._versions else None
        if target is not None:
            before = target.before
        self._number += 1
        now = datetime.now(timezone.utc)
        self._versions.append(_Version(self._number, before, now, cause, changes, parts))

    def history(self) -> list[VersionInfo]:
        with self._lock.lock:
            return [
                VersionInfo(
                    version=version.number,
                    created_at=version.created_at,
                    cause=version.cause,
                    changes=version.changes,
                    is_current=version is self._versions[-1],
                )
                for version in reversed(self._versions)
            ]


def with_part(parts: Parts, name: str, part: Part) -> Parts:
    """Return `parts` with new content of a source, which shares equal parts with the earlier."""
    before = parts.sources.get(name)
    if before is not None:
        part = Part(part.priority, part.order, share_unchanged(before.data, part.data))
    return Parts({**parts.sources, name: part}, parts.runtime)


def without_part(parts: Parts, name: str) -> Parts:
    sources = {key: part for key, part in parts.sources.items() if key != name}
    return Parts(sources, parts.runtime)


def with_runtime(parts: Parts, runtime: Tree) -> Parts:
    return Parts(parts.sources, runtime)
