"""Routes of promotions: compare two environments, promote rows, pin keys and flags."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.audit.port import AuditEvent
from app.audit.recorder import AuditRecorder
from app.changes.revisions import REVISION_HEADER, min_revision_dependency
from app.configs.model import document_id
from app.proposals.promotion.api.schemas import (
    CompareIn,
    ComparisonOut,
    PinIn,
    PinOut,
    PromotionIn,
    PromotionOut,
)
from app.proposals.promotion.comparer import PromotionComparer
from app.proposals.promotion.errors import BadPin, PinNotFound
from app.proposals.promotion.model import Pin, RowKind
from app.proposals.promotion.promoter import Promoter
from app.proposals.promotion.store.port import PromotionStore
from app.rules.api.router_schemas import demand_read
from app.web.bodies import StrictRoute
from app.web.openapi import with_headers
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from pilothouse_core.keys import canonical_key, is_key
from pilothouse_core.names import is_name

_MANY_ROWS = 200
router = APIRouter(
    prefix="/api/v1/promotions",
    tags=["promotions"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency],
)
Comparer = Annotated[PromotionComparer, from_state("promotion_comparer")]
CurrentPromoter = Annotated[Promoter, from_state("promoter")]
Pins = Annotated[PromotionStore, from_state("promotion_store")]
Recorder = Annotated[AuditRecorder, from_state("recorder")]
DryRun = Annotated[bool, Query(description="Report what would be written, and write nothing.")]


@router.post(
    "/compare",
    response_model=ComparisonOut,
    summary="Compare two environments with what was promoted last",
)
async def compare_environments(body: CompareIn, comparer: Comparer, caller: CurrentCaller) -> Any:
    """A row for each key of the services' own layers, and for each flag and segment.

    The caller needs the right to read on both sides. Nothing is written.
    """
    route = body.route()
    comparison = await comparer.compare(route, caller)
    is_large = len(comparison.rows) > _MANY_ROWS
    return await model_response(is_large, lambda: ComparisonOut.of(route, comparison), {})


@router.post(
    "",
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Promote chosen rows",
)
async def promote_rows(
    body: PromotionIn,
    response: Response,
    promoter: CurrentPromoter,
    caller: CurrentCaller,
    *,
    dry_run: DryRun = False,
) -> PromotionOut:
    """All flags and segments are one commit, each service is one version of its document.

    Rows that are the same on both sides already change nothing, so a request may be repeated.
    """
    route = body.route()
    parts = await promoter.promote(
        route,
        [row.chosen_row() for row in body.rows],
        caller,
        compared=body.compared,
        comment=body.comment,
        dry_run=dry_run,
    )
    if revision := max((part.revision for part in parts), default=0):
        response.headers[REVISION_HEADER] = str(revision)
    return PromotionOut.of(route, parts, dry_run=dry_run)


@router.get("/pins", summary="List what no promotion changes")
async def list_pins(
    pins: Pins, caller: CurrentCaller, limit: Limit = 100, cursor: Cursor = None
) -> Page[PinOut]:
    """By environment, kind, service and key; only pins of what the caller may read."""
    demand_read(caller)
    place = decode_cursor(cursor, str, str, str, str) if cursor else ("", "", "", "")
    page: list[Pin] = []
    while len(page) <= limit:
        batch = await pins.pins_after(place, limit + 1)
        page += [pin for pin in batch if caller.may(*_read_right(pin))]
        if len(batch) <= limit:
            break
        place = batch[-1].place
    more = encode_cursor(*page[limit - 1].place) if len(page) > limit else None
    return Page[PinOut](items=[PinOut.of(pin) for pin in page[:limit]], next=more)


@router.post("/pins", summary="Pin a key, a flag or a segment")
async def create_pin(body: PinIn, pins: Pins, caller: CurrentCaller, recorder: Recorder) -> PinOut:
    """No promotion to the environment changes it. Pinning it again replaces the comment."""
    pin = _checked_pin(body.environment, body.kind, body.service_name, body.key)
    caller.demand(*_write_right(pin))
    pin = replace(pin, actor=caller.actor(), comment=body.comment, at=datetime.now(UTC))
    await pins.put_pin(pin)
    recorder.record(_audit_event(pin, caller, "created"))
    return PinOut.of(pin)


@router.delete("/pins", summary="Unpin a key, a flag or a segment")
async def delete_pin(
    pins: Pins,
    caller: CurrentCaller,
    recorder: Recorder,
    environment: Annotated[str, Query(max_length=63)],
    key: Annotated[str, Query(min_length=1, max_length=500)],
    kind: RowKind = "config",
    service_name: Annotated[str, Query(max_length=63)] = "",
) -> PinOut:
    """Answers with the pin that was deleted."""
    pin = _checked_pin(environment, kind, service_name, key)
    caller.demand(*_write_right(pin))
    present = next((one for one in await pins.pins_of(environment) if one == pin), None)
    if present is None or not await pins.delete_pin(pin):
        raise PinNotFound
    recorder.record(_audit_event(pin, caller, "deleted"))
    return PinOut.of(present)


def _checked_pin(environment: str, kind: RowKind, service: str, key: str) -> Pin:
    """Return a pin; raises BadName and BadPin."""
    if kind == "config":
        document = document_id(environment, service)
        if not is_key(key):
            raise BadPin("/key", "is no key")
        return Pin(document.environment, kind, document.service, canonical_key(key))
    document_id(environment, "_shared")
    if service:
        raise BadPin("/service_name", f"a {kind} belongs to no service")
    if not is_name(key):
        raise BadPin("/key", f"is no name of a {kind}")
    return Pin(environment, kind, "", key)


def _read_right(pin: Pin) -> tuple[Right, str, str]:
    right = Right.READ_CONFIGS if pin.kind == "config" else Right.READ_FLAGS
    return right, pin.environment, pin.service


def _write_right(pin: Pin) -> tuple[Right, str, str]:
    right = Right.WRITE_CONFIGS if pin.kind == "config" else Right.WRITE_FLAGS
    return right, pin.environment, pin.service


def _audit_event(pin: Pin, caller: Caller, action: str) -> AuditEvent:
    return AuditEvent(
        at=datetime.now(UTC),
        actor=caller.actor(),
        action=action,
        kind="pin",
        environment=pin.environment,
        name=pin.service or pin.key,
        request_id=caller.request_id,
        source=caller.source or None,
        facts={"kind": pin.kind, "key": pin.key},
    )
