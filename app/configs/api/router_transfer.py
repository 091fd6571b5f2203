"""Import and export of configuration files."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.configs.api.requests import FILES, AddressedDocument, Reveals, demand, write_of
from app.configs.api.schemas import ImportedOut, ImportOut
from app.configs.documents.edits import PatchKeys
from app.configs.formats import Format
from app.configs.services.transfer import MEDIA_TYPES, TransferService, render_tree
from app.web.bodies import OCTETS, check_file_type, read_text
from app.web.conditional import IfNoneMatch, etag, matches, not_modified
from app.web.freshness import adds_stale_header, headers_so_far
from app.web.openapi import TAGGED, UNCHANGED, with_headers
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.workers import LARGE_TEXT, run_apart

router = APIRouter(
    prefix="/api/v1",
    tags=["import and export"],
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)

Transfer = Annotated[TransferService, from_state("transfer")]
Form = Annotated[Format, Query(alias="format")]
Secrets = Annotated[
    Literal["masked", "left-out", "revealed"],
    Query(description="`revealed` needs the right `secrets:reveal`, is audited and never cached."),
]
Types = Annotated[
    bool,
    Query(
        description="Use comments in properties and dotenv files for the types of values that are "
        "not text and for the keys of variables. YAML and JSON need no comments."
    ),
]

# Names that YAML had before its media type was registered.
_EARLIER_TYPES: dict[Format, tuple[str, ...]] = {
    "yaml": ("application/x-yaml", "text/yaml", "text/x-yaml")
}


async def _read_file(
    request: Request,
    form: Form = "yaml",
    charset: Annotated[
        Literal["utf-8", "iso-8859-1"] | None,
        Query(
            description="Character set of the file. Default: UTF-8; properties that are not valid "
            "UTF-8 are read as ISO-8859-1, as Java writes them."
        ),
    ] = None,
) -> str:
    check_file_type(request, MEDIA_TYPES[form], *_EARLIER_TYPES.get(form, ()))
    otherwise = "iso-8859-1" if form == "properties" else None
    return await read_text(request, charset, otherwise=otherwise)


_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The content of the file, in UTF-8 unless `charset` is set.",
        "content": {**FILES, OCTETS: {"schema": {"type": "string", "format": "binary"}}},
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
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Merge a file into its layers",
)
async def import_file(
    text: Annotated[str, Depends(_read_file)],
    response: Response,
    transfer: Transfer,
    document: AddressedDocument,
    caller: CurrentCaller,
    idempotency: Idempotent,
    form: Form = "yaml",
    comment: Annotated[str, Query(max_length=1000)] = "",
    *,
    dry_run: Annotated[
        bool, Query(description="Report what would change, and write nothing.")
    ] = False,
    types: Types = False,
) -> ImportOut:
    demand(caller, Right.WRITE_CONFIGS, document)
    template = write_of(document, PatchKeys(), caller, comment, idempotency=idempotency)
    report = await transfer.import_file(
        document,
        text,
        form,
        template,
        dry_run=dry_run,
        types=types,
        allow=lambda written: demand(caller, Right.WRITE_CONFIGS, written),
    )
    revision = max((imported.revision for imported in report.documents), default=0)
    if revision:
        response.headers[REVISION_HEADER] = str(revision)
    return ImportOut(
        dry_run=dry_run,
        documents=[ImportedOut.of_import(imported) for imported in report.documents],
        notes=list(report.notes),
    )


@router.get(
    "/export", response_class=Response, responses=UNCHANGED | _TEXT, summary="One layer as a file"
)
async def export_file(
    response: Response,
    transfer: Transfer,
    document: AddressedDocument,
    follower: Following,
    known: IfNoneMatch,
    caller: CurrentCaller,
    reveals: Reveals,
    form: Form = "yaml",
    secrets: Secrets = "masked",
    *,
    types: Types = False,
) -> Response:
    """An exported file, masked or revealed, can be imported with its secrets as secrets.

    A mask keeps the secret of the layer. Properties and dotenv files have a comment instead of a
    mask, and need `types` to contain revealed secrets.
    """
    demand(caller, Right.READ_CONFIGS, document)
    headers = {**headers_so_far(response), REVISION_HEADER: str(follower.revision)}
    if secrets == "revealed":
        demand(caller, Right.REVEAL, document)
        body, data = await reveals.reveal_layer(document, caller)
        text = await run_apart(body.size > LARGE_TEXT, lambda: render_tree(data, form, types=types))
        headers["Cache-Control"] = "no-store"
        return Response(text, media_type=MEDIA_TYPES[form], headers=headers)
    text, body = await transfer.export_layer(
        document, form, leaves_out=secrets == "left-out", types=types
    )
    tag = etag(str(body.version))
    if matches(known, tag):
        return not_modified(tag, headers)
    return Response(text, media_type=MEDIA_TYPES[form], headers={**headers, "ETag": tag})
