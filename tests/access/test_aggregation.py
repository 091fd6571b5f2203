"""What comes often is counted: one row for each subject and minute, written when it has ended."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.audit.aggregation import EventAggregator, EventSubject
from app.audit.embedded import EmbeddedAuditLog
from app.audit.port import AuditFilter, AuditRow
from app.audit.recorder import COALESCE_ABOVE, AuditRecorder
from app.sqlite.state import SQLiteState

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
REFUSED = EventSubject("anonymous", "refused", "access", source="10.0.0.7")


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Bench:
    def __init__(self, state: SQLiteState) -> None:
        self.clock = Clock()
        self.log = EmbeddedAuditLog(state)
        self.recorder = AuditRecorder(self.log)
        self.tally = EventAggregator(self.recorder, most=3, now=self.clock)

    async def rows(self) -> list[AuditRow]:
        await self.recorder.flush()
        return list(await self.log.rows(0, 1000, AuditFilter()))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    state = SQLiteState(tmp_path)
    yield Bench(state)
    await state.close()


async def test_a_minute_is_one_row_that_tells_how_many(bench: Bench) -> None:
    for number in range(400):
        code = "credentials_contradict" if number % 100 == 0 else "token_refused"
        bench.tally.count(REFUSED, code, f"r-{number}")
        bench.clock.pass_seconds(0.1)
    assert await bench.rows() == []

    bench.clock.pass_seconds(19.9)
    bench.tally.close_minute()
    assert await bench.rows() == []

    bench.clock.pass_seconds(0.1)
    bench.tally.close_minute()

    (row,) = await bench.rows()
    assert (row.actor, row.action, row.kind, row.source) == (
        "anonymous",
        "refused",
        "access",
        "10.0.0.7",
    )
    assert (row.at, row.request_id) == (NOON, "r-0")
    assert row.facts == {
        "count": 400,
        "codes": {"credentials_contradict": 4, "token_refused": 396},
        "until": (NOON + timedelta(seconds=39.9)).isoformat(),
    }


async def test_minutes_and_subjects_are_counted_apart(bench: Bench) -> None:
    other = EventSubject("anonymous", "refused", "access", source="10.0.0.8")
    bench.tally.count(REFUSED, "token_refused", "r-1")
    bench.tally.count(other, "token_refused", "r-2")
    bench.clock.pass_seconds(60)
    bench.tally.count(REFUSED, "token_refused", "r-3")

    first, second = await bench.rows()
    bench.tally.flush()
    *_, third = await bench.rows()

    assert [row.source for row in (first, second, third)] == ["10.0.0.7", "10.0.0.8", "10.0.0.7"]
    assert third.at == NOON + timedelta(seconds=60)


async def test_the_end_writes_what_was_counted_so_far(bench: Bench) -> None:
    bench.tally.count(REFUSED, "token_refused", "r-1")

    bench.tally.flush()
    bench.tally.flush()

    assert [row.facts and row.facts["count"] for row in await bench.rows()] == [1]


async def test_many_addresses_do_not_make_many_rows(bench: Bench) -> None:
    for number in range(500):
        source = f"10.0.{number // 250}.{number % 250}"
        bench.tally.count(EventSubject("anonymous", "refused", "access", source=source), "x", "r")
    bench.tally.flush()

    rows = await bench.rows()

    assert [row.source for row in rows] == ["10.0.0.0", "10.0.0.1", "10.0.0.2", None]
    assert [(row.facts or {})["count"] for row in rows] == [1, 1, 1, 497]


async def test_counts_are_added_where_the_recorder_makes_one_of_several(bench: Bench) -> None:
    for _ in range(COALESCE_ABOVE + 1):
        for _ in range(3):
            bench.tally.count(REFUSED, "token_refused", "r")
        bench.clock.pass_seconds(60)
    bench.tally.close_minute()

    (row,) = await bench.rows()

    assert row.facts is not None
    assert row.facts["count"] == 3 * (COALESCE_ABOVE + 1)
