"""Changes as server-sent events: the answer to whoever listens."""

import asyncio
import random
from contextlib import suppress
from math import inf
from time import monotonic, time
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.changes.follower import READ_YOUR_WRITES_SECONDS, Follower
from app.changes.port import ChangeLog
from app.changes.stream import Hub, Push, Selection, Subscription, missed, selected
from app.telemetry import STREAMS, STREAMS_CLOSED
from app.web.connection import connection_of

HEARTBEAT_SECONDS = 15.0
WRITE_SECONDS = 8.0  # a client that reads nothing for this long is cut off
_RESUME_AT_MOST = 10_000
_PAGE = 1000
_RETRY_MILLISECONDS = (500, 5000)


class Leave(NamedTuple):
    """By whose leave somebody listens, and until when, in seconds since the epoch."""

    owner: str | None = None
    until: float = inf


NO_END = Leave()


class EventStream(Response):
    """A response that lasts: bounded in memory, in time per write, and by the client's patience."""

    def __init__(
        self,
        hub: Hub,
        log: ChangeLog,
        follower: Follower,
        selection: Selection,
        after: int | None,
        leave: Leave = NO_END,
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
        gone = asyncio.create_task(_gone(receive, subscription))
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
        await _timed(
            send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
        )
        # Before anything was read of the log, nobody can tell what was missed.
        while not (self._follower.started or gone.done() or subscription.closed):
            await self._follower.moved(HEARTBEAT_SECONDS)
            await _say(send, b":\n\n")
        if self._follower.started:
            await _say(send, await self._opening(subscription, send))
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
                await _say(send, missed(self._selection, self._follower.revision))
            await _say(send, subscription.taken() or b":\n\n")
        if gone.done():
            return "gone"
        retry = random.randint(*_RETRY_MILLISECONDS)  # noqa: S311 - jitter, not a secret
        await _say(send, f"retry: {retry}\nevent: drain\ndata: {{}}\n\n".encode(), more=False)
        return "drain"

    def _is_denied(self, subscription: Subscription, patience: float) -> bool:
        """Tell whether the client was told of what the log has not: it was made anew, say.

        All that comes before this number comes again would be kept from the client.
        """
        is_ahead = subscription.sent_revision > self._follower.revision
        return is_ahead and self._follower.knows_all_before(patience)

    async def _opening(self, subscription: Subscription, send: Send) -> bytes:
        """Say from where the stream goes on, after what the client has missed."""
        now = self._follower.revision
        after = now if self._after is None else self._after
        if self._after is None and self._selection.refetch:
            # Its client has evaluated before it listens, and nobody told it of what came between.
            subscription.sent_revision = now
            return missed(self._selection, now)
        if after >= now:
            # An id without data: whoever reconnects before the first event misses nothing.
            subscription.sent_revision = after
            return f"id: {after}\n\n".encode()
        if now - after > _RESUME_AT_MOST or after < await self._log.horizon():
            subscription.sent_revision = now
            return missed(self._selection, now)
        while after < now:
            changes = await self._log.since(after, _PAGE)
            # What comes after `now` is told when it is followed: who is told of a version reads it
            # here at once, and would be shown the one before, with nothing more to come.
            followed = [change for change in changes if change.revision <= now]
            await _say(send, selected(followed, self._selection))
            after = followed[-1].revision if followed else now
        subscription.sent_revision = now
        return f"id: {now}\n\n".encode()


async def _gone(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.close()


async def _say(send: Send, text: bytes, *, more: bool = True) -> None:
    if text or not more:
        await _timed(send({"type": "http.response.body", "body": text, "more_body": more}))


async def _timed(sending: object) -> None:
    async with asyncio.timeout(WRITE_SECONDS):
        await sending  # type: ignore[misc]
