"""One load of one source: what it holds, decrypted and held against its rules."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilothouse.reload.encryption import decrypt_tree
from pilothouse.reload.errors import BadConfig, InvalidConfig, ReloadError, SourceUnavailable
from pilothouse.reload.model import SourceInfo
from pilothouse.reload.sources.port import ConfigSource, Validating
from pilothouse.reload.state import Part
from pilothouse.reload.validation import Rules
from pilothouse_core.trees import Tree


@dataclass(slots=True, eq=False)
class Member:
    """A source that was added, and how it is."""

    source: ConfigSource
    order: int
    optional: bool | None
    """None: a remote source may be away while another source brings something."""
    began: int = 0
    """Which load its part in force came from: one that began earlier never replaces it."""
    error: str | None = None
    last_loaded: datetime | None = None
    watcher: "asyncio.Task[None] | None" = None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def kind(self) -> str:
        return str(getattr(self.source, "kind", type(self.source).__name__))

    def part(self, data: Tree) -> Part:
        return Part(self.source.priority, self.order, data)

    def info(self) -> SourceInfo:
        return SourceInfo(
            name=self.name,
            kind=self.kind,
            priority=self.source.priority,
            is_healthy=self.error is None and self.last_loaded is not None,
            is_watched=self.watcher is not None and not self.watcher.done(),
            last_loaded=self.last_loaded,
            error=self.error,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a load: `data`, or `error`."""

    member: Member
    data: Tree | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()
    is_away: bool = False  # nothing is known to be wrong with what the source holds


async def load(member: Member, keys: Sequence[bytes]) -> Loaded:
    """Load a source; whatever goes wrong is told in the result."""
    try:
        config = await member.source.load_config()
        data = await asyncio.to_thread(_decrypt_and_validate, member.source, config, keys)
    except SourceUnavailable as error:
        return Loaded(member, error=str(error), is_away=True)
    except ReloadError as error:
        return Loaded(member, error=str(error))
    except Exception as error:  # noqa: BLE001 - a source may be anybody's
        return Loaded(member, error=f"{type(error).__name__}: {error}")
    warnings = getattr(member.source, "warnings", ())
    return Loaded(member, data, warnings=tuple(f"{member.name}: {one}" for one in warnings))


def _decrypt_and_validate(source: ConfigSource, config: Any, keys: Sequence[bytes]) -> Tree:
    if not isinstance(config, Mapping):
        raise BadConfig(f"brought {type(config).__name__} where a mapping is expected")
    data = dict(decrypt_tree(config, keys))
    rules = getattr(source, "rules", None)
    flaws = []
    if isinstance(rules, Rules):
        flaws = rules.flaws(data)
    elif isinstance(source, Validating):
        flaws = [flaw for flaw in source.validate_config(data) if flaw.kind != "credential"]
    if flaws:
        raise InvalidConfig(flaws)
    return data
