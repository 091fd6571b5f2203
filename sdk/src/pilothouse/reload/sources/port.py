"""The protocol of sources. Any object with these members may be added to a manager."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol, runtime_checkable

from pilothouse.reload.validation import Flaw


class ConfigSource(Protocol):
    """A source of configuration."""

    @property
    def name(self) -> str:
        """The name in results and errors; unique in a manager."""
        ...

    @property
    def priority(self) -> int:
        """Of two sources with the same member, the higher one wins."""
        ...

    async def load_config(self) -> Mapping[str, Any]:
        """Return the whole content, as JSON values that are not changed afterwards.

        It may raise ReloadError or any exception: then the last good content stays in force.
        """
        ...


@runtime_checkable
class Watched(Protocol):
    """A source that reports changes."""

    def watch(self) -> AsyncGenerator[None, None]:
        """Yield whenever a load may return something else than the last one; never end."""
        ...


@runtime_checkable
class Validating(Protocol):
    """A source with rules of its own."""

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return all flaws; those of the kind `credential` do not refuse a load."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A source with connections."""

    async def close(self) -> None:
        """Close them; the source may be loaded again."""
        ...
