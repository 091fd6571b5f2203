"""Import and export of configuration files."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.access.caller import Calling
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, reaches_revision
from app.configs.edits import merge_in
from app.configs.formats import Format
from app.configs.requests import FILES, Addressed, demand, write_of
from app.configs.schemas import ImportedOut, ImportOut
from app.configs.transfer import MEDIA_TYPES, TransferService
from app.web.bodies import RawText
from app.web.conditional import Known, etag, matches, not_modified
from app.web.freshness import carried, marked_when_stale
from app.web.openapi import TAGGED, UNCHANGED, carrying
from app.web.problem import PROBLEMS
from app.web.state import from_state

router = APIRouter(
    prefix="/api/v1",
    tags=["import and export"],
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)

Transfer = Annotated[TransferService, from_state("transfer")]
Form = Annotated[Format, Query(alias="format")]

_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file as it is, in UTF-8.",
        "content": FILES,
    }
}
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": FILES,
        **TAGGED[200],
    }
}


@router.post(
    "/import",
    openapi_extra=_FILE,
    responses=carrying(sometimes=["X-Revision"]),
    summary="Merge a file into its layers",
)
async def import_file(
    text: RawText,
    response: Response,
    transfer: Transfer,
    document: Addressed,
    caller: Calling,
    idempotency: Idempotent,
    form: Form = "yaml",
    comment: Annotated[str, Query(max_length=1000)] = "",
    *,
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
) -> ImportOut:
    demand(caller, Right.WRITE_CONFIGS, document)
    template = write_of(document, merge_in({}), caller, comment, idempotency=idempotency)
    found = await transfer.imported(
        document,
        text,
        form,
        template,
        dry_run=dry_run,
        allow=lambda written: demand(caller, Right.WRITE_CONFIGS, written),
    )
    revision = max((imported.revision for imported in found), default=0)
    if revision:
        response.headers[REVISION_HEADER] = str(revision)
    return ImportOut(
        dry_run=dry_run, documents=[ImportedOut.imported(imported) for imported in found]
    )


@router.get(
    "/export", response_class=Response, responses=UNCHANGED | _TEXT, summary="One layer as a file"
)
async def export_file(
    response: Response,
    transfer: Transfer,
    document: Addressed,
    follower: Following,
    known: Known,
    caller: Calling,
    form: Form = "yaml",
) -> Response:
    demand(caller, Right.READ_CONFIGS, document)
    headers = {**carried(response), REVISION_HEADER: str(follower.revision)}
    text, body = await transfer.exported(document, form)
    tag = etag(str(body.version))
    if matches(known, tag):
        return not_modified(tag, headers)
    return Response(text, media_type=MEDIA_TYPES[form], headers={**headers, "ETag": tag})
