"""Copying of layers."""

from fastapi import APIRouter, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, min_revision_dependency
from app.configs.api.requests import Reveals, demand, write_of
from app.configs.api.router_transfer import Transfer
from app.configs.api.schemas import LayerCopyIn, LayerCopyOut
from app.configs.documents.edits import PatchKeys
from app.configs.services.copies import CopyService
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import with_headers
from app.web.problem import PROBLEMS

router = APIRouter(
    prefix="/api/v1",
    tags=["import and export"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)


@router.post(
    "/copy",
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Merge a layer into another one, with its secrets",
)
async def copy_layer(
    body: LayerCopyIn,
    response: Response,
    reveals: Reveals,
    transfer: Transfer,
    caller: CurrentCaller,
    idempotency: Idempotent,
) -> LayerCopyOut:
    """Keys that the source does not have stay as they are.

    Copying secrets needs `secrets:reveal` at the source, because callers who may reveal at the
    target could read them there; the secrets are audited as revealed.
    """
    source, target = body.source.document(), body.to.document()
    demand(caller, Right.READ_CONFIGS, source)
    demand(caller, Right.WRITE_CONFIGS, target)
    comment = body.comment or f"copied from {source}"
    write = write_of(target, PatchKeys(), caller, comment, idempotency=idempotency)
    result = await CopyService(reveals, transfer).copy(
        source,
        body.keys,
        write,
        caller,
        allow_secrets=lambda: demand(caller, Right.REVEAL, source),
        dry_run=body.dry_run,
    )
    if result.revision:
        response.headers[REVISION_HEADER] = str(result.revision)
    return LayerCopyOut.of_copy(source, result, dry_run=body.dry_run)
