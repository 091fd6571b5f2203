"""The route that reads the audit."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.actors import split_actor
from app.audit.aggregation import EventAggregator, EventSubject
from app.audit.errors import BadTime
from app.audit.port import SCAN_SPAN, AuditFilter, AuditLog, AuditRow
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from pilothouse_core.times import seconds_of

NDJSON = "application/x-ndjson"
_MAX_SCANS = 25  # calls to the store for one page; with rare matches the page stays short
_EXPORT_BATCH = 1000  # rows a call
_CONFIG = "config"
_OF_SERVICES = frozenset({_CONFIG, "instance"})
_FINGERPRINTS = ("before", "after")

router = APIRouter(tags=["audit"], responses=PROBLEMS)
Audit = Annotated[AuditLog, from_state("audit")]
Text = Annotated[str | None, Query(max_length=500)]
Time = Annotated[str | None, Query(json_schema_extra={"format": "date-time"})]


class AuditRowOut(BaseModel):
    seq: int = Field(description="The row's number, from 1 on without gaps.")
    at: datetime
    actor: str
    action: str
    kind: str
    environment: str
    name: str
    version: int | None
    revision: int | None
    request_id: str | None
    source: str | None = Field(description="The address that the request came from.")
    facts: dict[str, Any] | None = Field(
        description="`before` and `after`: keyed fingerprints, those of configurations only for "
        "callers who may reveal them; of a reveal its `keys` and which of them were `inherited`; "
        "never values."
    )
    hash: str | None = Field(
        description="Covers this row and all before it; hexadecimal. Null for callers who may not "
        "read the whole audit: it would let them test guesses of the rows in between."
    )
    actor_id: str | None = Field(
        description="The id of the token that asked; null for people, for the service itself and "
        "in rows that a release before this field wrote."
    )

    @classmethod
    def of(cls, row: AuditRow, caller: Caller) -> "AuditRowOut":
        actor, actor_id = split_actor(row.actor)
        reads_all = caller.may(Right.READ_AUDIT, "*", "*")
        return cls(
            seq=row.seq,
            at=row.at,
            actor=actor,
            action=row.action,
            kind=row.kind,
            environment=row.environment,
            name=row.name,
            version=row.version,
            revision=row.revision,
            request_id=row.request_id,
            source=row.source,
            facts=_visible_facts(row, caller),
            hash=row.hash.hex() if reads_all else None,
            actor_id=actor_id,
        )


@router.get(
    "/api/v1/audit",
    response_model=Page[AuditRowOut],
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    summary="Read the audit, oldest first",
    description="With `Accept: application/x-ndjson`, the response has all following rows, one per "
    "line. A page has only rows that the caller may see; with filters it can be short although "
    "there is a next one.",
)
async def read_audit(
    request: Request,
    audit: Audit,
    tally: Annotated[EventAggregator, from_state("tally")],
    caller: CurrentCaller,
    since_seq: Annotated[int, Query(ge=0, lt=2**63, description="Rows after this one.")] = 0,
    actor: Text = None,
    action: Text = None,
    kind: Text = None,
    environment: Text = None,
    name: Text = None,
    from_: Annotated[Time, Query(alias="from", description="Rows of this time and later.")] = None,
    to: Annotated[Time, Query(description="Rows before this time.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Any:
    # A caller who may read only a part has to name it.
    caller.demand(Right.READ_AUDIT, environment or "*", (name or "*").partition("/")[0])
    wanted = AuditFilter(
        actor, action, kind, environment, name, _parse_time("from", from_), _parse_time("to", to)
    )
    after = decode_cursor(cursor, int)[0] if cursor else since_seq
    is_export = NDJSON in request.headers.get("accept", "")
    tally.count(
        EventSubject(
            caller.actor(), "read", "audit", environment or "*", name or "*", caller.source or None
        ),
        "export" if is_export else "page",
        caller.request_id,
    )
    if is_export:
        last = (await audit.head()).seq
        return StreamingResponse(
            _export_lines(audit, caller, wanted, after, last), media_type=NDJSON
        )
    return await _page(audit, caller, wanted, after, limit)


async def _page(
    audit: AuditLog, caller: Caller, wanted: AuditFilter, after: int, limit: int
) -> Page[AuditRowOut]:
    last = (await audit.head()).seq
    end = min(after + _MAX_SCANS * SCAN_SPAN, last)
    shown: list[AuditRowOut] = []
    count = limit  # for a caller who may see everything, the first call returns the page
    while after < end and len(shown) < limit:
        rows = await audit.rows(after, count, wanted)
        shown += _visible_rows(caller, [row for row in rows if row.seq <= end])
        after = rows[-1].seq if len(rows) == count else min(after + SCAN_SPAN, end)
        count = _EXPORT_BATCH
    # Computed from visible rows and the number of rows: the place of the last scanned row would
    # reveal that there are hidden ones.
    reached = shown[limit - 1].seq if len(shown) >= limit else end
    return Page(items=shown[:limit], next=encode_cursor(reached) if reached < last else None)


async def _export_lines(
    audit: AuditLog, caller: Caller, wanted: AuditFilter, after: int, last: int
) -> AsyncIterator[str]:
    while after < last:
        rows = await audit.rows(after, _EXPORT_BATCH, wanted)
        yield "".join(f"{row.model_dump_json()}\n" for row in _visible_rows(caller, rows))
        after = rows[-1].seq if len(rows) == _EXPORT_BATCH else after + SCAN_SPAN


def _visible_rows(caller: Caller, rows: Sequence[AuditRow]) -> list[AuditRowOut]:
    return [
        AuditRowOut.of(row, caller)
        for row in rows
        if caller.may(Right.READ_AUDIT, row.environment, _service_of(row))
    ]


def _visible_facts(row: AuditRow, caller: Caller) -> dict[str, Any] | None:
    """Return the facts of a row without fingerprints of content that the caller may not see.

    Fingerprints let one test guesses: in rows of earlier releases equal secrets have equal ones.
    """
    if row.facts is None:
        return None
    facts = dict(row.facts)
    if row.kind == _CONFIG and not caller.may(Right.REVEAL, row.environment, _service_of(row)):
        for name in _FINGERPRINTS:
            facts.pop(name, None)
    return facts or None


def _service_of(row: AuditRow) -> str:
    """Return the service that a row is about, "" if it is about none."""
    return row.name.partition("/")[0] if row.kind in _OF_SERVICES else ""


def _parse_time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    seconds = seconds_of(text)
    if seconds is None:
        raise BadTime(name)
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):  # beyond the year 9999, where UTC is another year
        raise BadTime(name) from None
