"""Routes of schemas: what effective configurations have to meet."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.errors import Denied
from app.access.model import Caller, Right
from app.changes.errors import BadFilter
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    min_revision_dependency,
    wait_until_followed,
)
from app.rules.api.definition_schemas import DefinitionDiffOut, DefinitionVersionOut
from app.rules.api.schemas import (
    AppliedSchemaOut,
    AppliedSchemasOut,
    SchemaIn,
    SchemaOut,
    SchemaRollbackIn,
    SchemaWrittenOut,
    may_read,
)
from app.rules.definitions.model import Definition
from app.rules.judging.errors import SchemaNotMet
from app.rules.policies.model import Authority
from app.rules.schemas.reading import EVERY_ENVIRONMENT
from app.rules.services.schemas import SchemaRequest, SchemaService, SchemaWritten
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
    WRITTEN_UNLESS_DRY,
)
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.workers import LARGE_TEXT, run_apart
from pilothouse_core.diff import diff
from pilothouse_core.names import is_name

SCHEMAS = "/api/v1/schemas"
router = APIRouter(
    prefix=SCHEMAS,
    tags=["schemas"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Schemas = Annotated[SchemaService, from_state("schemas")]
SchemaName = Annotated[str, Path(json_schema_extra=NAME)]
Comment = Annotated[
    str, Query(max_length=1000, description="Reason for the change; kept in the history.")
]
DryRun = Annotated[bool, Query(description="Judge what exists, and write nothing.")]
Version = Annotated[int | None, Query(ge=1, lt=2**31)]
_MOST_VERSIONS = 2**31 - 1  # what the store has room for


def demand_read(caller: Caller) -> None:
    """Raise Denied unless the caller may read configurations anywhere."""
    if not caller.has_right_anywhere(Right.READ_CONFIGS):
        raise Denied(Right.READ_CONFIGS, "", "")


def demand_write(caller: Caller, applies_to: list[dict[str, Any]]) -> None:
    """Raise Denied unless one grant of the caller reaches all that a schema applies to."""
    for each in applies_to:
        for environment in each.get("environments", EVERY_ENVIRONMENT):
            for service in each.get("services", ["*"]):
                caller.demand(Right.WRITE_RULES, environment, service)


def refuse_bad_names(*names: str | None) -> None:
    """Raise BadFilter for the name of an environment, service or schema that none can have."""
    for name in names:
        if name is not None and not is_name(name):
            raise BadFilter(name)


def schema_request(caller: Caller, comment: str, expected: IfMatch = ANY_VERSION) -> SchemaRequest:
    return SchemaRequest(
        caller.actor(),
        comment,
        caller.request_id,
        expected,
        caller.source or None,
        lambda current: demand_write_of(caller, current),
        Authority(bypass_reason=caller.bypass_reason),
    )


def demand_write_of(caller: Caller, definition: Definition | None) -> None:
    """Raise Denied unless the caller may change what a schema says now, or any if there is none."""
    if definition is not None and not definition.is_deleted:
        demand_write(caller, json.loads(definition.text)["applies_to"])
    elif not caller.has_right_anywhere(Right.WRITE_RULES):
        raise Denied(Right.WRITE_RULES, "", "")


@router.get("", responses=READ, summary="List schemas by name")
async def list_schemas(
    response: Response,
    schemas: Schemas,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[SchemaOut]:
    demand_read(caller)
    await set_revision(response, schemas, follower)
    after = decode_cursor(cursor, str)[0] if cursor else ""
    rest = [each for each in schemas.catalog.live("schema") if each.name > after]
    page = rest[:limit]
    more = encode_cursor(page[-1].name) if len(rest) > limit else None
    is_large = sum(len(each.text) for each in page) > LARGE_TEXT
    items = await run_apart(is_large, lambda: [SchemaOut.of(each) for each in page])
    return Page(items=items, next=more)


async def set_revision(response: Response, schemas: SchemaService, follower: Following) -> None:
    newest = await wait_until_followed(follower, lambda: schemas.catalog.revision)
    response.headers[REVISION_HEADER] = str(newest)


@router.get(
    "/for",
    response_model=AppliedSchemasOut,
    responses=TAGGED | UNCHANGED,
    summary="The schemas that judge one configuration",
)
async def schemas_for(
    response: Response,
    schemas: Schemas,
    follower: Following,
    caller: CurrentCaller,
    known: IfNoneMatch,
    environment: Annotated[str, Query(json_schema_extra=NAME)] = "default",
    service_name: Annotated[str, Query(json_schema_extra=NAME)] = "_shared",
) -> Any:
    """A client judges by them what it has read, as the service judges what is written."""
    refuse_bad_names(environment, service_name)
    caller.demand(Right.READ_CONFIGS, environment, service_name)
    await set_revision(response, schemas, follower)
    mounted = schemas.catalog.schemas_of(environment, service_name)
    tag = etag(",".join(f"{schema.name}.{schema.version}@{at}" for schema, at in mounted) or "-")
    if matches(known, tag):
        return not_modified(tag, headers_so_far(response))
    response.headers["ETag"] = tag
    items = [
        AppliedSchemaOut.model_validate(
            {
                "name": schema.name,
                "version": schema.version,
                "mode": schema.mode,
                "at": at,
                "plain_secret": schema.plain_secret,
                "schema": json.loads(schemas.current(schema.name).text)["schema"],
            }
        )
        for schema, at in mounted
    ]
    return AppliedSchemasOut(
        environment=environment,
        service_name=service_name,
        items=items,
        revision=schemas.catalog.revision,
    )


def applications_of(name: str, members: dict[str, Any]) -> list[dict[str, Any]]:
    stated: list[dict[str, Any]] | None = members.get("applies_to")
    return stated or [{"environments": EVERY_ENVIRONMENT, "services": [name]}]


@router.get(
    "/{name}", response_model=SchemaOut, responses=TAGGED | UNCHANGED, summary="Read a schema"
)
async def get_schema(
    name: SchemaName,
    response: Response,
    schemas: Schemas,
    follower: Following,
    caller: CurrentCaller,
    known: IfNoneMatch,
    version: Version = None,
) -> Response:
    demand_read(caller)
    await set_revision(response, schemas, follower)
    if version is None:
        definition = schemas.current(name)
    else:
        definition = await schemas.undeleted_version(name, version)
    tag = etag(str(definition.version))
    if matches(known, tag):
        return not_modified(tag, headers_so_far(response))
    response.headers["ETag"] = tag
    return await _answer(response, definition)


async def _answer(response: Response, definition: Definition) -> Response:
    is_large = len(definition.text) > LARGE_TEXT
    return await model_response(is_large, lambda: SchemaOut.of(definition), response.headers)


@router.put(
    "/{name}",
    response_model=SchemaWrittenOut,
    responses=WRITTEN_UNLESS_DRY | CREATED,
    summary="Create or replace a schema",
)
async def put_schema(
    name: SchemaName,
    body: SchemaIn,
    response: Response,
    schemas: Schemas,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    *,
    dry_run: DryRun = False,
) -> Response:
    """An enforced schema has to be met by every configuration that exists."""
    members = body.members()
    demand_write(caller, applications_of(name, members))
    await schemas.catch_up()
    demand_write_of(caller, schemas.catalog.definition("schema", name))
    request = schema_request(caller, body.comment, expected)
    try:
        written = await schemas.put(name, members, request, dry_run=dry_run)
    except SchemaNotMet as error:
        raise error_for(error, caller) from None
    return await _answer_written(response, written, caller, dry_run=dry_run)


def error_for(error: SchemaNotMet, caller: Caller) -> SchemaNotMet:
    return SchemaNotMet(error.name, error.problems, lambda pair: may_read(caller, pair))


async def _answer_written(
    response: Response,
    written: SchemaWritten,
    caller: Caller,
    *,
    dry_run: bool = False,
    is_creation: bool = True,
) -> Response:
    definition = written.definition
    status = 200
    if not dry_run:
        response.headers["ETag"] = etag(str(definition.version))
        response.headers[REVISION_HEADER] = str(definition.revision)
        if is_creation and written.changed and definition.action == "created":
            response.headers["Location"] = f"{SCHEMAS}/{definition.name}"
            status = 201
    return await model_response(
        len(definition.text) > LARGE_TEXT,
        lambda: SchemaWrittenOut.of_written(written, caller, dry_run=dry_run),
        response.headers,
        status,
    )


@router.delete("/{name}", status_code=204, responses=DELETED, summary="Delete a schema")
async def delete_schema(
    name: SchemaName,
    response: Response,
    schemas: Schemas,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    comment: Comment = "",
) -> None:
    """The history is kept; a schema that is created later under the name continues it."""
    await schemas.catch_up()
    demand_write_of(caller, schemas.catalog.definition("schema", name))
    deleted = await schemas.delete(name, schema_request(caller, comment, expected))
    response.headers[REVISION_HEADER] = str(deleted.revision)


@router.get("/{name}/history", responses=READ, summary="Every version of a schema, newest first")
async def schema_history(
    name: SchemaName,
    response: Response,
    schemas: Schemas,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DefinitionVersionOut]:
    demand_read(caller)
    await set_revision(response, schemas, follower)
    before = min(decode_cursor(cursor, int)[0], _MOST_VERSIONS) if cursor else None
    versions = await schemas.history(name, limit, before)
    more = encode_cursor(versions[-1].version) if len(versions) == limit else None
    is_large = sum(len(each.text) for each in versions) > LARGE_TEXT
    items = await run_apart(is_large, lambda: [DefinitionVersionOut.of(each) for each in versions])
    return Page(items=items, next=more)


@router.get("/{name}/diff", responses=READ, summary="What differs between two versions")
async def schema_diff(
    name: SchemaName,
    response: Response,
    schemas: Schemas,
    follower: Following,
    caller: CurrentCaller,
    old_version: Version = None,
    new_version: Version = None,
) -> DefinitionDiffOut:
    """By default, between the current version and the one before it."""
    demand_read(caller)
    await set_revision(response, schemas, follower)
    newest = (await schemas.history(name, 1))[0].version
    new = newest if new_version is None else new_version
    old = max(new - 1, 1) if old_version is None else old_version
    before, after = await schemas.version(name, old), await schemas.version(name, new)
    difference = await run_apart(
        len(before.text) + len(after.text) > LARGE_TEXT,
        lambda: diff(_members(before), _members(after)),
    )
    return DefinitionDiffOut.of(name, (old, new), difference)


def _members(definition: Definition) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(definition.text) if definition.text else {}
    return members


@router.post(
    "/{name}/rollback",
    response_model=SchemaWrittenOut,
    responses=WRITTEN,
    summary="Write an earlier version as a new one",
)
async def roll_back_schema(
    name: SchemaName,
    body: SchemaRollbackIn,
    response: Response,
    schemas: Schemas,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    await schemas.catch_up()
    demand_write_of(caller, schemas.catalog.definition("schema", name))
    old = await schemas.undeleted_version(name, body.version)
    demand_write_of(caller, old)
    request = schema_request(caller, body.comment, expected)
    try:
        written = await schemas.roll_back(name, old, request)
    except SchemaNotMet as error:
        raise error_for(error, caller) from None
    return await _answer_written(response, written, caller, is_creation=False)
