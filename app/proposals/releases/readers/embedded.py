"""Who reads what, in this process's own state: the default, for one replica."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from app.changes.log.sqlite_log import format_timestamp
from app.proposals.releases.errors import ReleasesUnavailable
from app.proposals.releases.readers.model import (
    MOST_INSTANCES,
    Place,
    Read,
    Reader,
    Report,
    ReportCounts,
)
from app.sqlite.calls import StateCalls
from app.sqlite.state import SQLiteState

_FORGET_AT_MOST = 1000
_READS = """
    INSERT INTO readers (
        environment, service, instance, etag, revision, release, arm, read_at, code, seen_at
    )
    VALUES (:environment, :service, :instance, :etag, :revision, :release, :arm, :now, '', :now)
    ON CONFLICT (environment, service, instance) DO UPDATE SET
        etag = :etag, revision = :revision, release = :release, arm = :arm, read_at = :now,
        seen_at = :now
"""
_REPORT = """
    INSERT INTO readers (
        environment, service, instance, etag, revision, release, arm, outcome, code, reported_at,
        seen_at
    )
    VALUES (
        :environment, :service, :instance, '', 0, :release, :arm, :outcome, :code, :now, :now
    )
    ON CONFLICT (environment, service, instance) DO UPDATE SET
        release = :release, arm = :arm, outcome = :outcome, code = :code, reported_at = :now,
        seen_at = :now
"""
_COUNTED_REPORT = """
    INSERT INTO release_reports (release, instance, arm, outcome, code, at)
    SELECT :release, :instance, ifnull(:arm, 'stable'), :outcome, :code, :now
    WHERE :most > (SELECT count(*) FROM release_reports WHERE release = :release)
        OR EXISTS (
            SELECT 1 FROM release_reports WHERE release = :release AND instance = :instance
        )
    ON CONFLICT (release, instance) DO UPDATE SET
        arm = excluded.arm, outcome = excluded.outcome, code = excluded.code, at = excluded.at
        WHERE outcome <> 'refused'
"""


class EmbeddedReaderStore:
    def __init__(self, state: SQLiteState) -> None:
        self._calls = StateCalls(state, "the store of readers", ReleasesUnavailable)

    async def record_reads(self, reads: Mapping[Place, Read]) -> None:
        await self._calls.write(partial(_record_reads, reads=reads))

    async def record_report(self, place: Place, report: Report) -> None:
        await self._calls.write(partial(_record_report, place=place, report=report))

    async def report_counts(self, releases: Sequence[str]) -> Mapping[str, ReportCounts]:
        return await self._calls.read(partial(_report_counts, releases=releases))

    async def page(
        self,
        environment: str | None,
        service: str | None,
        after: tuple[str, str, str] | None,
        limit: int,
    ) -> Sequence[Reader]:
        values = (environment, service, *(after or ("", "", "")), limit)

        def select(connection: sqlite3.Connection) -> list[Reader]:
            rows = connection.execute(
                "SELECT * FROM readers WHERE environment = ifnull(?, environment)"
                " AND service = ifnull(?, service)"
                " AND (environment, service, instance) > (?, ?, ?)"
                " ORDER BY environment, service, instance LIMIT ?",
                values,
            )
            return [_reader_of_row(row) for row in rows]

        return await self._calls.read(select)

    async def forget(self, older_than: float) -> int:
        return await self._calls.write(partial(_forget, older_than=older_than))


def _record_reads(connection: sqlite3.Connection, reads: Mapping[Place, Read]) -> None:
    now = format_timestamp(datetime.now(UTC))
    connection.executemany(
        _READS,
        [
            {
                **_place_members(place),
                "etag": read.etag,
                "revision": read.revision,
                "release": read.release,
                "arm": read.arm,
                "now": now,
            }
            for place, read in reads.items()
        ],
    )


def _record_report(connection: sqlite3.Connection, place: Place, report: Report) -> None:
    row = {
        **_place_members(place),
        "release": report.release,
        "arm": report.arm,
        "outcome": report.outcome,
        "code": report.code,
        "now": format_timestamp(datetime.now(UTC)),
        "most": MOST_INSTANCES,
    }
    connection.execute(_REPORT, row)
    if report.release is not None:
        connection.execute(_COUNTED_REPORT, row)


def _report_counts(
    connection: sqlite3.Connection, releases: Sequence[str]
) -> dict[str, ReportCounts]:
    counts = {}
    for release in releases:
        row = connection.execute(
            "SELECT count(*) AS reports, sum(outcome = 'adopted') AS adopted,"
            " sum(outcome = 'refused') AS refused FROM release_reports"
            " WHERE release = ? AND arm = 'candidate'",
            (release,),
        ).fetchone()
        if row["reports"]:
            counts[release] = ReportCounts(row["adopted"], row["refused"])
    return counts


def _forget(connection: sqlite3.Connection, older_than: float) -> int:
    bounds = {
        "before": format_timestamp(datetime.now(UTC) - timedelta(seconds=older_than)),
        "limit": _FORGET_AT_MOST,
    }
    old = connection.execute(
        "DELETE FROM readers WHERE rowid IN"
        " (SELECT rowid FROM readers WHERE seen_at < :before LIMIT :limit)",
        bounds,
    )
    ended = connection.execute(
        "DELETE FROM release_reports WHERE rowid IN (SELECT r.rowid FROM release_reports r"
        " JOIN releases s ON s.id = r.release WHERE s.ended_at < :before LIMIT :limit)",
        bounds,
    )
    return old.rowcount + ended.rowcount


def _place_members(place: Place) -> dict[str, object]:
    return {
        "environment": place.environment,
        "service": place.service,
        "instance": place.instance,
    }


def _reader_of_row(row: sqlite3.Row) -> Reader:
    read_at, reported_at = row["read_at"], row["reported_at"]
    return Reader(
        place=Place(row["environment"], row["service"], row["instance"]),
        etag=row["etag"],
        revision=row["revision"],
        release=row["release"],
        arm=row["arm"],
        read_at=read_at and datetime.fromisoformat(read_at),
        outcome=row["outcome"],
        code=row["code"],
        reported_at=reported_at and datetime.fromisoformat(reported_at),
    )
