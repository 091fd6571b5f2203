"""What a source of configuration is. Any object of this shape may be added to a manager."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol, runtime_checkable

from pilothouse.reload.validation import Flaw


class ConfigSource(Protocol):
    """One place that configuration comes from."""

    @property
    def name(self) -> str:
        """What it is called in results and errors; unique in a manager."""
        ...

    @property
    def priority(self) -> int:
        """Of two sources with the same member, the higher one wins."""
        ...

    async def load_config(self) -> Mapping[str, Any]:
        """Return all it holds, as JSON values that nobody changes afterwards.

        Raises ReloadError, or whatever else: the last good part stays.
        """
        ...


@runtime_checkable
class Watched(Protocol):
    """A source that notices when it changes."""

    def watch(self) -> AsyncGenerator[None, None]:
        """Yield whenever a load may bring something else than the last one did, for ever."""
        ...


@runtime_checkable
class Validating(Protocol):
    """A source that knows what its configuration must be like."""

    def validate_config(self, config: Mapping[str, Any]) -> list[Flaw]:
        """Return everything wrong with it; credentials among that only warn."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A source that holds something open."""

    async def close(self) -> None:
        """Let go of it; the source may be loaded again."""
        ...
