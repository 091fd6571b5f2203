"""Routes of templates: which exist, and what they say. Their use is a matter of documents."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.errors import Denied
from app.access.model import Caller, Right
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    min_revision_dependency,
    wait_until_followed,
)
from app.rules.api.definition_schemas import DefinitionDiffOut, DefinitionVersionOut
from app.rules.api.template_schemas import (
    TemplateIn,
    TemplateOut,
    TemplateRollbackIn,
    TemplateWrittenOut,
)
from app.rules.definitions.model import Definition, Scope
from app.rules.services.templates import (
    TemplateRequest,
    TemplateService,
    TemplateWritten,
    scopes_of,
)
from app.web.bodies import StrictRoute
from app.web.conditional import (
    ANY_VERSION,
    ExpectedVersions,
    IfMatch,
    IfNoneMatch,
    etag,
    matches,
    not_modified,
)
from app.web.freshness import adds_stale_header, headers_so_far
from app.web.openapi import (
    CREATED,
    DELETED,
    NAME,
    READ,
    TAGGED,
    UNCHANGED,
    WRITTEN,
    with_model,
)
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, fitting_items
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.diff import diff

TEMPLATES = "/api/v1/templates"
router = APIRouter(
    prefix=TEMPLATES,
    tags=["templates"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Templates = Annotated[TemplateService, from_state("templates")]
TemplateName = Annotated[str, Path(json_schema_extra=NAME)]
Comment = Annotated[
    str, Query(max_length=1000, description="Reason for the change; kept in the history.")
]
_MOST_VERSIONS = 2**31 - 1  # what the store has room for
Version = Annotated[int | None, Query(ge=1, le=_MOST_VERSIONS)]


def demand_read_of_templates(caller: Caller) -> None:
    """Raise Denied unless the caller may read configurations anywhere."""
    if not caller.has_right_anywhere(Right.READ_CONFIGS):
        raise Denied(Right.READ_CONFIGS, "", "")


def _demand_write(caller: Caller, scopes: Sequence[Scope]) -> None:
    """Raise Denied unless each pattern of where a template applies lies within one grant.

    Of what applies nowhere, because it is deleted, only a caller learns who may write somewhere.
    """
    if not caller.has_right_anywhere(Right.WRITE_RULES):
        raise Denied(Right.WRITE_RULES, "", "")
    for scope in scopes:
        for environment in scope.environments:
            for service in scope.services:
                caller.demand(Right.WRITE_RULES, environment, service)


def _request(caller: Caller, comment: str, expected: IfMatch = ANY_VERSION) -> TemplateRequest:
    return TemplateRequest(
        caller.actor(),
        comment,
        caller.request_id,
        lambda scopes: _demand_write(caller, scopes),
        expected,
        caller.source or None,
    )


async def set_template_revision(
    response: Response, templates: TemplateService, follower: Following
) -> None:
    newest = await wait_until_followed(follower, lambda: templates.catalog.revision)
    response.headers[REVISION_HEADER] = str(newest)


@router.get("", responses=READ, summary="List templates by name")
async def list_templates(
    response: Response,
    templates: Templates,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TemplateOut]:
    demand_read_of_templates(caller)
    await set_template_revision(response, templates, follower)
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [each for each in templates.list_current() if each.name > after]
    page = fitting_items(rest[:limit], lambda each: len(each.text))
    more = encode_cursor(page[-1].name) if len(rest) > len(page) else None
    is_large = sum(len(each.text) for each in page) > LARGE_TEXT
    items = await run_apart(is_large, lambda: [TemplateOut.of(each) for each in page])
    return Page(items=items, next=more)


@router.get(
    "/{name}", response_model=TemplateOut, responses=TAGGED | UNCHANGED, summary="Read a template"
)
async def get_template(
    name: TemplateName,
    response: Response,
    templates: Templates,
    follower: Following,
    caller: CurrentCaller,
    known: IfNoneMatch,
    version: Version = None,
) -> Response:
    demand_read_of_templates(caller)
    await set_template_revision(response, templates, follower)
    if version is None:
        definition = templates.current(name)
    else:
        definition = await templates.undeleted_version(name, version)
    tag = etag(str(definition.version))
    if matches(known, tag):
        return not_modified(tag, headers_so_far(response))
    response.headers["ETag"] = tag
    is_large = len(definition.text) > LARGE_TEXT
    return await model_response(is_large, lambda: TemplateOut.of(definition), response.headers)


@router.put(
    "/{name}",
    response_model=TemplateWrittenOut,
    responses=WRITTEN | with_model(TemplateWrittenOut, CREATED),
    summary="Create or replace a template",
)
async def put_template(
    name: TemplateName,
    body: TemplateIn,
    response: Response,
    templates: Templates,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    """Documents that have used the template stay as they are until they are upgraded."""
    request = _request(caller, body.comment, expected)
    written = await templates.put(name, body.members(), request)
    return await _answer_written(response, written)


async def _answer_written(response: Response, written: TemplateWritten) -> Response:
    definition = written.definition
    response.headers["ETag"] = etag(str(definition.version))
    response.headers[REVISION_HEADER] = str(definition.revision)
    status = 200
    if written.changed and definition.action == "created":
        response.headers["Location"] = f"{TEMPLATES}/{definition.name}"
        status = 201
    is_large = len(definition.text) > LARGE_TEXT
    return await model_response(
        is_large, lambda: TemplateWrittenOut.of_written(written), response.headers, status
    )


@router.delete("/{name}", status_code=204, responses=DELETED, summary="Delete a template")
async def delete_template(
    name: TemplateName,
    response: Response,
    templates: Templates,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    comment: Comment = "",
) -> None:
    """Documents that have used it keep their keys. The history is kept: a template that is created
    later under the name continues the version numbers.
    """
    deleted = await templates.delete(name, _request(caller, comment, expected))
    response.headers[REVISION_HEADER] = str(deleted.revision)


@router.get("/{name}/history", responses=READ, summary="Every version of a template, newest first")
async def template_history(
    name: TemplateName,
    response: Response,
    templates: Templates,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DefinitionVersionOut]:
    demand_read_of_templates(caller)
    await set_template_revision(response, templates, follower)
    before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
    versions = await templates.history(name, limit, before)
    page = fitting_items(versions, lambda each: len(each.text))
    is_last = not page or page[-1].version <= 1
    more = None if is_last else encode_cursor(page[-1].version)
    is_large = sum(len(each.text) for each in page) > LARGE_TEXT
    items = await run_apart(is_large, lambda: [DefinitionVersionOut.of(each) for each in page])
    return Page(items=items, next=more)


@router.get("/{name}/diff", responses=READ, summary="What differs between two versions")
async def template_diff(
    name: TemplateName,
    response: Response,
    templates: Templates,
    follower: Following,
    caller: CurrentCaller,
    old_version: Version = None,
    new_version: Version = None,
) -> DefinitionDiffOut:
    """By default, between the current version and the one before it."""
    demand_read_of_templates(caller)
    await set_template_revision(response, templates, follower)
    newest = (await templates.history(name, 1))[0].version
    new = newest if new_version is None else new_version
    old = max(new - 1, 1) if old_version is None else old_version
    before, after = await templates.version(name, old), await templates.version(name, new)
    is_large = len(before.text) + len(after.text) > LARGE_TEXT
    difference = await run_apart(is_large, lambda: diff(_members(before), _members(after)))
    return DefinitionDiffOut.of(name, (old, new), difference)


def _members(definition: Definition) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(definition.text) if definition.text else {}
    return members


@router.post(
    "/{name}/rollback",
    response_model=TemplateWrittenOut,
    responses=WRITTEN,
    summary="Write an earlier version of a template as a new one",
)
async def roll_back_template(
    name: TemplateName,
    body: TemplateRollbackIn,
    response: Response,
    templates: Templates,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    """A deleted template is restored. Documents stay as they are until they are upgraded."""
    _demand_write(caller, scopes_of(templates.newest(name)))
    old = await templates.undeleted_version(name, body.version)
    request = _request(caller, body.comment, expected)
    return await _answer_written(response, await templates.roll_back(name, old, request))
