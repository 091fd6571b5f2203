"""Seeded bugs: how others must not be told of changes, so that the checkers can show their teeth.

Each is a promise of docs/changes.md left out; none is in the service.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from app.changes.log.port import Leadership, Outbox
from app.changes.model import Change
from app.changes.stream import event_stream
from app.changes.stream.event_stream import EventStream
from app.changes.stream.hub import Selection, Subscription, encode_selected
from app.wiring import Backends

RELAY_BUGS = ("sent_before_sending", "claims_changes", "newest_first")
STREAM_BUGS = ("resumes_from_now", "hushes_reset", "tells_ahead")


def planted_in_relay(bug: str, backends: Backends) -> Backends:
    match bug:
        case "newest_first":
            outbox: object = _Reversed(backends.changes.outbox)
        case _:
            outbox = _Claiming(backends.changes.outbox, together=bug == "claims_changes")
    return replace(backends, changes=replace(backends.changes, outbox=cast("Outbox", outbox)))


class _Reversed:
    """Hands out what is not yet sent, the newest first."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        return (await self._outbox.unsent_changes(limit))[::-1]


class _Claiming:
    """Marks changes as sent when it hands them out, not when they are kept.

    `together`: replicas need no lock, then, because no change is handed out twice.
    """

    def __init__(self, outbox: Outbox, *, together: bool) -> None:
        self._outbox = outbox
        self._together = together

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def unsent_changes(self, limit: int) -> Sequence[Change]:
        changes = await self._outbox.unsent_changes(limit)
        if changes:
            await self._outbox.mark_sent([change.revision for change in changes])
        return changes

    async def mark_sent(self, _: Sequence[int]) -> None:
        """Do nothing: they are marked."""

    def lead(self) -> AbstractAsyncContextManager[Leadership]:
        return _leading() if self._together else self._outbox.lead()


@dataclass(frozen=True, slots=True)
class _Held:
    is_held: bool = True


@asynccontextmanager
async def _leading() -> AsyncIterator[Leadership]:
    yield _Held()


# --- streams ---


def plant_in_stream(bug: str) -> None:
    match bug:
        case "resumes_from_now":
            EventStream._opening_events = _begins_now  # type: ignore[method-assign]  # noqa: SLF001
        case "hushes_reset":
            event_stream.encode_reset = _hushes  # type: ignore[attr-defined]
        case _:
            EventStream._opening_events = _tells_all_that_is_logged  # type: ignore[method-assign]  # noqa: SLF001


def _hushes(selection: Selection, revision: int) -> bytes:
    return _goes_on(revision)


async def _begins_now(self: Any, subscription: Subscription, send: Any) -> bytes:
    subscription.sent_revision = self._follower.revision
    return _goes_on(subscription.sent_revision)


def _goes_on(revision: int) -> bytes:
    return f"id: {revision}\n\n".encode()


async def _tells_all_that_is_logged(self: Any, subscription: Subscription, send: Any) -> bytes:
    after = self._follower.revision if self._after is None else self._after
    while changes := await self._log.since(after, 1000):
        body = encode_selected(changes, self._selection)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        after = changes[-1].revision
    subscription.sent_revision = after
    return _goes_on(after)
