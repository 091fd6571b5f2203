"""The port for publishing change events. Adapter: `kafka`."""

from collections.abc import Sequence
from typing import Protocol

from app.changes.events.cloudevents import Event


class EventPublisher(Protocol):
    """Where events go; adapter: `kafka`. Raises EventsUnavailable within its deadlines."""

    async def open(self) -> None:
        """Make ready to publish, if that is not done yet."""
        ...

    async def publish(self, events: Sequence[Event]) -> None:
        """Return when all are kept for good, in this order for each key.

        Raises NotPublished with those that are known to be kept; any other may come later or
        never. What is then published again, from the first that is not known to be kept on,
        appears after its predecessors for the first time whatever becomes of the earlier attempt.
        """
        ...

    async def ping(self) -> None:
        """Return if events can be published."""
        ...
