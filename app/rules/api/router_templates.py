"""Routes of templates: which exist, and what they say. Their use is a matter of documents."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.rules.api.definition_answers import (
    Comment,
    Version,
    answer_version,
    answer_written,
    definition_request,
    demand_in,
    demand_read,
    diff_of_versions,
    history_page,
    page_of,
    set_revision,
)
from app.rules.api.definition_schemas import DefinitionDiffOut, DefinitionVersionOut
from app.rules.api.template_schemas import (
    TemplateIn,
    TemplateOut,
    TemplateRollbackIn,
    TemplateWrittenOut,
)
from app.rules.services.templates import TemplateService
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, IfNoneMatch
from app.web.freshness import adds_stale_header
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
from app.web.paging import Cursor, Limit, Page
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

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


@router.get("", responses=READ, summary="List templates by name")
async def list_templates(
    response: Response,
    templates: Templates,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TemplateOut]:
    demand_read(caller)
    await set_revision(response, templates, follower)
    return await page_of(templates.list_current(), limit, cursor, TemplateOut.of)


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
    demand_read(caller)
    await set_revision(response, templates, follower)
    if version is None:
        definition = templates.current(name)
    else:
        definition = await templates.undeleted_version(name, version)
    return await answer_version(response, definition, known, TemplateOut.of)


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
    request = definition_request(caller, Right.WRITE_RULES, body.comment, expected)
    written = await templates.put(name, body.members(), request)
    return await answer_written(response, written, TEMPLATES, TemplateWrittenOut.of_written)


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
    request = definition_request(caller, Right.WRITE_RULES, comment, expected)
    deleted = await templates.delete(name, request)
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
    demand_read(caller)
    await set_revision(response, templates, follower)
    return await history_page(templates, name, limit, cursor)


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
    demand_read(caller)
    await set_revision(response, templates, follower)
    return await diff_of_versions(templates, name, old_version, new_version)


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
    newest = templates.newest(name)
    demand_in(caller, Right.WRITE_RULES, templates.scopes_of(newest.text if newest else ""))
    old = await templates.undeleted_version(name, body.version)
    request = definition_request(caller, Right.WRITE_RULES, body.comment, expected)
    written = await templates.roll_back(name, old, request)
    return await answer_written(response, written, TEMPLATES, TemplateWrittenOut.of_written)
