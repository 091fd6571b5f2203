"""Route that judges changes before they are written."""

from fastapi import APIRouter, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.configs.api.previews import Previews, ValidateIn, ValidationOut
from app.configs.api.requests import PointerOf, demand, pointer_below, write_of
from app.configs.checks.errors import DocumentTwice
from app.configs.documents.attempt import Write
from app.configs.model import document_id
from app.configs.services.previews import patch_of
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import READ
from app.web.problem import PROBLEMS
from app.workers import is_large_request, run_apart

router = APIRouter(
    prefix="/api/v1",
    tags=["schemas"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)


@router.post("/validate", responses=READ, summary="Judge changes without writing them")
async def validate(
    body: ValidateIn,
    response: Response,
    previews: Previews,
    caller: CurrentCaller,
    follower: Following,
) -> ValidationOut:
    """The changes are judged together, as if all of them were written at once."""
    response.headers[REVISION_HEADER] = str(follower.revision)
    writes: list[Write] = []
    pointers: list[PointerOf] = []
    for number, change in enumerate(body.changes):
        document = document_id(change.environment, change.service_name, change.user)
        demand(caller, Right.READ_CONFIGS, document)
        if any(document == write.document for write in writes):
            raise DocumentTwice(str(document))
        edit = await run_apart(is_large_request(), patch_of, change.set, change.unset)
        writes.append(write_of(document, edit, caller))
        pointers.append(pointer_below(f"changes/{number}/set", change.set))
    validation = await previews.validate(writes)
    may_read = writes[0].may_read
    return ValidationOut.of(validation, may_read, pointers)
