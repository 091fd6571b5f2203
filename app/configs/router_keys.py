"""Configurations by key."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from app.access.caller import Calling
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, hold, reaches_revision, reflected
from app.configs.answers import KeyAnswer
from app.configs.documents import DocumentService
from app.configs.edits import Patch, checked_key, create_key, patch, remove_key, replace_key
from app.configs.keys import KeyService
from app.configs.model import DocumentId, Finding, document_id
from app.configs.reading import Effective
from app.configs.requests import (
    FILES,
    Addressed,
    AddressedKey,
    Resolve,
    Reveal,
    at_value,
    below,
    demand,
    sees_fingerprints,
    write_of,
)
from app.configs.schemas import (
    BulkIn,
    BulkOut,
    EffectiveOut,
    Key,
    KeyChangeOut,
    KeyIn,
    KeyOut,
    MissingOut,
    PatchIn,
    PatchOut,
    RollbackIn,
    SourceOut,
    ValueIn,
    WarningOut,
)
from app.configs.secrets import masked
from app.configs.transfer import MEDIA_TYPES, chosen_form, rendered
from app.configs.writing import Outcome
from app.web.bodies import StrictRoute
from app.web.conditional import Expected, Known, etag, matches, not_modified
from app.web.freshness import Fresh, carried, marked_when_stale
from app.web.openapi import (
    CREATED,
    DELETED,
    READ,
    TAGGED_UNLESS_REVEALED,
    UNCHANGED,
    WRITTEN,
)
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.state import from_state
from app.web.waiting import Wait

router = APIRouter(
    prefix="/api/v1",
    tags=["configurations by key"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)

Keys = Annotated[KeyService, from_state("keys")]
Documents = Annotated[DocumentService, from_state("documents")]


def _shown(answer: KeyAnswer, *, fingerprints: bool, findings: Sequence[Finding] = ()) -> KeyOut:
    return KeyOut.of(answer, masked(answer.value, fingerprints=fingerprints), findings)


def _location(document: DocumentId, key: str) -> str:
    user = "" if document.user is None else f"&user={document.user.replace('+', '%2B')}"
    return (
        f"/api/v1/config/{key}?environment={document.environment}"
        f"&service_name={document.service}{user}"
    )


@router.post("/config", status_code=201, responses=CREATED, summary="Create a key")
async def create(
    body: KeyIn, response: Response, keys: Keys, caller: Calling, idempotency: Idempotent
) -> KeyOut:
    document = document_id(body.environment, body.service_name, body.user)
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = create_key(checked_key(body.key), body.value, is_encrypted=body.is_encrypted)
    place = at_value(body.key, body.value)
    write = write_of(document, edit, caller, body.comment, idempotency=idempotency, place=place)
    outcome = await keys.write(write)
    response.headers["Location"] = _location(document, body.key)
    return await _written(response, keys, document, body.key, outcome, caller)


async def _written(
    response: Response,
    keys: KeyService,
    document: DocumentId,
    key: str,
    outcome: Outcome,
    caller: Caller,
) -> KeyOut:
    answer = await keys.written(document, key, outcome)
    fingerprints = sees_fingerprints(caller, document)
    return _told(response, answer, fingerprints=fingerprints, findings=outcome.findings)


def _told(
    response: Response,
    answer: KeyAnswer,
    *,
    fingerprints: bool,
    findings: Sequence[Finding] = (),
) -> KeyOut:
    response.headers["ETag"] = etag(answer.tag)
    response.headers[REVISION_HEADER] = str(answer.revision)
    return _shown(answer, fingerprints=fingerprints, findings=findings)


@router.post("/config/bulk", responses=READ, summary="Read many keys at once")
async def bulk(
    body: BulkIn, response: Response, keys: Keys, caller: Calling, follower: Following
) -> BulkOut:
    response.headers[REVISION_HEADER] = str(follower.revision)
    wanted = _wanted(body)
    for document, _ in wanted:
        demand(caller, Right.READ_CONFIGS, document)
    # Of several layers, the one of which least may be seen decides.
    whole = all(sees_fingerprints(caller, document) for document, _ in wanted)
    found, missing = await keys.bulk(wanted, whole=whole)
    return BulkOut(
        items=[_shown(answer, fingerprints=whole) for answer in found],
        missing=[
            MissingOut(**SourceOut.of(document).model_dump(), key=key) for document, key in missing
        ],
    )


def _wanted(body: BulkIn) -> list[tuple[DocumentId, str]]:
    document = document_id(body.environment, body.service_name, body.user)
    single = [(document, key) for key in body.keys or ()]
    several = [
        (document_id(item.environment, item.service_name, item.user), item.key)
        for item in body.items or ()
    ]
    return single + several


@router.get("/config", responses=READ, summary="List keys with the layer each value comes from")
async def list_keys(
    response: Response,
    service: Keys,
    document: Addressed,
    caller: Calling,
    follower: Following,
    keys: Annotated[list[Key] | None, Query(description="Only these keys.")] = None,
    keys_too: Annotated[
        list[Key] | None, Query(alias="keys[]", description="The same as `keys`.")
    ] = None,
    prefix: Annotated[str, Query(description="Only keys in this section.")] = "",
    limit: Limit = 100,
    cursor: Cursor = None,
    *,
    resolve: Resolve = True,
) -> Page[KeyOut]:
    demand(caller, Right.READ_CONFIGS, document)
    wanted = [*(keys or ()), *(keys_too or ())]
    revision = await reflected(follower, lambda: service.newest(document, resolve=resolve))
    response.headers[REVISION_HEADER] = str(revision)
    answers = await service.listed(
        document, wanted, prefix, resolve=resolve, whole=sees_fingerprints(caller, document)
    )
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [answer for answer in answers if answer.key > after]
    page = rest[:limit]
    more = encode_cursor(page[-1].key) if len(rest) > limit else None
    return Page(
        items=[_shown(answer, fingerprints=sees_fingerprints(caller, document)) for answer in page],
        next=more,
    )


@router.patch(
    "/config", responses=WRITTEN, summary="Set, encrypt and unset many keys in one version"
)
async def change_keys(
    body: PatchIn,
    response: Response,
    keys: Keys,
    document: Addressed,
    caller: Calling,
    expected: Expected,
) -> PatchOut:
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = patch(Patch(body.set, tuple(body.unset), tuple(body.encrypt)))
    place = below("set", body.set)
    write = write_of(document, edit, caller, body.comment, expected=expected, place=place)
    outcome = await keys.write(write)
    version = outcome.body.version if outcome.body is not None else 0
    response.headers["ETag"] = etag(str(version))
    response.headers[REVISION_HEADER] = str(outcome.revision)
    return PatchOut(
        **SourceOut.of(document).model_dump(),
        version=version,
        changed=outcome.changed,
        warnings=WarningOut.all(outcome.findings),
    )


@router.get(
    "/config/{key}",
    response_model=KeyOut,
    responses=TAGGED_UNLESS_REVEALED | UNCHANGED,
    summary="Read a key",
)
async def get(
    key: AddressedKey,
    response: Response,
    keys: Keys,
    document: Addressed,
    caller: Calling,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    version: Annotated[
        int | None, Query(ge=1, lt=2**31, description="What the addressed layer said then.")
    ] = None,
    *,
    resolve: Resolve = True,
    reveal: Reveal = False,
) -> KeyOut | Response:
    demand(caller, Right.READ_CONFIGS, document)

    def tag() -> str:
        return keys.tag(document) if resolve else keys.layer_tag(document)

    if version is None and not reveal:
        await hold(tag, known, wait, follower, fresh, caller.stay)
    revision = str(await reflected(follower, lambda: keys.newest(document, resolve=resolve)))
    if reveal:
        demand(caller, Right.REVEAL, document)
        answer, value = await keys.reveal(document, key, caller, version, resolve=resolve)
        response.headers.update({"Cache-Control": "no-store", REVISION_HEADER: revision})
        return KeyOut.of(answer, value)
    if version is not None:
        answer = await keys.get_version(document, key, version)
    else:
        whole = sees_fingerprints(caller, document)
        answer = await keys.get(document, key, resolve=resolve, whole=whole)
    if matches(known, etag(answer.tag)):
        headers = {**carried(response), REVISION_HEADER: revision}
        return not_modified(etag(answer.tag), headers)
    shown = _told(
        response, answer, fingerprints=sees_fingerprints(caller, document) and version is None
    )
    response.headers[REVISION_HEADER] = revision
    return shown


@router.put("/config/{key}", responses=WRITTEN, summary="Replace a key's value")
async def replace(
    key: AddressedKey,
    body: ValueIn,
    response: Response,
    keys: Keys,
    document: Addressed,
    caller: Calling,
    expected: Expected,
) -> KeyOut:
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = replace_key(checked_key(key), body.value, is_encrypted=body.is_encrypted)
    place = at_value(key, body.value)
    write = write_of(document, edit, caller, body.comment, expected=expected, place=place)
    outcome = await keys.write(write)
    return await _written(response, keys, document, key, outcome, caller)


@router.delete(
    "/config/{key}", status_code=204, responses=DELETED, summary="Remove a key from its layer"
)
async def remove(
    key: AddressedKey,
    response: Response,
    keys: Keys,
    document: Addressed,
    caller: Calling,
    expected: Expected,
) -> None:
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = remove_key(checked_key(key))
    outcome = await keys.write(write_of(document, edit, caller, expected=expected))
    response.headers[REVISION_HEADER] = str(outcome.revision)


@router.get("/config/{key}/history", responses=READ, summary="Every change of a key, newest first")
async def history(
    key: AddressedKey,
    response: Response,
    keys: Keys,
    document: Addressed,
    follower: Following,
    caller: Calling,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[KeyChangeOut]:
    demand(caller, Right.READ_CONFIGS, document)
    response.headers[REVISION_HEADER] = str(follower.revision)
    before = decode_cursor(cursor, int)[0] if cursor else None
    changes = await keys.history(document, key, limit, before)
    more = encode_cursor(changes[-1].version) if len(changes) == limit else None
    return Page(items=[KeyChangeOut.of(change) for change in changes], next=more)


@router.post(
    "/config/{key}/rollback",
    responses=WRITTEN,
    summary="Write an earlier value as a new version",
)
async def rollback(
    key: AddressedKey,
    body: RollbackIn,
    response: Response,
    keys: Keys,
    documents: Documents,
    document: Addressed,
    caller: Calling,
    idempotency: Idempotent,
) -> KeyOut:
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = await documents.restoring(document, body.version, checked_key(key))
    write = write_of(document, edit, caller, body.comment, idempotency=idempotency)
    outcome = await keys.write(write)
    return await _written(response, keys, document, key, outcome, caller)


_RENDERED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The merged configuration; other formats hold its data alone.",
        "content": {**FILES, "application/json": {}},
        **TAGGED_UNLESS_REVEALED[200],
    }
}


@router.get(
    "/effective",
    response_model=EffectiveOut,
    responses=UNCHANGED | _RENDERED,
    summary="The configuration a service sees: all layers merged",
)
async def effective(
    request: Request,
    response: Response,
    keys: Keys,
    document: Addressed,
    caller: Calling,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    *,
    reveal: Reveal = False,
) -> EffectiveOut | Response:
    demand(caller, Right.READ_CONFIGS, document)
    form = chosen_form(request.headers.get("accept", "*/*"))
    if form is None:
        raise HTTPException(406)
    if reveal:
        demand(caller, Right.REVEAL, document)
        revision = await reflected(follower, lambda: keys.newest(document))
        headers = {"Cache-Control": "no-store", REVISION_HEADER: str(revision)}
        headers |= carried(response)
        found = await keys.effective(document, whole=True)
        data = await keys.reveal_all(found, caller)
        return _rendered(response, form, found, data, headers)
    await hold(lambda: keys.tag(document, form), known, wait, follower, fresh, caller.stay)
    revision = await reflected(follower, lambda: keys.newest(document))
    headers = {**carried(response), "Vary": "Accept", REVISION_HEADER: str(revision)}
    tag = etag(keys.tag(document, form))
    if matches(known, tag):
        return not_modified(tag, headers)
    found = await keys.effective(document, whole=sees_fingerprints(caller, document))
    data = (
        masked(found.merged.data, fingerprints=sees_fingerprints(caller, document))
        if found.layers
        else {}
    )
    return _rendered(response, form, found, data, {**headers, "ETag": tag})


def _rendered(
    response: Response, form: Any, found: Effective, data: dict[str, Any], headers: dict[str, str]
) -> EffectiveOut | Response:
    if form != "json":
        return Response(rendered(data, form), media_type=MEDIA_TYPES[form], headers=headers)
    response.headers.update(headers)
    return EffectiveOut.of(found, data)
