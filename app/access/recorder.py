"""Takes down events for the audit without letting anybody wait for it."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from app.access.auditing import AT_ONCE, AuditEvent, AuditLog
from app.access.errors import AuditUnavailable
from app.telemetry import AUDIT_EVENTS_LOST

MOST_WAITING: Final = 10_000
EVERY_SECONDS: Final = 0.2
FEW: Final = 50  # events that come at once and are still written one by one
_FLUSH_SECONDS: Final = 2.0
_LONGEST: Final = 500  # characters of what somebody has sent
_LOST: Final = "events_lost"
_log = structlog.get_logger(__name__)


class Recorder:
    def __init__(
        self, log: AuditLog, *, most: int = MOST_WAITING, every: float = EVERY_SECONDS
    ) -> None:
        """Write to `log` every so many seconds; keep at most `most` events that are waiting."""
        self._log = log
        self._most = most
        self._every = every
        self._waiting: deque[AuditEvent] = deque()
        self._arrived = asyncio.Event()
        self._lost = 0

    def note(self, event: AuditEvent) -> None:
        """Take an event down, to be written soon; one too many is only counted."""
        if len(self._waiting) < self._most:
            self._waiting.append(_clean(event))
        else:
            self._lost += 1
            AUDIT_EVENTS_LOST.inc()
        self._arrived.set()

    async def run(self) -> None:
        """Write for ever; raises AuditUnavailable, to be called again with nothing lost."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._every)  # what comes by then is written with it
            await self._write()
            if not self._waiting:
                self._arrived.clear()

    async def _write(self) -> None:
        batch = [self._waiting[place] for place in range(min(len(self._waiting), AT_ONCE - 1))]
        lost = self._lost
        told = [_loss(lost)] if lost else []
        # Each has its own request; only a flood is told by counts.
        rows = batch if len(batch) <= FEW else coalesced(batch)
        await self._log.record([*rows, *told])
        # Only now: what could not be written is written the next time.
        for _ in batch:
            self._waiting.popleft()
        self._lost -= lost

    async def flush(self) -> None:
        """Write what is waiting, as far as that can be done soon: at the very end."""
        with suppress(TimeoutError, AuditUnavailable):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while self._waiting or self._lost:
                    await self._write()
        if left := len(self._waiting) + self._lost:
            _log.error("audit_events_lost", count=left)


def coalesced(events: Sequence[AuditEvent]) -> list[AuditEvent]:
    """Make one of those that differ in nothing but when and in which request they happened.

    The first stands for all; its facts say in `count` how many there were.
    """
    counts = Counter(map(_subject, events))
    first: dict[tuple[str | None, ...], AuditEvent] = {}
    for event in events:
        first.setdefault(_subject(event), event)
    return [
        event if counts[subject] == 1 else _counted(event, counts[subject])
        for subject, event in first.items()
    ]


def _subject(event: AuditEvent) -> tuple[str | None, ...]:
    about = event.kind, event.environment, event.name
    return event.actor, event.action, *about, event.source


def _counted(event: AuditEvent, count: int) -> AuditEvent:
    return replace(event, facts={**(event.facts or {}), "count": count})


def _loss(count: int) -> AuditEvent:
    return AuditEvent(
        at=datetime.now(UTC),
        actor="pilothouse",
        action=_LOST,
        kind="audit",
        environment="*",
        name="*",
        facts={"count": count},
    )


def _clean(event: AuditEvent) -> AuditEvent:
    """Make text of what somebody has sent that every store takes."""
    return replace(
        event,
        actor=_text(event.actor),
        environment=_text(event.environment),
        name=_text(event.name),
        request_id=event.request_id and _text(event.request_id),
        source=event.source and _text(event.source),
    )


def _text(text: str) -> str:
    return text[:_LONGEST].replace("\0", "\ufffd").encode(errors="replace").decode()
