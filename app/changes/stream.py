"""The event stream's inside: who listens to what, and what waits to be sent to whom. No HTTP."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from app.changes.model import Change
from app.telemetry import STREAM_EVENTS

PENDING_AT_MOST = 128  # keys; of about 300 bytes each, which all listeners share
_LAYERS_SHARED = "_shared"
_LAYERS_BASE = "default"


@dataclass(frozen=True, slots=True)
class Selection:
    """What one client listens to; None is everything."""

    environment: str | None = None
    service_name: str | None = None
    kinds: frozenset[str] | None = None

    def wants(self, change: Change) -> bool:
        entity = change.entity
        if self.kinds is not None and entity.kind not in self.kinds:
            return False
        if entity.kind != "config":
            return self.environment in (None, entity.environment)
        service, _, user = entity.name.partition("/")
        return self._contributes(entity.environment, service, user)

    def _contributes(self, environment: str, service: str, user: str) -> bool:
        """Tell whether a layer contributes to the selected environment and service."""
        if self.environment is not None:
            inherited = environment == _LAYERS_BASE and not user
            if environment != self.environment and not inherited:
                return False
        if self.service_name is not None:
            return service == self.service_name or (service == _LAYERS_SHARED and not user)
        return True


def encoded(change: Change) -> bytes:
    """Write a change as one server-sent event; it never holds a value."""
    data = {
        "revision": change.revision,
        "kind": change.entity.kind,
        "action": change.action,
        "environment": change.entity.environment,
        "name": change.entity.name,
        "version": change.version,
        "actor": change.actor,
        "at": change.at.isoformat(),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {change.revision}\nevent: {change.entity.kind}.changed\ndata: {text}\n\n".encode()


class Subscription:
    """What waits for one client: the latest change of each entity, oldest first, bounded."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.overrun = False
        self.closed = False
        self.sent_revision = 0  # what the client was sent already, from the log
        self._pending: dict[str, tuple[int, bytes]] = {}
        self._woken = asyncio.Event()

    def offer(self, change: Change, event: bytes) -> None:
        """Keep `change` for the client; an older one of the same entity is dropped for it."""
        self._pending.pop(change.entity.key, None)
        self._pending[change.entity.key] = (change.revision, event)
        if len(self._pending) > PENDING_AT_MOST:
            self._pending.clear()
            self.overrun = True
        self._woken.set()

    def close(self) -> None:
        self.closed = True
        self._woken.set()

    async def wait(self, within: float) -> None:
        """Return when there is something to do, at the latest after `within` seconds."""
        if not self._woken.is_set():
            try:
                async with asyncio.timeout(within):
                    await self._woken.wait()
            except TimeoutError:
                return
        self._woken.clear()

    def taken(self) -> bytes:
        """Take what waits, in the order of revisions."""
        waiting, self._pending = self._pending, {}
        events = [event for revision, event in waiting.values() if revision > self.sent_revision]
        STREAM_EVENTS.inc(len(events))
        return b"".join(events)


class Hub:
    """Everybody who listens on this replica."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._listening: set[Subscription] = set()
        self.draining = False

    @property
    def is_full(self) -> bool:
        return self.draining or len(self._listening) >= self._limit

    def __len__(self) -> int:
        return len(self._listening)

    def join(self, selection: Selection) -> Subscription:
        subscription = Subscription(selection)
        self._listening.add(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        self._listening.discard(subscription)

    def publish(self, change: Change) -> None:
        """Offer a change to all who selected it; it is encoded once."""
        event: bytes | None = None
        for subscription in self._listening:
            if subscription.selection.wants(change):
                event = event or encoded(change)
                subscription.offer(change, event)

    def drain(self) -> None:
        """Send everybody away: the service stops."""
        self.draining = True
        for subscription in list(self._listening):
            subscription.close()


def selected(changes: Iterable[Change], selection: Selection) -> bytes:
    return b"".join(encoded(change) for change in changes if selection.wants(change))
