"""The response that streams changes as server-sent events."""

import asyncio
import random
from contextlib import suppress
from math import inf
from time import monotonic, time
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.changes.follower import READ_YOUR_WRITES_SECONDS, Follower
from app.changes.log.port import ChangeLog
from app.changes.stream.hub import Hub, Push, Selection, Subscription, encode_reset, encode_selected
from app.telemetry import STREAMS, STREAMS_CLOSED
from app.web.connection import connection_of

HEARTBEAT_SECONDS = 15.0
WRITE_SECONDS = 8.0  # a client that reads nothing for this long is cut off
_RESUME_AT_MOST = 10_000
_PAGE = 1000
_RETRY_MILLISECONDS = (500, 5000)


class StreamGrant(NamedTuple):
    """The owner of a stream and its end, in seconds since the epoch."""

    owner: str | None = None
    until: float = inf


UNLIMITED = StreamGrant()


class EventStream(Response):
    """A streaming response, bounded in memory and in time per write."""

    def __init__(
        self,
        hub: Hub,
        log: ChangeLog,
        follower: Follower,
        selection: Selection,
        after: int | None,
        leave: StreamGrant = UNLIMITED,
    ) -> None:
        super().__init__(
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        del self.headers["content-length"]
        self._hub = hub
        self._log = log
        self._follower = follower
        self._selection = selection
        self._after = after
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        if connection is not None:
            connection.keep_small()
        subscription = self._hub.join(self._selection, self._leave.owner)
        gone = asyncio.create_task(_wait_for_disconnect(receive, subscription))
        STREAMS.inc()
        reason = "gone"
        try:
            reason = await self._run(
                subscription, gone, send, connection.push if connection else None
            )
        except TimeoutError:
            reason = "slow"
            if connection is not None:
                connection.cut()
        finally:
            STREAMS.dec()
            STREAMS_CLOSED.labels(reason).inc()
            self._hub.leave(subscription)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _run(
        self,
        subscription: Subscription,
        gone: asyncio.Task[None],
        send: Send,
        push: Push | None,
    ) -> str:
        await _send_in_time(
            send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
        )
        # Before the log was read, missed changes are unknown.
        while not (self._follower.has_pointers or gone.done() or subscription.closed):
            await self._follower.wait_for_change(HEARTBEAT_SECONDS)
            await _send_text(send, b":\n\n")
        if self._follower.has_pointers:
            await _send_text(send, await self._opening_events(subscription, send))
        patience = monotonic() + READ_YOUR_WRITES_SECONDS
        while not gone.done() and not subscription.closed:
            left = self._leave.until - time()
            if left <= 0:
                break
            is_ahead = subscription.sent_revision > self._follower.revision
            pause = READ_YOUR_WRITES_SECONDS if is_ahead else HEARTBEAT_SECONDS
            await subscription.wait(min(pause, left), push)
            if gone.done() or subscription.closed:
                break
            if self._is_denied(subscription, patience):
                subscription.overrun = True
            if subscription.overrun:
                subscription.overrun = False
                subscription.sent_revision = self._follower.revision
                await _send_text(send, encode_reset(self._selection, self._follower.revision))
            await _send_text(send, subscription.pop_events() or b":\n\n")
        if gone.done():
            return "gone"
        retry = random.randint(*_RETRY_MILLISECONDS)  # noqa: S311 - jitter, not a secret
        await _send_text(send, f"retry: {retry}\nevent: drain\ndata: {{}}\n\n".encode(), more=False)
        return "drain"

    def _is_denied(self, subscription: Subscription, patience: float) -> bool:
        """Tell whether the client was sent revisions that the log lacks, e.g. of a replaced log.

        Everything up to that revision would otherwise be withheld from the client.
        """
        is_ahead = subscription.sent_revision > self._follower.revision
        return is_ahead and self._follower.followed_until >= patience

    async def _opening_events(self, subscription: Subscription, send: Send) -> bytes:
        """Return the first events: the missed changes, or a reset."""
        now = self._follower.revision
        after = now if self._after is None else self._after
        if self._after is None and self._selection.refetch:
            # Its client evaluated before it listened, and may have missed changes in between.
            subscription.sent_revision = now
            return encode_reset(self._selection, now)
        if after >= now:
            # An id without data: a client that reconnects before the first event misses nothing.
            subscription.sent_revision = after
            return f"id: {after}\n\n".encode()
        if now - after > _RESUME_AT_MOST or after < await self._log.horizon():
            subscription.sent_revision = now
            return encode_reset(self._selection, now)
        while after < now:
            changes = await self._log.since(after, _PAGE)
            # Changes after `now` are sent once they are followed: a client that is notified of a
            # version reads it here at once, and would get the one before.
            followed = [change for change in changes if change.revision <= now]
            await _send_text(send, encode_selected(followed, self._selection, self._hub.describe))
            after = followed[-1].revision if followed else now
        subscription.sent_revision = now
        return f"id: {now}\n\n".encode()


async def _wait_for_disconnect(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.close()


async def _send_text(send: Send, text: bytes, *, more: bool = True) -> None:
    if text or not more:
        await _send_in_time(send({"type": "http.response.body", "body": text, "more_body": more}))


async def _send_in_time(sending: object) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await sending  # type: ignore[misc]
