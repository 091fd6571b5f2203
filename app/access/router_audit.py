"""The audit: who did what, when and from where."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.access.auditing import SPAN, AuditLog, AuditRow, Wanted
from app.access.caller import Calling
from app.access.errors import BadMoment
from app.access.model import Caller, Right
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.state import from_state
from pilothouse_core.times import seconds_of

NDJSON = "application/x-ndjson"
_LOOKS = 25  # calls to the store for one page; where little is wanted, the page stays short
_EXPORTED = 1000  # rows a call
_OF_SERVICES = frozenset({"config", "instance"})

router = APIRouter(tags=["audit"], responses=PROBLEMS)
Audit = Annotated[AuditLog, from_state("audit")]
Text = Annotated[str | None, Query(max_length=500)]
Moment = Annotated[str | None, Query(json_schema_extra={"format": "date-time"})]


class AuditRowOut(BaseModel):
    seq: int = Field(description="The row's place, from 1 on without gaps.")
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
        description="`before` and `after`: keyed fingerprints; of a reveal its `keys`; never values"
    )
    hash: str = Field(description="Ties the row to all before it; hexadecimal.")

    @classmethod
    def of(cls, row: AuditRow) -> "AuditRowOut":
        return cls(
            seq=row.seq,
            at=row.at,
            actor=row.actor,
            action=row.action,
            kind=row.kind,
            environment=row.environment,
            name=row.name,
            version=row.version,
            revision=row.revision,
            request_id=row.request_id,
            source=row.source,
            facts=None if row.facts is None else dict(row.facts),
            hash=row.hash.hex(),
        )


@router.get(
    "/api/v1/audit",
    response_model=Page[AuditRowOut],
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    summary="Read the audit, oldest first",
    description="With `Accept: application/x-ndjson` all rows from there on, one a line. A page "
    "has only what the caller may see; with filters it may be short although there is a next.",
)
async def read_audit(
    request: Request,
    audit: Audit,
    caller: Calling,
    since_seq: Annotated[int, Query(ge=0, lt=2**63, description="Rows after this one.")] = 0,
    actor: Text = None,
    action: Text = None,
    kind: Text = None,
    environment: Text = None,
    name: Text = None,
    from_: Annotated[Moment, Query(alias="from", description="Of this moment and later.")] = None,
    to: Annotated[Moment, Query(description="Before this moment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Any:
    # Who may read it only in part has to name a part.
    caller.demand(Right.READ_AUDIT, environment or "*", (name or "*").partition("/")[0])
    wanted = Wanted(
        actor, action, kind, environment, name, _moment("from", from_), _moment("to", to)
    )
    after = decode_cursor(cursor, int)[0] if cursor else since_seq
    if NDJSON in request.headers.get("accept", ""):
        last = (await audit.head()).seq
        return StreamingResponse(_lines(audit, caller, wanted, after, last), media_type=NDJSON)
    return await _page(audit, caller, wanted, after, limit)


async def _page(
    audit: AuditLog, caller: Caller, wanted: Wanted, after: int, limit: int
) -> Page[AuditRowOut]:
    last = (await audit.head()).seq
    shown: list[AuditRowOut] = []
    for _ in range(_LOOKS):
        if after >= last or len(shown) == limit:
            break
        found = await audit.rows(after, limit - len(shown), wanted)
        is_full = len(found) == limit - len(shown)
        after = found[-1].seq if is_full else min(after + SPAN, last)
        shown += _shown(caller, found)
    return Page(items=shown, next=encode_cursor(after) if after < last else None)


async def _lines(
    audit: AuditLog, caller: Caller, wanted: Wanted, after: int, last: int
) -> AsyncIterator[str]:
    while after < last:
        found = await audit.rows(after, _EXPORTED, wanted)
        yield "".join(f"{row.model_dump_json()}\n" for row in _shown(caller, found))
        after = found[-1].seq if len(found) == _EXPORTED else after + SPAN


def _shown(caller: Caller, rows: Sequence[AuditRow]) -> list[AuditRowOut]:
    return [
        AuditRowOut.of(row)
        for row in rows
        if caller.may(Right.READ_AUDIT, row.environment, _service(row))
    ]


def _service(row: AuditRow) -> str:
    """Return the service that a row is about, "" if it is about none."""
    return row.name.partition("/")[0] if row.kind in _OF_SERVICES else ""


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    seconds = seconds_of(text)
    if seconds is None:
        raise BadMoment(name)
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):  # beyond the year 9999, where UTC is another year
        raise BadMoment(name) from None
