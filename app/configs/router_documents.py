"""Configurations by document: one layer at a time, not merged."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import Calling
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, hold, reaches_revision, reflected
from app.configs.documents import DocumentService
from app.configs.edits import create_document, delete_document, replace_document
from app.configs.model import BASE, DocumentId, document_id
from app.configs.requests import Environment, below, demand, sees_fingerprints, write_of
from app.configs.router_keys import Documents
from app.configs.schemas import (
    ChangedOut,
    DocumentChangeOut,
    DocumentDiffOut,
    DocumentIn,
    DocumentListedOut,
    DocumentOut,
    DocumentWrittenOut,
    RollbackIn,
)
from app.configs.writing import Outcome
from app.web.bodies import StrictRoute
from app.web.conditional import Expected, Known, etag, matches, not_modified
from app.web.freshness import Fresh, carried, marked_when_stale
from app.web.openapi import CREATED, DELETED, NAME, READ, TAGGED, UNCHANGED, WRITTEN
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.waiting import Wait

router = APIRouter(
    prefix="/api/configs",
    tags=["configurations by document"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)

Service = Annotated[str, Path(description="A service, or `_shared`.", json_schema_extra=NAME)]
_MOST_VERSIONS = 2**31 - 1  # what the log has room for
VersionQuery = Annotated[int | None, Query(ge=1, le=_MOST_VERSIONS)]


def _tagged(response: Response, version: int, revision: int) -> None:
    response.headers["ETag"] = etag(str(version))
    response.headers[REVISION_HEADER] = str(revision)


def _written(
    response: Response,
    documents: DocumentService,
    document: DocumentId,
    outcome: Outcome,
    caller: Calling,
) -> DocumentWrittenOut:
    body = outcome.body
    assert body is not None  # a document write always leaves a version
    shown = documents.shown(document, body, fingerprints=sees_fingerprints(caller, document))
    _tagged(response, body.version, outcome.revision)
    return DocumentWrittenOut.written(shown, outcome.findings)


@router.get("", responses=READ, summary="List documents")
async def list_documents(
    response: Response,
    documents: Documents,
    follower: Following,
    caller: Calling,
    environment: Annotated[str | None, Query(description="Only this environment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DocumentListedOut]:
    response.headers[REVISION_HEADER] = str(follower.revision)
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    found = [
        pointer
        for pointer in documents.listed(environment)
        if (pointer.entity.environment, pointer.entity.name) > after
        and caller.may(Right.READ_CONFIGS, pointer.entity.environment, pointer.entity.name)
    ]
    page = found[:limit]
    more = None
    if len(found) > limit:
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
    caller: Calling,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    environment: Environment = BASE,
    version: VersionQuery = None,
) -> DocumentOut | Response:
    document = document_id(environment, service)
    demand(caller, Right.READ_CONFIGS, document)
    if version is None:
        await hold(lambda: documents.tag(document), known, wait, follower, fresh, caller.stay)
    revision = await reflected(follower, lambda: documents.revision(document))
    shown = await documents.get(document, version, fingerprints=sees_fingerprints(caller, document))
    tag = etag(str(shown.body.version))
    if matches(known, tag):
        return not_modified(tag, {**carried(response), REVISION_HEADER: str(revision)})
    _tagged(response, shown.body.version, revision)
    return DocumentOut.of(shown)


@router.post("/{service}", status_code=201, responses=CREATED, summary="Create a document")
async def create(
    service: Service,
    body: DocumentIn,
    response: Response,
    documents: Documents,
    caller: Calling,
    idempotency: Idempotent,
    environment: Environment = BASE,
) -> DocumentWrittenOut:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    outcome = await documents.write(
        write_of(
            document,
            create_document(body.config_data),
            caller,
            body.comment,
            remark=body.created_by,
            idempotency=idempotency,
            place=below("config_data", body.config_data),
        )
    )
    response.headers["Location"] = f"/api/configs/{service}?environment={environment}"
    return _written(response, documents, document, outcome, caller)


@router.put("/{service}", responses=WRITTEN, summary="Replace a document")
async def replace(
    service: Service,
    body: DocumentIn,
    response: Response,
    documents: Documents,
    caller: Calling,
    expected: Expected,
    environment: Environment = BASE,
) -> DocumentWrittenOut:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    outcome = await documents.write(
        write_of(
            document,
            replace_document(body.config_data),
            caller,
            body.comment,
            remark=body.created_by,
            expected=expected,
            replaces=True,
            place=below("config_data", body.config_data),
        )
    )
    return _written(response, documents, document, outcome, caller)


@router.delete(
    "/{service}",
    status_code=204,
    responses=DELETED,
    summary="Delete a document; its history stays",
)
async def delete(
    service: Service,
    response: Response,
    documents: Documents,
    caller: Calling,
    expected: Expected,
    environment: Environment = BASE,
) -> None:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    outcome = await documents.write(
        write_of(document, delete_document, caller, expected=expected, replaces=True)
    )
    response.headers[REVISION_HEADER] = str(outcome.revision)


@router.get(
    "/{service}/history", responses=READ, summary="The versions of a document, newest first"
)
async def history(
    service: Service,
    response: Response,
    documents: Documents,
    follower: Following,
    caller: Calling,
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


@router.get("/{service}/diff", responses=READ, summary="What differs between two versions")
async def diff(
    service: Service,
    response: Response,
    documents: Documents,
    follower: Following,
    caller: Calling,
    environment: Environment = BASE,
    old_version: VersionQuery = None,
    new_version: VersionQuery = None,
) -> DocumentDiffOut:
    document = document_id(environment, service)
    demand(caller, Right.READ_CONFIGS, document)
    response.headers[REVISION_HEADER] = str(follower.revision)
    old, new, found = await documents.diff(document, old_version, new_version)
    return DocumentDiffOut(
        service_name=service,
        environment=environment,
        old_version=old,
        new_version=new,
        added=found.added,
        removed=found.removed,
        changed={key: ChangedOut(old=was, new=now) for key, (was, now) in found.changed.items()},
    )


@router.post(
    "/{service}/rollback",
    responses=WRITTEN,
    summary="Write an earlier document as a new version",
)
async def rollback(
    service: Service,
    body: RollbackIn,
    response: Response,
    documents: Documents,
    caller: Calling,
    idempotency: Idempotent,
    expected: Expected,
    environment: Environment = BASE,
) -> DocumentWrittenOut:
    document = document_id(environment, service)
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = await documents.restoring(document, body.version)
    outcome = await documents.write(
        write_of(
            document,
            edit,
            caller,
            body.comment,
            expected=expected,
            idempotency=idempotency,
            replaces=True,
        )
    )
    return _written(response, documents, document, outcome, caller)
