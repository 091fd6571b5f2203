"""Export and import of schemas."""

from fastapi import APIRouter, Response

from app.access.caller import CurrentCaller
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.errors import PilothouseError
from app.rules.api.router_schemas import (
    SCHEMAS,
    DryRun,
    Schemas,
    applications_of,
    demand_read,
    demand_write,
    demand_write_of,
    error_for,
    schema_request,
    set_revision,
)
from app.rules.api.schemas import (
    ImportedSchemaOut,
    SchemaFailureOut,
    SchemasImportedOut,
    SchemasIn,
    SchemasOut,
    bodies_by_name,
)
from app.rules.errors import DefinitionsUnavailable
from app.rules.judging.errors import SchemaNotMet
from app.rules.services.schemas import SchemaWritten
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import READ, with_headers
from app.web.problem import PROBLEMS
from app.workers import LARGE_TEXT, run_apart

router = APIRouter(
    prefix=SCHEMAS,
    tags=["schemas"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)


@router.get("/export", responses=READ, summary="All schemas as one document")
async def export_schemas(
    response: Response, schemas: Schemas, follower: Following, caller: CurrentCaller
) -> SchemasOut:
    demand_read(caller)
    await set_revision(response, schemas, follower)
    live = schemas.catalog.live("schema")
    is_large = sum(len(each.text) for each in live) > LARGE_TEXT
    bodies = await run_apart(is_large, bodies_by_name, live)
    return SchemasOut(schemas=dict(bodies))


@router.post(
    "/import",
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Create and replace many schemas",
)
async def import_schemas(
    body: SchemasIn,
    response: Response,
    schemas: Schemas,
    caller: CurrentCaller,
    *,
    dry_run: DryRun = False,
) -> SchemasImportedOut:
    """Each schema by itself, in the order of the document; what fails is reported."""
    demand_write_of(caller, None)  # also for an import of nothing
    bodies = {name: each.members() for name, each in body.schemas.items()}
    await schemas.catch_up()
    for name, members in bodies.items():
        demand_write(caller, applications_of(name, members))
        demand_write_of(caller, schemas.catalog.definition("schema", name))
    results: list[ImportedSchemaOut] = []
    revisions: list[int] = []
    for name, members in bodies.items():
        try:
            written = await schemas.put(
                name, members, schema_request(caller, body.comment), dry_run=dry_run
            )
        except PilothouseError as error:
            if isinstance(error, DefinitionsUnavailable) and not any(revisions):
                raise  # as of one schema: none of the others can be written either
            shown = error_for(error, caller) if isinstance(error, SchemaNotMet) else error
            failure = SchemaFailureOut.of(name, shown)
            results.append(ImportedSchemaOut(name=name, status="failed", version=0, error=failure))
            continue
        revisions.append(written.definition.revision if written.changed else 0)
        results.append(_import_result(name, written))
    if newest := max(revisions, default=0):
        response.headers[REVISION_HEADER] = str(newest)
    return SchemasImportedOut(dry_run=dry_run, schemas=results)


def _import_result(name: str, written: SchemaWritten) -> ImportedSchemaOut:
    definition = written.definition
    if not written.changed:
        return ImportedSchemaOut(name=name, status="unchanged", version=definition.version)
    status = "created" if definition.action == "created" else "updated"
    return ImportedSchemaOut(name=name, status=status, version=definition.version)
