"""The sources of a manager, and the state of each."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from pilothouse.reload.model import SourceInfo
from pilothouse.reload.sources.port import ConfigSource
from pilothouse.reload.state import RUNTIME, Part
from pilothouse_core.trees import Tree

MERGED = "configuration"
"""Begins the errors of the merged configuration; no source can have this name."""


@dataclass(slots=True, eq=False)
class Member:
    """A source that was added, and its state."""

    source: ConfigSource
    order: int
    optional: bool | None
    """None: a remote source may be unavailable while another source has content."""
    began: int = 0
    """The number of the load that its part in force came from; earlier loads do not replace it."""
    error: str | None = None
    last_loaded: datetime | None = None
    watcher: "asyncio.Task[None] | None" = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def kind(self) -> str:
        return str(getattr(self.source, "kind", type(self.source).__name__))

    @property
    def is_remote(self) -> bool:
        return bool(getattr(self.source, "is_remote", False))

    @property
    def is_healthy(self) -> bool:
        """Whether its last load succeeded."""
        return self.error is None and self.last_loaded is not None

    def part(self, data: Tree) -> Part:
        return Part(self.source.priority, self.order, data)

    def info(self) -> SourceInfo:
        return SourceInfo(
            name=self.name,
            kind=self.kind,
            priority=self.source.priority,
            is_healthy=self.is_healthy,
            is_watched=self.watcher is not None and not self.watcher.done(),
            last_loaded=self.last_loaded,
            error=self.error,
        )


class Members:
    """Iterates in the order in which the sources were added; safe to use from every thread."""

    def __init__(self) -> None:
        self._by_name: Mapping[str, Member] = {}  # replaced, never changed
        self._orders = count()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_name.values())

    def __contains__(self, member: object) -> bool:
        """Tell whether a member has not been removed, or replaced by another one of its name."""
        return isinstance(member, Member) and self._by_name.get(member.name) is member

    def add(self, source: ConfigSource, *, optional: bool | None) -> Member:
        """Raises ValueError if the name is taken."""
        if source.name in self._by_name or source.name in {RUNTIME, MERGED}:
            raise ValueError(f"there is a source {source.name!r} already")
        member = Member(source, next(self._orders), optional)
        self._by_name = {**self._by_name, source.name: member}
        return member

    def remove(self, name: str) -> None:
        self._by_name = {key: one for key, one in self._by_name.items() if key != name}

    def get(self, name: str) -> Member:
        """Return the member of this name. Raises LookupError."""
        member = self._by_name.get(name)
        if member is None:
            raise LookupError(f"there is no source {name!r}")
        return member

    def by_precedence(self) -> list[Member]:
        """Return the members, the one that wins over the others first."""
        return sorted(
            self,
            key=lambda member: (member.source.priority, member.order),
            reverse=True,
        )

    def errors(self) -> dict[str, str | None]:
        return {member.name: member.error for member in self}
