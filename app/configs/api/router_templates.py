"""Routes of the use of templates by documents."""

from typing import Annotated

from fastapi import APIRouter, Response

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.configs.api.requests import demand, sees_fingerprints, write_of
from app.configs.api.template_schemas import (
    TemplateUpgradeIn,
    TemplateUpgradesOut,
    TemplateUsedOut,
    TemplateUseIn,
    TemplateUseOut,
    TemplateUsesOut,
)
from app.configs.documents.attempt import Write
from app.configs.documents.edits import PatchKeys
from app.configs.model import DocumentId
from app.configs.services.answers import layer_tag_of
from app.configs.services.template_upgrades import TemplateUpgrades
from app.configs.services.template_uses import TemplateUses
from app.rules.api.definition_answers import demand_read, set_revision
from app.rules.api.router_templates import TEMPLATES, TemplateName
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions, etag
from app.web.freshness import adds_stale_header
from app.web.openapi import CREATED, READ, with_headers, with_model
from app.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response

router = APIRouter(
    prefix=TEMPLATES,
    tags=["templates"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Uses = Annotated[TemplateUses, from_state("template_uses")]
_MANY_CHANGES = 500  # encoded outside the event loop


@router.post(
    "/{name}/use",
    status_code=201,
    response_model=TemplateUsedOut,
    responses=CREATED | with_model(TemplateUsedOut, with_headers()),
    summary="Write the keys of a template into a document",
)
async def use_template(
    name: TemplateName,
    body: TemplateUseIn,
    response: Response,
    uses: Uses,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
) -> Response:
    """One ordinary write: 201, or 200 if nothing changes and for a dry run.

    The first use writes over what the document has. Later ones keep what was changed by hand.
    """
    document = body.document()
    demand(caller, Right.WRITE_CONFIGS, document)
    write = write_of(
        document,
        PatchKeys(),  # the edit follows from the template
        caller,
        body.comment or f"template {name}",
        expected=expected,
        idempotency=idempotency,
    )
    used = await uses.use(name, body.parameters, write, dry_run=body.dry_run)
    written = used.written
    status = 200
    if written.revision and not body.dry_run:
        status = 201
        tag = layer_tag_of(written.version, fingerprints=sees_fingerprints(caller, document))
        response.headers["ETag"] = etag(tag)
        response.headers[REVISION_HEADER] = str(written.revision)
        response.headers["Location"] = (
            f"/api/configs/{document.service}?environment={document.environment}"
        )
    return await model_response(
        written.changes.count > _MANY_CHANGES,
        lambda: TemplateUsedOut.of_use(name, used, dry_run=body.dry_run),
        response.headers,
        status,
    )


@router.get("/{name}/uses", responses=READ, summary="The documents that use a template")
async def template_uses(
    name: TemplateName,
    response: Response,
    uses: Uses,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> TemplateUsesOut:
    """Documents that the caller may not read are only counted."""
    demand_read(caller)
    await set_revision(response, uses.templates, follower)
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    all_uses = await uses.find(name)
    readable = [each for each in all_uses.versions if _may_read(caller, each)]
    rest = [each for each in readable if (each.environment, each.service) > after]
    page = rest[:limit]
    shown = [await uses.show(name, each) for each in page]
    more = encode_cursor(page[-1].environment, page[-1].service) if len(rest) > limit else None
    return TemplateUsesOut(
        items=[TemplateUseOut.of_found(each) for each in shown if each is not None],
        next=more,
        hidden=len(all_uses.versions) - len(readable),
        unreadable=all_uses.unreadable,
    )


def _may_read(caller: Caller, document: DocumentId) -> bool:
    return caller.may(Right.READ_CONFIGS, document.environment, document.service)


@router.post(
    "/{name}/upgrade",
    response_model=TemplateUpgradesOut,
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Upgrade the documents that use a template",
)
async def upgrade_template(
    name: TemplateName,
    body: TemplateUpgradeIn,
    response: Response,
    uses: Uses,
    caller: CurrentCaller,
) -> Response:
    """One ordinary write for each document, with the parameters of its last use.

    Keys that were changed by hand stay, and are listed. What is refused for one document is
    reported with it, and stops no other. Repeating the request upgrades what is left.
    """
    demand_read(caller)

    def write_to(document: DocumentId) -> Write:
        return write_of(document, PatchKeys(), caller, body.comment or f"template {name}")

    report = await TemplateUpgrades(uses).upgrade(
        name,
        body.upgrade_wanted(),
        write_to,
        lambda document: _may_read(caller, document),
        lambda document: demand(caller, Right.WRITE_CONFIGS, document),
    )
    written = [each.used.written for each in report.results if each.used is not None]
    if newest := max((each.revision for each in written), default=0):
        response.headers[REVISION_HEADER] = str(newest)
    return await model_response(
        sum(each.changes.count for each in written) > _MANY_CHANGES,
        lambda: TemplateUpgradesOut.of_report(report, dry_run=body.dry_run),
        response.headers,
    )
