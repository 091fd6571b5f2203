"""Configurations by document: one layer at a time, not merged."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.configs.api.previews import (
    WARNED,
    DryRun,
    PreviewOut,
    Previews,
    answer_preview,
    answer_removal,
)
from app.configs.api.requests import (
    Environment,
    Writer,
    carry_out,
    demand,
    pointer_below,
    sees_fingerprints,
    write_of,
)
from app.configs.api.router_keys import Documents
from app.configs.api.schemas import (
    ChangedOut,
    DocumentChangeOut,
    DocumentDiffOut,
    DocumentIn,
    DocumentListedOut,
    DocumentOut,
    DocumentWrittenOut,
    RollbackIn,
)
from app.configs.documents.attempt import Outcome
from app.configs.documents.edits import CreateDocument, DeleteDocument, ReplaceDocument
from app.configs.model import BASE, DocumentId, document_id
from app.configs.services.answers import layer_tag_of
from app.configs.services.documents import DocumentService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, adds_stale_header, headers_so_far
from app.web.openapi import CREATED, DELETED, NAME, READ, TAGGED, UNCHANGED, WRITTEN_UNLESS_DRY
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.responses import model_response
from app.web.wait_preference import Wait
from app.workers import LARGE_TEXT, is_large_request, run_apart

router = APIRouter(
    prefix="/api/configs",
    tags=["configurations by document"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)

Service = Annotated[str, Path(description="A service, or `_shared`.", json_schema_extra=NAME)]
_MANY_CHANGES = 500  # encoded outside the event loop
_MOST_VERSIONS = 2**31 - 1  # what the log has room for
VersionQuery = Annotated[int | None, Query(ge=1, le=_MOST_VERSIONS)]


def _set_headers(response: Response, tag: str, revision: int) -> None:
    response.headers["ETag"] = tag
    response.headers[REVISION_HEADER] = str(revision)


async def _written_response(
    response: Response,
    documents: DocumentService,
    document: DocumentId,
    outcome: Outcome,
    caller: CurrentCaller,
    status: int = 200,
) -> Response:
    body = outcome.body
    assert body is not None  # a document write always leaves a version
    fingerprints = sees_fingerprints(caller, document)
    shown = await documents.visible_version(document, body, fingerprints=fingerprints)
    tag = layer_tag_of(body.version, fingerprints=fingerprints)
    _set_headers(response, etag(tag), outcome.revision)
    is_large = body.size > LARGE_TEXT
    return await model_response(
        is_large,
        lambda: DocumentWrittenOut.of_written(shown, outcome.notices),
        response.headers,
        status,
    )


@router.get("", responses=READ, summary="List documents")
async def list_documents(
    response: Response,
    documents: Documents,
    follower: Following,
    caller: CurrentCaller,
    environment: Annotated[str | None, Query(description="Only this environment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DocumentListedOut]:
    response.headers[REVISION_HEADER] = str(follower.revision)
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    pointers = [
        pointer
        for pointer in documents.list_documents(environment)
        if (pointer.entity.environment, pointer.entity.name) > after
        and caller.may(Right.READ_CONFIGS, pointer.entity.environment, pointer.entity.name)
    ]
    page = pointers[:limit]
    more = None
    if len(pointers) > limit:
        more = encode_cursor(page[-1].entity.environment, page[-1].entity.name)
    return Page(items=[DocumentListedOut.of(pointer) for pointer in page], next=more)


@router.get(
    "/{service}",
    response_model=DocumentOut,
    responses=TAGGED | UNCHANGED,
    summary="Read a document",
)
async def get(
    service: Service,
    response: Response,
    documents: Documents,
    caller: CurrentCaller,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    environment: Environment = BASE,
    version: VersionQuery = None,
) -> Response:
    document = document_id(environment, service)
    demand(caller, Right.READ_CONFIGS, document)
    fingerprints = sees_fingerprints(caller, document)

    def tag_now() -> str:
        return documents.tag(document, fingerprints=fingerprints)

    if version is None:
        await hold_until_changed(tag_now, known, wait, follower, fresh, caller.require_still_valid)
    revision = await wait_until_followed(follower, lambda: documents.revision(document))
    shown = await documents.get(document, version, fingerprints=fingerprints)
    tag = etag(layer_tag_of(shown.body.version, fingerprints=fingerprints))
    if matches(known, tag):
        return not_modified(tag, {**headers_so_far(response), REVISION_HEADER: str(revision)})
    _set_headers(response, tag, revision)
    is_large = shown.body.size > LARGE_TEXT
    return await model_response(is_large, lambda: DocumentOut.of(shown), response.headers)


@router.post(
    "/{service}",
    status_code=201,
    response_model=DocumentWrittenOut,
    responses=CREATED,
    summary="Create a document",
)
async def create(
    service: Service,
    body: DocumentIn,
    response: Response,
    documents: Documents,
    writer: Writer,
    caller: CurrentCaller,
    idempotency: Idempotent,
    environment: Environment = BASE,
) -> Response:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    outcome = await carry_out(
        writer,
        write_of(
            document,
            await run_apart(is_large_request(), CreateDocument, body.config_data),
            caller,
            body.comment,
            remark=body.created_by,
            idempotency=idempotency,
        ),
        pointer_below("config_data", body.config_data),
    )
    response.headers["Location"] = f"/api/configs/{service}?environment={environment}"
    return await _written_response(response, documents, document, outcome, caller, 201)


@router.put(
    "/{service}",
    response_model=DocumentWrittenOut | PreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Replace a document",
)
async def replace(
    service: Service,
    body: DocumentIn,
    response: Response,
    documents: Documents,
    writer: Writer,
    previews: Previews,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: Environment = BASE,
    *,
    dry_run: DryRun = False,
) -> Response:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    write = write_of(
        document,
        await run_apart(is_large_request(), ReplaceDocument, body.config_data),
        caller,
        body.comment,
        remark=body.created_by,
        expected=expected,
        replaces=True,
    )
    pointer_of = pointer_below("config_data", body.config_data)
    if dry_run:
        return await answer_preview(previews, write, pointer_of)
    outcome = await carry_out(writer, write, pointer_of)
    return await _written_response(response, documents, document, outcome, caller)


@router.delete(
    "/{service}",
    status_code=204,
    response_model=None,
    responses=DELETED | WARNED,
    summary="Delete a document; its history stays",
)
async def delete(
    service: Service,
    writer: Writer,
    previews: Previews,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: Environment = BASE,
    *,
    dry_run: DryRun = False,
) -> Response:
    """Where schemas warn of the removal, the answer is 200 with the warnings."""
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    write = write_of(document, DeleteDocument(), caller, expected=expected, replaces=True)
    if dry_run:
        return await answer_preview(previews, write)
    return answer_removal(await carry_out(writer, write))


@router.get(
    "/{service}/history", responses=READ, summary="The versions of a document, newest first"
)
async def history(
    service: Service,
    response: Response,
    documents: Documents,
    follower: Following,
    caller: CurrentCaller,
    environment: Environment = BASE,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DocumentChangeOut]:
    document = document_id(environment, service)
    demand(caller, Right.READ_CONFIGS, document)
    response.headers[REVISION_HEADER] = str(follower.revision)
    before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
    changes = await documents.history(document, limit, before)
    more = encode_cursor(changes[-1].version) if len(changes) == limit else None
    return Page(items=[DocumentChangeOut.of(change) for change in changes], next=more)


@router.get(
    "/{service}/diff",
    response_model=DocumentDiffOut,
    responses=READ,
    summary="What differs between two versions",
)
async def diff(
    service: Service,
    response: Response,
    documents: Documents,
    follower: Following,
    caller: CurrentCaller,
    environment: Environment = BASE,
    old_version: VersionQuery = None,
    new_version: VersionQuery = None,
) -> Response:
    document = document_id(environment, service)
    demand(caller, Right.READ_CONFIGS, document)
    response.headers[REVISION_HEADER] = str(follower.revision)
    old, new, difference = await documents.diff(document, old_version, new_version)

    def build_diff() -> DocumentDiffOut:
        return DocumentDiffOut(
            service_name=service,
            environment=environment,
            old_version=old,
            new_version=new,
            added=difference.added,
            removed=difference.removed,
            changed={
                key: ChangedOut(old=was, new=now) for key, (was, now) in difference.changed.items()
            },
        )

    is_large = difference.count > _MANY_CHANGES
    return await model_response(is_large, build_diff, response.headers)


@router.post(
    "/{service}/rollback",
    response_model=DocumentWrittenOut | PreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Write an earlier document as a new version",
)
async def rollback(
    service: Service,
    body: RollbackIn,
    response: Response,
    documents: Documents,
    writer: Writer,
    previews: Previews,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    environment: Environment = BASE,
    *,
    dry_run: DryRun = False,
) -> Response:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = await documents.edit_to_restore(document, body.version)
    write = write_of(
        document,
        edit,
        caller,
        body.comment,
        expected=expected,
        idempotency=idempotency,
        replaces=True,
    )
    if dry_run:
        return await answer_preview(previews, write)
    outcome = await carry_out(writer, write)
    return await _written_response(response, documents, document, outcome, caller)
