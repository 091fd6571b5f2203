"""Import and export of flags."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response

from app.access.caller import Calling
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, reaches_revision, reflected
from app.flags.requests import Environment, request_of
from app.flags.router import FLAGS
from app.flags.schemas import BASE, ArrivalOut, Comment, FlagImportOut, UnexpressedOut
from app.flags.transfer import FlagTransfer, Format
from app.flags.writing import EXPORT
from app.web.bodies import StrictRoute
from app.web.freshness import marked_when_stale
from app.web.openapi import READ, carrying
from app.web.problem import PROBLEMS
from app.web.state import from_state

router = APIRouter(
    prefix=FLAGS,
    tags=["feature flags"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)
Transfer = Annotated[FlagTransfer, from_state("flag_transfer")]
_LeaveOut = Annotated[
    bool, Query(description="Leave out flags that cannot be expressed, instead of refusing all.")
]


@router.post(
    "/import",
    responses=carrying(sometimes=["X-Revision"]),
    summary="Import another system's flags",
)
async def import_flags(
    document: Annotated[
        dict[str, Any], Body(description="flagd's definitions, or an export of Unleash.")
    ],
    response: Response,
    transfer: Transfer,
    caller: Calling,
    idempotency: Idempotent,
    form: Annotated[Format, Query(alias="format")],
    environment: Environment = BASE,
    source_environment: Annotated[
        str | None, Query(description="Which one of an Unleash export that holds several.")
    ] = None,
    comment: Annotated[Comment, Query()] = "",
    *,
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
    leave_out: _LeaveOut = False,
) -> FlagImportOut:
    """All of it becomes one commit, or nothing is changed; nobody changes cohorts.

    Flags that the file does not name stay as they are.
    """
    caller.demand(Right.WRITE_FLAGS, environment)
    read = await transfer.read(document, form, source_environment, partly=dry_run or leave_out)
    if dry_run:
        found = await transfer.preview(environment, read)
    else:
        request = request_of(caller, comment, idempotency=idempotency)
        found = await transfer.imported(environment, read, request)
    if found.revision:
        response.headers[REVISION_HEADER] = str(found.revision)
    return FlagImportOut(
        environment=environment,
        dry_run=dry_run,
        items=[ArrivalOut.model_validate(asdict(arrival)) for arrival in found.arrivals],
        report=[UnexpressedOut.model_validate(asdict(note)) for note in read.report],
    )


@router.get(f"/{EXPORT}", responses=READ, summary="Export flags to another system")
async def export_flags(
    response: Response,
    transfer: Transfer,
    follower: Following,
    form: Annotated[Literal["flagd"], Query(alias="format")],  # noqa: ARG001 - the only one
    caller: Calling,
    environment: Environment = BASE,
    *,
    leave_out: _LeaveOut = False,
) -> dict[str, Any]:
    caller.demand(Right.READ_FLAGS, environment)
    revision = await reflected(follower, lambda: transfer.revision(environment))
    response.headers[REVISION_HEADER] = str(revision)
    return transfer.exported(environment, leave_out=leave_out)
