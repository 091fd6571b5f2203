"""Aggregates frequent events into one row of the audit for each subject and minute."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from app.audit.port import AuditEvent
from app.audit.recorder import AuditRecorder

MOST_SUBJECTS: Final = 1000
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class EventSubject:
    """The members that the events of one row have in common."""

    actor: str
    action: str
    kind: str
    environment: str = "*"
    name: str = "*"
    source: str | None = None


@dataclass(slots=True)
class _EventCount:
    first: datetime
    last: datetime
    request_id: str  # of the first
    by_code: Counter[str] = field(default_factory=Counter)


class EventAggregator:
    """Counts events until the minute ends or the service stops, then records the rows."""

    def __init__(
        self,
        recorder: AuditRecorder,
        *,
        most: int = MOST_SUBJECTS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Count at most `most` subjects separately, and all others of a minute together."""
        self._recorder = recorder
        self._most = most
        self._now = now
        self._counts: dict[EventSubject, _EventCount] = {}
        self._minute = _minute_of(now())

    def count(self, subject: EventSubject, code: str, request_id: str) -> None:
        """Count an event; `code` is its outcome."""
        self.close_minute()
        now = self._now()
        if subject not in self._counts and len(self._counts) >= self._most:
            # A caller with many addresses must not fill the audit with them.
            subject = replace(subject, environment="*", name="*", source=None)
        event_count = self._counts.setdefault(subject, _EventCount(now, now, request_id))
        event_count.last = now
        event_count.by_code[code] += 1

    def close_minute(self) -> None:
        """Record the rows of the counted minute if it has ended."""
        minute = _minute_of(self._now())
        if minute != self._minute:
            self.flush()
            self._minute = minute

    def flush(self) -> None:
        """Record what was counted so far."""
        counts, self._counts = self._counts, {}
        for subject, event_count in counts.items():
            self._recorder.record(_event_of_count(subject, event_count))

    async def run(self) -> None:
        """Close each minute when it ends, without end."""
        while True:
            self.close_minute()
            left = self._minute + _MINUTE - self._now()
            # At least half a second, in case the clock was set back.
            await asyncio.sleep(min(max(left.total_seconds(), 0.5), 60.0))


def _event_of_count(subject: EventSubject, event_count: _EventCount) -> AuditEvent:
    return AuditEvent(
        at=event_count.first,
        actor=subject.actor,
        action=subject.action,
        kind=subject.kind,
        environment=subject.environment,
        name=subject.name,
        request_id=event_count.request_id,
        source=subject.source,
        facts={
            "count": event_count.by_code.total(),
            "codes": dict(sorted(event_count.by_code.items())),
            "until": event_count.last.isoformat(),
        },
    )


def _minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)
