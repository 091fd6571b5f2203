"""Publishes every change of the log: at least once, in order for each key.

One replica relays at a time, for economy and not for order: every sender begins with the first
change not marked as sent, and a change is marked only when the publisher keeps it for good. So in
the stream of any sender, and in any mixture of such streams, what appears for the first time
appears after all its predecessors.
"""

import asyncio
from collections.abc import Collection

from app.changes.errors import LeadLost, NotPublished
from app.changes.events.cloudevents import event_of
from app.changes.events.port import EventPublisher
from app.changes.follower import POLL_SECONDS, Follower
from app.changes.log.port import Outbox
from app.telemetry import EVENT_DURATION, EVENT_FAILURES, EVENTS_SENT, OLDEST_UNSENT

_BATCH = 500
_LOOK_SECONDS = 1.0


class Relay:
    def __init__(self, outbox: Outbox, publisher: EventPublisher, follower: Follower) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._follower = follower
        self.oldest_unsent = 0.0  # seconds; what any replica sees, whichever leads

    async def run(self) -> None:
        """Keep sending; raises Unavailable when it cannot continue; call it again."""
        await self._publisher.open()  # first: a replica that cannot publish should not lead
        async with self._outbox.lead() as lead:
            while lead.is_held:
                seen = self._follower.revision
                sent = await self._send_next()
                if not sent and self._follower.revision == seen:
                    await self._follower.wait_for_change(POLL_SECONDS)
        raise LeadLost

    async def _send_next(self) -> int:
        """Send and mark the next changes, or raise NotPublished; return how many there were."""
        changes = await self._outbox.unsent_changes(_BATCH)
        if not changes:
            return 0
        try:
            with EVENT_DURATION.time():
                await self._publisher.publish([event_of(change) for change in changes])
        except NotPublished as failure:
            EVENT_FAILURES.inc(len(changes) - len(failure.acknowledged))
            await self._mark(failure.acknowledged)
            raise
        await self._mark([change.revision for change in changes])
        return len(changes)

    async def _mark(self, revisions: Collection[int]) -> None:
        if revisions:
            EVENTS_SENT.inc(len(revisions))
            await self._outbox.mark_sent(list(revisions))

    async def watch(self) -> None:
        """Keep measuring how long the oldest change has been waiting."""
        while True:
            self.oldest_unsent = await self._outbox.oldest_unsent() or 0.0
            OLDEST_UNSENT.set(self.oldest_unsent)
            await asyncio.sleep(_LOOK_SECONDS)
