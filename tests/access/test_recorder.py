"""Events are written in batches, told apart, kept through outages, and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.audit.embedded import EmbeddedAuditLog
from app.audit.errors import AuditUnavailable
from app.audit.port import MAX_BATCH, AuditEvent, AuditFilter, AuditRow
from app.audit.recorder import COALESCE_ABOVE, AuditRecorder, coalesce_events
from app.sqlite.state import SQLiteState
from tests.servers.process import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
EVENT = AuditEvent(NOW, "ana", "denied", "config", "staging", "billing", "r-1", "::1")


def event_of(number: int) -> AuditEvent:
    return replace(EVENT, name=f"s-{number}")


class Wire(EmbeddedAuditLog):
    """The way to the embedded audit, which can be cut."""

    def __init__(self, state: SQLiteState) -> None:
        super().__init__(state)
        self.is_cut = False
        self.calls: list[int] = []  # how many events each had
        self.called = asyncio.Event()

    async def record(self, events: Sequence[AuditEvent]) -> None:
        self.called.set()
        if self.is_cut:
            raise AuditUnavailable("cut")
        await super().record(events)
        self.calls.append(len(events))


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    state = SQLiteState(tmp_path)
    yield Wire(state)
    await state.close()


@asynccontextmanager
async def running(recorder: AuditRecorder) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(recorder.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, AuditUnavailable):
            await task


async def rows_written(wire: Wire, many: int) -> Sequence[AuditRow]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(rows := await wire.rows(0, 1000, AuditFilter())) < many:
            await wire.called.wait()
    return rows


async def test_what_is_noted_is_written_soon(wire: Wire) -> None:
    recorder = AuditRecorder(wire, every=0.01)

    async with running(recorder):
        recorder.record(EVENT)
        (first,) = await rows_written(wire, 1)
        recorder.record(event_of(2))
        _, second = await rows_written(wire, 2)

    assert (first.at, first.name, first.request_id) == (NOW, "billing", "r-1")
    assert second.name == "s-2"


def test_what_differs_in_nothing_but_time_and_request_is_one() -> None:
    again = replace(EVENT, at=NOW.replace(year=2027), request_id="r-2")
    elsewhere = replace(EVENT, source="::2")
    reasoned = replace(EVENT, name="other", facts={"right": "config:read"})

    events = coalesce_events([EVENT, reasoned, again, elsewhere, again, reasoned])

    assert events == [
        replace(EVENT, facts={"count": 3}),
        replace(reasoned, facts={"right": "config:read", "count": 2}),
        elsewhere,
    ]


async def test_no_call_has_more_than_it_may(wire: Wire) -> None:
    recorder = AuditRecorder(wire, every=0.01)
    for number in range(1200):
        recorder.record(event_of(number))

    await recorder.flush()

    assert sum(wire.calls) == 1200
    assert max(wire.calls) <= MAX_BATCH


async def test_what_is_too_much_is_counted_and_told(wire: Wire) -> None:
    recorder = AuditRecorder(wire, most=3)
    for number in range(5):
        recorder.record(event_of(number))

    await recorder.flush()
    recorder.record(EVENT)
    await recorder.flush()

    rows = await wire.rows(0, 10, AuditFilter())
    assert [row.name for row in rows] == ["s-0", "s-1", "s-2", "*", "billing"]
    assert (rows[3].actor, rows[3].action, rows[3].kind) == ("pilothouse", "events_lost", "audit")
    assert rows[3].facts == {"count": 2}


async def test_an_outage_loses_nothing(wire: Wire) -> None:
    recorder = AuditRecorder(wire, every=0.01)
    wire.is_cut = True
    recorder.record(EVENT)
    async with running(recorder) as failed:
        with pytest.raises(AuditUnavailable):
            await failed
    recorder.record(event_of(2))
    wire.is_cut = False

    async with running(recorder):
        rows = await rows_written(wire, 2)

    assert [row.name for row in rows] == ["billing", "s-2"]


async def test_what_cannot_be_written_at_the_end_is_counted_in_the_log(wire: Wire) -> None:
    recorder = AuditRecorder(wire)
    recorder.record(EVENT)
    wire.is_cut = True

    with capture_logs() as logs:
        await recorder.flush()

    assert [(line["event"], line["count"]) for line in logs] == [("audit_events_lost", 1)]


async def test_whatever_somebody_sends_can_be_written(wire: Wire) -> None:
    recorder = AuditRecorder(wire)
    recorder.record(replace(EVENT, name="a\0b\udc80" + "x" * 10_000, actor="\ud800"))

    await recorder.flush()

    (row,) = await wire.rows(0, 10, AuditFilter())
    assert row.name.startswith("a\ufffdb?xxx")
    assert len(row.name) == 500


async def test_a_few_are_written_one_by_one_and_a_flood_is_counted(wire: Wire) -> None:
    recorder = AuditRecorder(wire)
    for number in range(COALESCE_ABOVE):
        recorder.record(replace(EVENT, request_id=f"r-{number}"))
    await recorder.flush()
    for _ in range(COALESCE_ABOVE + 1):
        recorder.record(EVENT)
    await recorder.flush()

    *each, flood = await wire.rows(0, 1000, AuditFilter())
    assert [row.request_id for row in each] == [f"r-{number}" for number in range(COALESCE_ABOVE)]
    assert flood.facts == {"count": COALESCE_ABOVE + 1}
