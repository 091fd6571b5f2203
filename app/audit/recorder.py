"""Records audit events in the background, so that no request waits for it."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from app.audit.errors import AuditUnavailable
from app.audit.port import MAX_BATCH, AuditEvent, AuditLog
from app.telemetry import AUDIT_EVENTS_LOST

MOST_WAITING: Final = 10_000
EVERY_SECONDS: Final = 0.2
COALESCE_ABOVE: Final = 50  # events in a batch above which equal ones become one row
_FLUSH_SECONDS: Final = 2.0
_LONGEST: Final = 500  # characters of a text from a request
_LOST: Final = "events_lost"
_log = structlog.get_logger(__name__)


class AuditRecorder:
    def __init__(
        self, log: AuditLog, *, most: int = MOST_WAITING, every: float = EVERY_SECONDS
    ) -> None:
        """Write to `log` every `every` seconds; queue at most `most` events."""
        self._log = log
        self._most = most
        self._every = every
        self._waiting: deque[AuditEvent] = deque()
        self._arrived = asyncio.Event()
        self._lost = 0

    def record(self, event: AuditEvent) -> None:
        """Queue an event; if the queue is full, it is only counted."""
        if len(self._waiting) < self._most:
            self._waiting.append(_sanitize_event(event))
        else:
            self._lost += 1
            AUDIT_EVENTS_LOST.inc()
        self._arrived.set()

    async def run(self) -> None:
        """Write queued events, without end; raises AuditUnavailable and keeps the events."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._every)  # events that arrive by then are in the same batch
            await self._write()
            if not self._waiting:
                self._arrived.clear()

    async def _write(self) -> None:
        batch = [self._waiting[place] for place in range(min(len(self._waiting), MAX_BATCH - 1))]
        lost = self._lost
        losses = [_loss_event(lost)] if lost else []
        # Each event has its own row, unless there are very many.
        rows = batch if len(batch) <= COALESCE_ABOVE else coalesce_events(batch)
        await self._log.record([*rows, *losses])
        # Removed only now: if the write failed, they are written the next time.
        for _ in batch:
            self._waiting.popleft()
        self._lost -= lost

    async def flush(self) -> None:
        """Write the queued events at shutdown, within two seconds."""
        with suppress(TimeoutError, AuditUnavailable):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while self._waiting or self._lost:
                    await self._write()
        if left := len(self._waiting) + self._lost:
            _log.error("audit_events_lost", count=left)


def coalesce_events(events: Sequence[AuditEvent]) -> list[AuditEvent]:
    """Merge events that differ only in time and request.

    The first of them remains; its fact `count` is their number.
    """
    counts: Counter[tuple[str | None, ...]] = Counter()
    for event in events:
        counts[_subject(event)] += (event.facts or {}).get("count", 1)
    first: dict[tuple[str | None, ...], AuditEvent] = {}
    for event in events:
        first.setdefault(_subject(event), event)
    return [
        event if counts[subject] == 1 else _with_count(event, counts[subject])
        for subject, event in first.items()
    ]


def _subject(event: AuditEvent) -> tuple[str | None, ...]:
    about = event.kind, event.environment, event.name
    return event.actor, event.action, *about, event.source


def _with_count(event: AuditEvent, count: int) -> AuditEvent:
    return replace(event, facts={**(event.facts or {}), "count": count})


def _loss_event(count: int) -> AuditEvent:
    return AuditEvent(
        at=datetime.now(UTC),
        actor="pilothouse",
        action=_LOST,
        kind="audit",
        environment="*",
        name="*",
        facts={"count": count},
    )


def _sanitize_event(event: AuditEvent) -> AuditEvent:
    """Return the event with texts from the request that every store accepts."""
    return replace(
        event,
        actor=_sanitize_text(event.actor),
        environment=_sanitize_text(event.environment),
        name=_sanitize_text(event.name),
        request_id=event.request_id and _sanitize_text(event.request_id),
        source=event.source and _sanitize_text(event.source),
    )


def _sanitize_text(text: str) -> str:
    return text[:_LONGEST].replace("\0", "\ufffd").encode(errors="replace").decode()
