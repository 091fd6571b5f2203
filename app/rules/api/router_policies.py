"""Routes of policies: which changes need a proposal, and what of it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.audit.port import AuditLog
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
from app.rules.api.policy_schemas import (
    BypassOut,
    PolicyIn,
    PolicyOut,
    PolicyRollbackIn,
    PolicyWrittenOut,
)
from app.rules.services.policies import PolicyService
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
    WRITTEN_UNLESS_DRY,
    with_model,
)
from app.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

POLICIES = "/api/v1/policies"
router = APIRouter(
    prefix=POLICIES,
    tags=["policies"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Policies = Annotated[PolicyService, from_state("policies")]
_LAST_ROW = 2**63 - 1  # as far as the store numbers them
PolicyName = Annotated[str, Path(json_schema_extra=NAME)]
DryRun = Annotated[bool, Query(description="Check it, and write nothing.")]


@router.get("", responses=READ, summary="List policies by name")
async def list_policies(
    response: Response,
    policies: Policies,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[PolicyOut]:
    demand_read(caller)
    await set_revision(response, policies, follower)
    return await page_of(policies.list_current(), limit, cursor, PolicyOut.of_definition)


@router.get("/bypasses", summary="Changes made past a policy, newest first")
async def list_bypasses(
    audit: Annotated[AuditLog, from_state("audit")],
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[BypassOut]:
    """Needs `audit:read` in all environments and over all services."""
    caller.demand(Right.READ_AUDIT, "*", "*")
    before = max(0, min(decode_cursor(cursor, int)[0], _LAST_ROW)) if cursor else None
    rows = await audit.bypasses(before, limit)
    more = encode_cursor(rows[-1].seq) if len(rows) == limit else None
    return Page(items=[BypassOut.of_row(row) for row in rows], next=more)


@router.get(
    "/{name}", response_model=PolicyOut, responses=TAGGED | UNCHANGED, summary="Read a policy"
)
async def get_policy(
    name: PolicyName,
    response: Response,
    policies: Policies,
    follower: Following,
    caller: CurrentCaller,
    known: IfNoneMatch,
    version: Version = None,
) -> Response:
    demand_read(caller)
    await set_revision(response, policies, follower)
    if version is None:
        definition = policies.current(name)
    else:
        definition = await policies.undeleted_version(name, version)
    return await answer_version(response, definition, known, PolicyOut.of_definition)


@router.put(
    "/{name}",
    response_model=PolicyWrittenOut,
    responses=WRITTEN_UNLESS_DRY | with_model(PolicyWrittenOut, CREATED),
    summary="Create or replace a policy",
)
async def put_policy(
    name: PolicyName,
    body: PolicyIn,
    response: Response,
    policies: Policies,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    *,
    dry_run: DryRun = False,
) -> Response:
    """Every change that is made from now on needs what the policy asks for."""
    request = definition_request(caller, Right.WRITE_POLICIES, body.comment, expected)
    written = await policies.put(name, body.members(), request, dry_run=dry_run)
    return await answer_written(
        response,
        written,
        POLICIES,
        lambda written: PolicyWrittenOut.of_written(written, dry_run=dry_run),
        dry_run=dry_run,
    )


@router.delete("/{name}", status_code=204, responses=DELETED, summary="Delete a policy")
async def delete_policy(
    name: PolicyName,
    response: Response,
    policies: Policies,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    comment: Comment = "",
) -> None:
    """The history is kept: a policy that is created later under the name continues its versions."""
    request = definition_request(caller, Right.WRITE_POLICIES, comment, expected)
    deleted = await policies.delete(name, request)
    response.headers[REVISION_HEADER] = str(deleted.revision)


@router.get("/{name}/history", responses=READ, summary="Every version of a policy, newest first")
async def policy_history(
    name: PolicyName,
    response: Response,
    policies: Policies,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[DefinitionVersionOut]:
    demand_read(caller)
    await set_revision(response, policies, follower)
    return await history_page(policies, name, limit, cursor)


@router.get("/{name}/diff", responses=READ, summary="What differs between two versions")
async def policy_diff(
    name: PolicyName,
    response: Response,
    policies: Policies,
    follower: Following,
    caller: CurrentCaller,
    old_version: Version = None,
    new_version: Version = None,
) -> DefinitionDiffOut:
    """By default, between the current version and the one before it."""
    demand_read(caller)
    await set_revision(response, policies, follower)
    return await diff_of_versions(policies, name, old_version, new_version)


@router.post(
    "/{name}/rollback",
    response_model=PolicyWrittenOut,
    responses=WRITTEN,
    summary="Write an earlier version of a policy as a new one",
)
async def roll_back_policy(
    name: PolicyName,
    body: PolicyRollbackIn,
    response: Response,
    policies: Policies,
    caller: CurrentCaller,
    expected: ExpectedVersions,
) -> Response:
    """A deleted policy is restored."""
    newest = policies.newest(name)
    demand_in(caller, Right.WRITE_POLICIES, policies.scopes_of(newest.text if newest else ""))
    old = await policies.undeleted_version(name, body.version)
    request = definition_request(caller, Right.WRITE_POLICIES, body.comment, expected)
    written = await policies.roll_back(name, old, request)
    return await answer_written(response, written, POLICIES, PolicyWrittenOut.of_written)
