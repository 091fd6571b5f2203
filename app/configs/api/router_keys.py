"""Configurations by key."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.configs.api.previews import (
    PREVIEWED,
    WARNED,
    DryRun,
    PreviewOut,
    Previews,
    answer_preview,
    answer_removal,
)
from app.configs.api.requests import (
    FILES,
    AddressedDocument,
    AddressedKey,
    ReadOptionsQuery,
    Resolve,
    Reveal,
    Reveals,
    Span,
    SpannedEnvironment,
    SpannedService,
    User,
    Writer,
    address_of_query_or_body,
    carry_out,
    demand,
    pointer_below,
    pointer_in_value,
    sees_fingerprints,
    span_of,
    write_of,
)
from app.configs.api.schemas import (
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
    ResolvedEffectiveOut,
    ResolvedKeyOut,
    RollbackIn,
    SourceOut,
    ValueIn,
    WarningOut,
)
from app.configs.documents.attempt import Notice, Outcome
from app.configs.documents.edits import CreateKey, PatchKeys, RemoveKey, ReplaceKey
from app.configs.documents.effective import Effective
from app.configs.documents.members import checked_key
from app.configs.formats import Format
from app.configs.model import DocumentId, document_id
from app.configs.secrets import mask_secrets
from app.configs.services.answers import KeyAnswer
from app.configs.services.arms import record_read, with_arm
from app.configs.services.documents import DocumentService
from app.configs.services.key_history import KeyHistory
from app.configs.services.keys import KeyService
from app.configs.services.read_options import ReadOptions, used_placeholders
from app.configs.services.reveal import RevealService
from app.configs.services.transfer import MEDIA_TYPES, preferred_format, render_tree
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, adds_stale_header, headers_so_far
from app.web.openapi import (
    CREATED,
    DELETED,
    READ,
    TAGGED_UNLESS_REVEALED,
    UNCHANGED,
    WRITTEN_UNLESS_DRY,
)
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.web.wait_preference import Wait
from app.workers import LARGE_TEXT, in_slices, is_large_request, run_apart
from pilothouse_core.placeholders import Resolution

router = APIRouter(
    prefix="/api/v1",
    tags=["configurations by key"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)

Keys = Annotated[KeyService, from_state("keys")]
Histories = Annotated[KeyHistory, from_state("key_history")]
Documents = Annotated[DocumentService, from_state("documents")]


def _key_out(answer: KeyAnswer, *, fingerprints: bool, notices: Sequence[Notice] = ()) -> KeyOut:
    return KeyOut.of(answer, mask_secrets(answer.value, fingerprints=fingerprints), notices)


def _location(document: DocumentId, key: str) -> str:
    where = {"environment": document.environment, "service_name": document.service}
    if document.user is not None:
        where["user"] = document.user
    if not {"/", "\\"}.isdisjoint(key):
        return f"/api/v1/config/-?{urlencode({'key': key, **where})}"
    return f"/api/v1/config/{quote(key)}?{urlencode(where)}"


@router.post(
    "/config",
    status_code=201,
    response_model=KeyOut,
    responses=CREATED | PREVIEWED,
    summary="Create a key",
)
async def create(
    body: KeyIn,
    response: Response,
    keys: Keys,
    writer: Writer,
    previews: Previews,
    caller: CurrentCaller,
    idempotency: Idempotent,
    *,
    dry_run: DryRun = False,
) -> KeyOut | Response:
    document = document_id(body.environment, body.service_name, body.user)
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = CreateKey(body.key, body.value, body.is_encrypted)
    write = write_of(document, edit, caller, body.comment, idempotency=idempotency)
    pointer_of = pointer_in_value(edit.key, body.value)
    if dry_run:
        return await answer_preview(previews, write, pointer_of)
    outcome = await carry_out(writer, write, pointer_of)
    response.headers["Location"] = _location(document, edit.key)
    return await _written_key_out(response, keys, document, edit.key, outcome, caller)


async def _written_key_out(
    response: Response,
    keys: KeyService,
    document: DocumentId,
    key: str,
    outcome: Outcome,
    caller: Caller,
) -> KeyOut:
    fingerprints = sees_fingerprints(caller, document)
    answer = await keys.written_key(document, key, outcome, fingerprints=fingerprints)
    return _tagged_key_out(response, answer, fingerprints=fingerprints, notices=outcome.notices)


def _tagged_key_out(
    response: Response,
    answer: KeyAnswer,
    *,
    fingerprints: bool,
    notices: Sequence[Notice] = (),
) -> KeyOut:
    response.headers["ETag"] = etag(answer.tag)
    response.headers[REVISION_HEADER] = str(answer.revision)
    return _key_out(answer, fingerprints=fingerprints, notices=notices)


@router.post("/config/bulk", responses=READ, summary="Read many keys at once")
async def bulk(
    body: BulkIn, response: Response, keys: Keys, caller: CurrentCaller, follower: Following
) -> BulkOut:
    response.headers[REVISION_HEADER] = str(follower.revision)
    wanted = _requested_keys(body)
    for document, _ in wanted:
        demand(caller, Right.READ_CONFIGS, document)
    # Of several layers, the one of which least may be seen decides.
    with_secrets = all(sees_fingerprints(caller, document) for document, _ in wanted)
    answers, missing = await keys.bulk(wanted, with_secrets=with_secrets)
    return BulkOut(
        items=await in_slices(answers, lambda answer: _key_out(answer, fingerprints=with_secrets)),
        missing=[
            MissingOut(**SourceOut.of(document).model_dump(), key=key) for document, key in missing
        ],
    )


def _requested_keys(body: BulkIn) -> list[tuple[DocumentId, str]]:
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
    caller: CurrentCaller,
    follower: Following,
    environment: SpannedEnvironment = None,
    service_name: SpannedService = None,
    user: User = None,
    keys: Annotated[list[Key] | None, Query(description="Only these keys.")] = None,
    keys_too: Annotated[
        list[Key] | None, Query(alias="keys[]", description="The same as `keys`.")
    ] = None,
    key: Annotated[list[Key] | None, Query(description="The same as `keys`.")] = None,
    prefix: Annotated[str, Query(description="Only keys in this section.")] = "",
    limit: Limit = 100,
    cursor: Cursor = None,
    *,
    resolve: Resolve = True,
) -> Page[KeyOut]:
    """Without any filter, or with `*`: the keys of every readable layer, layers not merged."""
    wanted = [*(keys or ()), *(keys_too or ()), *(key or ())]
    document = span_of(environment, service_name, user, is_filtered=bool(wanted or prefix))
    if isinstance(document, Span):
        return await _list_span(response, service, document, wanted, prefix, caller, limit, cursor)
    demand(caller, Right.READ_CONFIGS, document)
    revision = await wait_until_followed(
        follower, lambda: service.newest(document, resolve=resolve)
    )
    response.headers[REVISION_HEADER] = str(revision)
    answers = await service.list_keys(
        document,
        wanted,
        prefix,
        resolve=resolve,
        with_secrets=sees_fingerprints(caller, document),
        after=decode_cursor(cursor, str)[0] if cursor else "",
        limit=limit + 1,
    )
    page = answers[:limit]
    more = encode_cursor(page[-1].key) if len(answers) > limit else None
    fingerprints = sees_fingerprints(caller, document)
    items = await in_slices(page, lambda answer: _key_out(answer, fingerprints=fingerprints))
    return Page(items=items, next=more)


async def _list_span(
    response: Response,
    service: KeyService,
    span: Span,
    wanted: Sequence[str],
    prefix: str,
    caller: Caller,
    limit: int,
    cursor: str | None,
) -> Page[KeyOut]:
    """List the keys of every layer of a span that the caller may read."""
    *place, key = decode_cursor(cursor, str, str, str, str) if cursor else ("", "", "", "")
    layers = [
        layer
        for layer in service.reader.documents()
        if span.holds(layer)
        and _sort_key(layer) >= tuple(place)
        and caller.may(Right.READ_CONFIGS, layer.environment, layer.service)
    ]

    def newest() -> int:
        return max((service.newest(layer, resolve=False) for layer in layers), default=0)

    revision = await wait_until_followed(service.reader.follower, newest)
    response.headers[REVISION_HEADER] = str(revision)
    is_begun = bool(layers) and _sort_key(layers[0]) == tuple(place)
    answers = await service.list_keys_of_layers(
        layers,
        wanted,
        prefix,
        with_secrets=lambda layer: sees_fingerprints(caller, layer),
        after=key if is_begun else "",
        limit=limit + 1,
    )
    page = answers[:limit]
    more = None
    if len(answers) > limit:
        more = encode_cursor(*_sort_key(page[-1].source), page[-1].key)
    items = await in_slices(
        page,
        lambda answer: _key_out(answer, fingerprints=sees_fingerprints(caller, answer.source)),
    )
    return Page(items=items, next=more)


def _sort_key(layer: DocumentId) -> tuple[str, str, str]:
    return layer.environment, layer.service, layer.user or ""


@router.patch(
    "/config",
    response_model=PatchOut | PreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Set, encrypt and unset many keys in one version",
)
async def change_keys(
    body: PatchIn,
    response: Response,
    writer: Writer,
    previews: Previews,
    document: AddressedDocument,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    *,
    dry_run: DryRun = False,
) -> PatchOut | Response:
    demand(caller, Right.WRITE_CONFIGS, document)
    unset, encrypt = tuple(body.unset), tuple(body.encrypt)
    edit = await run_apart(is_large_request(), PatchKeys, body.set, unset, encrypt)
    write = write_of(document, edit, caller, body.comment, expected=expected)
    pointer_of = pointer_below("set", body.set)
    if dry_run:
        return await answer_preview(previews, write, pointer_of)
    outcome = await carry_out(writer, write, pointer_of)
    version = outcome.body.version if outcome.body is not None else 0
    response.headers["ETag"] = etag(str(version))
    response.headers[REVISION_HEADER] = str(outcome.revision)
    return PatchOut(
        **SourceOut.of(document).model_dump(),
        version=version,
        changed=outcome.changed,
        warnings=WarningOut.all(outcome.notices),
    )


@router.get(
    "/config/{key}",
    response_model=ResolvedKeyOut | KeyOut,
    responses=TAGGED_UNLESS_REVEALED | UNCHANGED,
    summary="Read a key",
)
async def get(
    key: AddressedKey,
    response: Response,
    keys: Keys,
    reveals: Reveals,
    document: AddressedDocument,
    caller: CurrentCaller,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    options: ReadOptionsQuery,
    version: Annotated[
        int | None,
        Query(ge=1, lt=2**31, description="The value in this version of the addressed layer."),
    ] = None,
    *,
    resolve: Resolve = True,
    reveal: Reveal = False,
) -> KeyOut | Response:
    demand(caller, Right.READ_CONFIGS, document)
    options.demand_all_layers(resolve=resolve, version=version)

    with_secrets = sees_fingerprints(caller, document) and version is None

    def tag() -> str:
        if not resolve:
            return keys.layer_tag(document, fingerprints=with_secrets)
        now = with_arm(keys, document, options)
        return keys.tag(document, fingerprints=with_secrets, options=now)

    if version is None and not reveal:
        await hold_until_changed(tag, known, wait, follower, fresh, caller.require_still_valid)
    options = with_arm(keys, document, options)
    revision = str(
        await wait_until_followed(follower, lambda: keys.newest(document, resolve=resolve))
    )
    if reveal:
        demand(caller, Right.REVEAL, document)
        answer, value = await reveals.reveal(
            document, key, caller, version, resolve=resolve, options=options
        )
        response.headers.update({"Cache-Control": "no-store", REVISION_HEADER: revision})
        if options.resolve_placeholders:
            return ResolvedKeyOut.of_resolved(answer, value)
        return KeyOut.of(answer, value)
    if version is not None:
        answer = await keys.get_version(document, key, version)
    else:
        answer = await keys.get(
            document, key, resolve=resolve, with_secrets=with_secrets, options=options
        )
        record_read(keys, document, options, caller, answer.tag, answer.revision)
    if matches(known, etag(answer.tag)):
        headers = {**headers_so_far(response), REVISION_HEADER: revision}
        return not_modified(etag(answer.tag), headers)
    shown = _tagged_key_out(response, answer, fingerprints=with_secrets)
    response.headers[REVISION_HEADER] = revision
    if options.resolve_placeholders:
        return ResolvedKeyOut.of_resolved(answer, shown.value)
    return shown


@router.put(
    "/config/{key}",
    response_model=KeyOut | PreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Replace a key's value",
)
async def replace(
    key: AddressedKey,
    body: ValueIn,
    response: Response,
    keys: Keys,
    writer: Writer,
    previews: Previews,
    document: AddressedDocument,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    request: Request,
    *,
    dry_run: DryRun = False,
) -> KeyOut | Response:
    document = address_of_query_or_body(document, body, request.query_params)
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = ReplaceKey(key, body.value, body.is_encrypted)
    write = write_of(document, edit, caller, body.comment, expected=expected)
    pointer_of = pointer_in_value(key, body.value)
    if dry_run:
        return await answer_preview(previews, write, pointer_of)
    outcome = await carry_out(writer, write, pointer_of)
    return await _written_key_out(response, keys, document, key, outcome, caller)


@router.delete(
    "/config/{key}",
    status_code=204,
    response_model=None,
    responses=DELETED | WARNED,
    summary="Remove a key from its layer",
)
async def remove(
    key: AddressedKey,
    writer: Writer,
    previews: Previews,
    document: AddressedDocument,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    *,
    dry_run: DryRun = False,
) -> Response:
    """Where schemas warn of the removal, the answer is 200 with the warnings."""
    demand(caller, Right.WRITE_CONFIGS, document)
    write = write_of(document, RemoveKey(key), caller, expected=expected)
    if dry_run:
        return await answer_preview(previews, write)
    return answer_removal(await carry_out(writer, write))


@router.get("/config/{key}/history", responses=READ, summary="Every change of a key, newest first")
async def history(
    key: AddressedKey,
    response: Response,
    histories: Histories,
    document: AddressedDocument,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[KeyChangeOut]:
    demand(caller, Right.READ_CONFIGS, document)
    response.headers[REVISION_HEADER] = str(follower.revision)
    before = decode_cursor(cursor, int)[0] if cursor else None
    changes = await histories.changes(document, key, limit, before)
    more = encode_cursor(changes[-1].version) if len(changes) == limit else None
    return Page(items=[KeyChangeOut.of(change) for change in changes], next=more)


@router.post(
    "/config/{key}/rollback",
    response_model=KeyOut | PreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Write an earlier value as a new version",
)
async def rollback(
    key: AddressedKey,
    body: RollbackIn,
    response: Response,
    keys: Keys,
    documents: Documents,
    writer: Writer,
    previews: Previews,
    document: AddressedDocument,
    caller: CurrentCaller,
    idempotency: Idempotent,
    *,
    dry_run: DryRun = False,
) -> KeyOut | Response:
    demand(caller, Right.WRITE_CONFIGS, document)
    edit = await documents.edit_to_restore(document, body.version, checked_key(key))
    write = write_of(document, edit, caller, body.comment, idempotency=idempotency)
    if dry_run:
        return await answer_preview(previews, write)
    outcome = await carry_out(writer, write)
    return await _written_key_out(response, keys, document, key, outcome, caller)


_RENDERED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The merged configuration; formats other than JSON contain only its data.",
        "content": {**FILES, "application/json": {}},
        **TAGGED_UNLESS_REVEALED[200],
    }
}


@router.get(
    "/effective",
    response_model=ResolvedEffectiveOut | EffectiveOut,
    responses=UNCHANGED | _RENDERED,
    summary="The effective configuration of a service: all layers merged",
)
async def effective(
    request: Request,
    response: Response,
    keys: Keys,
    reveals: Reveals,
    document: AddressedDocument,
    caller: CurrentCaller,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    options: ReadOptionsQuery,
    *,
    reveal: Reveal = False,
) -> Response:
    demand(caller, Right.READ_CONFIGS, document)
    form = preferred_format(request.headers.get("accept", "*/*"))
    if form is None:
        raise HTTPException(406)
    if reveal:
        return await _reveal_effective(
            keys, reveals, document, form, options, caller, headers_so_far(response)
        )
    with_secrets = sees_fingerprints(caller, document)

    def tag_now() -> str:
        now = with_arm(keys, document, options)
        return keys.tag(document, form, fingerprints=with_secrets, options=now)

    await hold_until_changed(tag_now, known, wait, follower, fresh, caller.require_still_valid)
    options = with_arm(keys, document, options)
    revision = await wait_until_followed(follower, lambda: keys.newest(document))
    headers = {**headers_so_far(response), "Vary": "Accept", REVISION_HEADER: str(revision)}
    version_tag = keys.tag(document, form, fingerprints=with_secrets, options=options)
    record_read(keys, document, options, caller, version_tag, revision)
    tag = etag(version_tag)
    if matches(known, tag):
        return not_modified(tag, headers)
    configuration = await keys.effective(document, with_secrets=with_secrets, options=options)
    resolved = await keys.resolve(configuration, options) if options.resolve_placeholders else None
    data: dict[str, Any] = configuration.merged.data if resolved is None else resolved.value
    if configuration.layers:
        is_large = configuration.size > LARGE_TEXT
        data = await run_apart(is_large, mask_secrets, data, fingerprints=with_secrets)
    return await _render_effective(form, configuration, data, {**headers, "ETag": tag}, resolved)


async def _reveal_effective(
    keys: KeyService,
    reveals: RevealService,
    document: DocumentId,
    form: Format,
    options: ReadOptions,
    caller: Caller,
    headers: dict[str, str],
) -> Response:
    demand(caller, Right.REVEAL, document)
    options = with_arm(keys, document, options)
    revision = await wait_until_followed(keys.reader.follower, lambda: keys.newest(document))
    record_read(
        keys, document, options, caller, keys.tag(document, form, options=options), revision
    )
    headers = {"Cache-Control": "no-store", REVISION_HEADER: str(revision)} | headers
    configuration = await keys.effective(document, with_secrets=True, options=options)
    if options.resolve_placeholders:
        clear = await reveals.reveal_resolved(configuration, options, caller)
        return await _render_effective(form, configuration, clear.value, headers, clear)
    revealed = await reveals.reveal_all(configuration, caller)
    return await _render_effective(form, configuration, revealed, headers)


async def _render_effective(
    form: Format,
    configuration: Effective,
    data: dict[str, Any],
    headers: dict[str, str],
    resolved: Resolution | None = None,
) -> Response:
    is_large = configuration.size > LARGE_TEXT
    if form != "json":
        text = await run_apart(is_large, render_tree, data, form)
        return Response(text, media_type=MEDIA_TYPES[form], headers=headers)
    if resolved is None:
        return await model_response(is_large, lambda: EffectiveOut.of(configuration, data), headers)
    uses = {
        key: used_placeholders(configuration, in_leaf) for key, in_leaf in resolved.uses.items()
    }
    return await model_response(
        is_large, lambda: ResolvedEffectiveOut.of_resolved(configuration, data, uses), headers
    )
