"""Subscriptions to the event stream, and their pending events. No HTTP."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from math import inf

from app.actors import split_actor
from app.changes.model import Change
from app.telemetry import STREAM_EVENTS

Push = Callable[[bytes], bool]
Describe = Callable[[Change], Mapping[str, object]]
PENDING_AT_MOST = 128  # keys; of about 300 bytes each, which all listeners share
_AT_ONCE = 25  # clients: about a quarter of a millisecond
_OF_NO_ENVIRONMENT = frozenset({"instance", "schema", "template", "policy"})
_LAYERS_SHARED = "_shared"
_LAYERS_BASE = "default"


@dataclass(frozen=True, slots=True)
class Selection:
    """What one client listens to; None is everything."""

    environment: str | None = None
    service_name: str | None = None
    kinds: frozenset[str] | None = None
    refetch: bool = False  # hears only that something changed, in OpenFeature's words

    def wants(self, change: Change) -> bool:
        entity = change.entity
        if self.kinds is not None and entity.kind not in self.kinds:
            return False
        if entity.kind in _OF_NO_ENVIRONMENT:  # they are logged under `default`
            return True
        if entity.kind in ("violation", "proposal", "release"):
            service, _, _ = entity.name.partition("/")
            in_environment = self.environment in (None, entity.environment)
            return in_environment and (self.service_name in (None, service) or service == "*")
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


def _nothing(_: Change) -> Mapping[str, object]:
    return {}


def encode_event(change: Change, describe: Describe = _nothing) -> bytes:
    """Write a change as one server-sent event; it never holds a value.

    `describe` returns further members for those who act on it.
    """
    actor, actor_id = split_actor(change.actor)
    data = {
        "revision": change.revision,
        "kind": change.entity.kind,
        "action": change.action,
        "environment": change.entity.environment,
        "name": change.entity.name,
        "version": change.version,
        "actor": actor,
        **({} if actor_id is None else {"actor_id": actor_id}),
        "at": change.at.isoformat(),
        **describe(change),
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    event = f"event: {change.entity.kind}.changed\ndata: {text}\n\n"
    return (f"id: {change.revision}\n{event}" if is_logged(change) else event).encode()


def is_logged(change: Change) -> bool:
    """Tell whether a change is in the log: what a schema finds is known to each replica only."""
    return change.entity.kind != "violation"


def encode_refetch(change: Change) -> bytes:
    """Write a change as OFREP's event: evaluate again, at least as fresh as this."""
    return _refetch(change.revision, lastModified=int(change.at.timestamp()))


def encode_reset(selection: Selection, revision: int) -> bytes:
    """Encode the event after which a client reads again: it may have missed changes."""
    if selection.refetch:  # OFREP's clients know no other event
        return _refetch(revision)
    return f'id: {revision}\nevent: reset\ndata: {{"revision":{revision}}}\n\n'.encode()


def _refetch(revision: int, **more: int) -> bytes:
    data = {"type": "refetchEvaluation", "etag": f"r{revision}", **more}
    text = json.dumps(data, separators=(",", ":"))
    return f"id: {revision}\nevent: message\ndata: {text}\n\n".encode()


def event_for(selection: Selection, change: Change, describe: Describe = _nothing) -> bytes:
    return encode_refetch(change) if selection.refetch else encode_event(change, describe)


class Subscription:
    """What waits for one client: the latest change of each entity, oldest first, bounded."""

    def __init__(self, selection: Selection, owner: str | None = None) -> None:
        self.selection = selection
        self.owner = owner
        self.overrun = False
        self.closed = False
        self.sent_revision = 0  # what the client was sent already, from the log
        self._push: Push | None = None
        self._pending: dict[str, tuple[float, bytes]] = {}
        self._woken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pending)

    def offer(self, change: Change, event: bytes) -> bool:
        """Push `change` to a client that keeps up, or keep it for the client; tell which.

        What is kept of the same entity and is older is dropped for it.
        """
        revision = change.revision if is_logged(change) else inf
        if self._push is not None and not self._woken.is_set():
            if revision <= self.sent_revision:
                return False
            if self._push(event):
                return True
        self._pending.pop(change.entity.key, None)
        self._pending[change.entity.key] = (revision, event)
        if len(self._pending) > PENDING_AT_MOST:
            self._pending.clear()
            self.overrun = True
        self._woken.set()
        return False

    def close(self) -> None:
        self.closed = True
        self._woken.set()

    async def wait(self, within: float, push: Push | None = None) -> None:
        """Return when there is something to do, at the latest after `within` seconds.

        In that time, each event is passed to `push`; an event that it refuses is something to do.
        """
        if not self._woken.is_set():
            self._push = push
            try:
                async with asyncio.timeout(within):
                    await self._woken.wait()
            except TimeoutError:
                return
            finally:
                self._push = None
        self._woken.clear()

    def pop_events(self) -> bytes:
        """Remove and return pending events, in the order of revisions."""
        waiting, self._pending = self._pending, {}
        events = [event for revision, event in waiting.values() if revision > self.sent_revision]
        STREAM_EVENTS.inc(len(events))
        return b"".join(events)


class Hub:
    """All subscriptions on this replica."""

    def __init__(
        self,
        limit: int,
        limit_of_each: int | None = None,
        has_ended: Callable[[str], bool] = lambda _: False,
        describe: Describe = _nothing,
    ) -> None:
        """Limit the streams, and those of one owner; refuse owners whose access `has_ended`.

        `describe` returns further members of the event of a change.
        """
        self.describe = describe
        self._limit = limit
        self._has_ended = has_ended
        self.limit_of_each = limit if limit_of_each is None else limit_of_each
        self._subscriptions: dict[Selection, set[Subscription]] = {}
        self._count = 0
        self._owned: Counter[str] = Counter()
        self._under_way: deque[Iterator[tuple[Subscription, Change, bytes]]] = deque()
        self.draining = False

    @property
    def is_full(self) -> bool:
        return self.draining or self._count >= self._limit

    def __len__(self) -> int:
        return self._count

    def count_of_owner(self, owner: str) -> int:
        """Return how many streams an owner has."""
        return self._owned[owner]

    def join(self, selection: Selection, owner: str | None = None) -> Subscription:
        subscription = Subscription(selection, owner)
        self._subscriptions.setdefault(selection, set()).add(subscription)
        self._count += 1
        if owner is not None:
            self._owned[owner] += 1
            if self._has_ended(owner):
                subscription.close()  # revoked between authentication and here
        return subscription

    def leave(self, subscription: Subscription) -> None:
        alike = self._subscriptions.get(subscription.selection, set())
        if subscription in alike:
            alike.discard(subscription)
            self._count -= 1
            if subscription.owner is not None:
                self._owned -= Counter([subscription.owner])  # forgets owners without streams
        if not alike:
            self._subscriptions.pop(subscription.selection, None)

    def publish(self, change: Change) -> None:
        """Offer a change to all who selected it, soon and in turn; it is encoded once."""
        wanted = [
            (list(alike), event_for(selection, change, self.describe))
            for selection, alike in self._subscriptions.items()
            if selection.wants(change)
        ]
        self._under_way.append((one, change, event) for alike, event in wanted for one in alike)
        if len(self._under_way) == 1:
            self._deliver()

    def _deliver(self) -> None:
        """Serve some clients; requests get their turn before the next ones.

        Each costs a system call: a thousand at once would hold up every read for many milliseconds.
        """
        turn = list(islice(self._under_way[0], _AT_ONCE))
        STREAM_EVENTS.inc(sum(one.offer(change, event) for one, change, event in turn))
        if len(turn) < _AT_ONCE:
            self._under_way.popleft()
        if self._under_way:
            asyncio.get_running_loop().call_soon(self._deliver)

    def drain(self) -> None:
        """Close all streams: the service stops."""
        self.draining = True
        for subscription in self._all_subscriptions():
            subscription.close()

    def close_streams_of(self, owner: str) -> None:
        """Close the streams of `owner`, whose access has ended."""
        for subscription in self._all_subscriptions():
            if subscription.owner == owner:
                subscription.close()

    def _all_subscriptions(self) -> Iterator[Subscription]:
        return chain.from_iterable(self._subscriptions.values())


def encode_selected(
    changes: Iterable[Change], selection: Selection, describe: Describe = _nothing
) -> bytes:
    wanted = (change for change in changes if selection.wants(change))
    return b"".join(event_for(selection, change, describe) for change in wanted)
