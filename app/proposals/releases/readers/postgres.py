"""Who reads what, in Postgres: one statement a call."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Interval, Row, bindparam, func, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres.calls import Calls
from app.postgres.tables import readers, release_reports
from app.proposals.releases.errors import ReleasesUnavailable
from app.proposals.releases.readers.model import (
    MOST_INSTANCES,
    Place,
    Read,
    Reader,
    Report,
    ReportCounts,
)

_FORGET_AT_MOST: Final = 1000
# In one order everywhere, or replicas that write the same readers could deadlock.
_READS: Final = text("""
    INSERT INTO readers (
        environment, service, instance, etag, revision, release, arm, read_at, code, seen_at
    )
    SELECT
        given.environment, given.service, given.instance, given.etag, given.revision,
        given.release, given.arm, now(), '', now()
    FROM jsonb_to_recordset(CAST(:reads AS jsonb)) AS given (
        environment text, service text, instance text, etag text, revision bigint, release text,
        arm text
    )
    ORDER BY 1, 2, 3
    ON CONFLICT (environment, service, instance) DO UPDATE SET
        etag = excluded.etag, revision = excluded.revision, release = excluded.release,
        arm = excluded.arm, read_at = excluded.read_at, seen_at = excluded.seen_at
""")
_REPORT: Final = text("""
    WITH given AS (
        SELECT
            CAST(:environment AS text) AS environment, CAST(:service AS text) AS service,
            CAST(:instance AS text) AS instance, CAST(:release AS text) AS release,
            CAST(:arm AS text) AS arm, CAST(:outcome AS text) AS outcome,
            CAST(:code AS text) AS code
    ), counted AS (
        INSERT INTO release_reports AS r (release, instance, arm, outcome, code, at)
        SELECT g.release, g.instance, coalesce(g.arm, 'stable'), g.outcome, g.code, now()
        FROM given g
        WHERE g.release IS NOT NULL AND (
            CAST(:most AS integer) > (
                SELECT count(*) FROM release_reports s WHERE s.release = g.release
            )
            OR EXISTS (
                SELECT FROM release_reports s
                WHERE s.release = g.release AND s.instance = g.instance
            )
        )
        ON CONFLICT (release, instance) DO UPDATE SET
            arm = excluded.arm, outcome = excluded.outcome, code = excluded.code, at = excluded.at
        WHERE r.outcome <> 'refused'
    )
    INSERT INTO readers (
        environment, service, instance, etag, revision, release, arm, outcome, code, reported_at,
        seen_at
    )
    SELECT
        g.environment, g.service, g.instance, '', 0, g.release, g.arm, g.outcome, g.code, now(),
        now()
    FROM given g
    ON CONFLICT (environment, service, instance) DO UPDATE SET
        release = excluded.release, arm = excluded.arm, outcome = excluded.outcome,
        code = excluded.code, reported_at = excluded.reported_at, seen_at = excluded.seen_at
""")
_FORGET: Final = text("""
    WITH old AS (
        DELETE FROM readers WHERE (environment, service, instance) IN (
            SELECT environment, service, instance FROM readers
            WHERE seen_at < now() - :age LIMIT :limit
        ) RETURNING 1
    ), ended AS (
        DELETE FROM release_reports WHERE (release, instance) IN (
            SELECT r.release, r.instance FROM release_reports r
            JOIN releases s ON s.id = r.release
            WHERE s.ended_at < now() - :age LIMIT :limit
        ) RETURNING 1
    )
    SELECT (SELECT count(*) FROM old) + (SELECT count(*) FROM ended)
""").bindparams(bindparam("age", type_=Interval))


class PostgresReaderStore:
    def __init__(self, engine: AsyncEngine) -> None:
        self._calls = Calls(
            engine, lambda why: ReleasesUnavailable(f"the store of readers does not answer: {why}")
        )

    async def record_reads(self, reads: Mapping[Place, Read]) -> None:
        rows = [_row_members(place, read) for place, read in reads.items()]
        await self._calls.run("readers_read", _READS, {"reads": json.dumps(rows)})

    async def record_report(self, place: Place, report: Report) -> None:
        members = {
            "environment": place.environment,
            "service": place.service,
            "instance": place.instance,
            "release": report.release,
            "arm": report.arm,
            "outcome": report.outcome,
            "code": report.code,
            "most": MOST_INSTANCES,
        }
        await self._calls.run("readers_report", _REPORT, members)

    async def report_counts(self, releases: Sequence[str]) -> Mapping[str, ReportCounts]:
        columns = release_reports.c
        query = (
            select(
                columns.release,
                func.count().filter(columns.outcome == "adopted").label("adopted"),
                func.count().filter(columns.outcome == "refused").label("refused"),
            )
            .where(columns.release.in_(releases), columns.arm == "candidate")
            .group_by(columns.release)
        )
        rows = await self._calls.run("readers_counts", query)
        return {row.release: ReportCounts(row.adopted, row.refused) for row in rows}

    async def page(
        self,
        environment: str | None,
        service: str | None,
        after: tuple[str, str, str] | None,
        limit: int,
    ) -> Sequence[Reader]:
        columns = readers.c
        place = tuple_(columns.environment, columns.service, columns.instance)
        query = (
            select(readers)
            .where(
                true() if environment is None else columns.environment == environment,
                true() if service is None else columns.service == service,
                true() if after is None else place > after,
            )
            .order_by(columns.environment, columns.service, columns.instance)
            .limit(limit)
        )
        return [_reader(row) for row in await self._calls.run("readers_page", query)]

    async def forget(self, older_than: float) -> int:
        bounds = {"age": timedelta(seconds=older_than), "limit": _FORGET_AT_MOST}
        return int((await self._calls.run("readers_forget", _FORGET, bounds)).scalar_one())


def _row_members(place: Place, read: Read) -> dict[str, object]:
    return {
        "environment": place.environment,
        "service": place.service,
        "instance": place.instance,
        "etag": read.etag,
        "revision": read.revision,
        "release": read.release,
        "arm": read.arm,
    }


def _reader(row: Row[Any]) -> Reader:
    return Reader(
        place=Place(row.environment, row.service, row.instance),
        etag=row.etag,
        revision=row.revision,
        release=row.release,
        arm=row.arm,
        read_at=row.read_at,
        outcome=row.outcome,
        code=row.code,
        reported_at=row.reported_at,
    )
