"""Routes of the users that a flag names, with larger bodies than other routes accept."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.access.caller import CurrentCaller
from app.access.model import Caller, Right
from app.changes.idempotency import Idempotent
from app.changes.model import Idempotency
from app.changes.revisions import REVISION_HEADER, min_revision_dependency
from app.flags.api.definition_kind import FLAGS
from app.flags.api.requests import (
    DryRun,
    EnvironmentParameter,
    FlagName,
    Flags,
    Why,
    write_request,
)
from app.flags.api.schemas import BASE, FlagTargetsOut
from app.flags.definitions.plans import TargetOperation
from app.flags.errors import BadDefinition
from app.flags.targets import FlagTargets, read_lines, read_list
from app.web.bodies import OCTETS, is_json, read_json, read_text
from app.web.conditional import ExpectedVersions, IfMatch, etag
from app.web.freshness import adds_stale_header
from app.web.openapi import with_headers
from app.web.path_rules import LargerBodyRule
from app.web.problem import PROBLEMS
from app.workers import is_large_request, run_apart

router = APIRouter(
    prefix=FLAGS,
    tags=["feature flags"],
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
# 100,000 UUIDs take 3.9 MB as JSON.
LARGER_LIST = LargerBodyRule(
    frozenset({"PUT", "POST", "DELETE"}),
    re.compile(re.escape(FLAGS) + "/[^/]+/targets"),
    8 * 1024 * 1024,
)
_WRITTEN = with_headers("ETag", sometimes=[REVISION_HEADER])
_LINES: dict[str, Any] = {"schema": {"type": "string"}, "example": "ann\nbob\n"}
_USERS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "User ids: a JSON list, or UTF-8 text with one id per line. At most 8 MiB.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                }
            },
            "text/plain": _LINES,
            OCTETS: _LINES,
        },
    }
}


async def _read_users(
    request: Request, caller: CurrentCaller, environment: EnvironmentParameter = BASE
) -> list[str]:
    caller.demand(Right.WRITE_FLAGS, environment)  # before anything long is read
    if not await request.body():
        raise BadDefinition("", "must not be empty; send [] for an empty list", "missing")
    if is_json(request, other="text/plain"):
        document = await read_json(request)
        return await run_apart(is_large_request(), read_list, document)
    text = await read_text(request)
    users = await run_apart(is_large_request(), read_lines, text)
    if not users:
        raise BadDefinition("", "has no line with a user; send [] for an empty list", "missing")
    return users


def _targets(flags: Flags) -> FlagTargets:
    return FlagTargets(flags)


Users = Annotated[list[str], Depends(_read_users)]
TargetsOf = Annotated[FlagTargets, Depends(_targets)]
_Variant = Annotated[
    str | None,
    Query(
        description="The variant that the users are served if the flag names no users yet; "
        "default: `on`, if the flag has it."
    ),
]


@router.put(
    "/{name}/targets",
    openapi_extra=_USERS,
    responses=_WRITTEN,
    summary="Replace the users that a flag names",
)
async def replace_targets(
    name: FlagName,
    users: Users,
    response: Response,
    targets: TargetsOf,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: EnvironmentParameter = BASE,
    variant: _Variant = None,
    comment: Why = "",
    *,
    dry_run: DryRun = False,
) -> FlagTargetsOut:
    """The flag names up to 100,000 users; the response counts them and does not list them."""
    return await _write(
        "replace",
        name,
        users,
        response,
        targets,
        caller,
        expected,
        None,
        environment,
        variant,
        comment,
        dry_run=dry_run,
    )


@router.post(
    "/{name}/targets",
    openapi_extra=_USERS,
    responses=_WRITTEN,
    summary="Append to the users that a flag names",
)
async def append_targets(
    name: FlagName,
    users: Users,
    response: Response,
    targets: TargetsOf,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    idempotency: Idempotent,
    environment: EnvironmentParameter = BASE,
    variant: _Variant = None,
    comment: Why = "",
    *,
    dry_run: DryRun = False,
) -> FlagTargetsOut:
    """Users that the flag names already are ignored."""
    return await _write(
        "append",
        name,
        users,
        response,
        targets,
        caller,
        expected,
        idempotency,
        environment,
        variant,
        comment,
        dry_run=dry_run,
    )


@router.delete(
    "/{name}/targets",
    openapi_extra=_USERS,
    responses=_WRITTEN,
    summary="Remove some of the users that a flag names",
)
async def remove_targets(
    name: FlagName,
    users: Users,
    response: Response,
    targets: TargetsOf,
    caller: CurrentCaller,
    expected: ExpectedVersions,
    environment: EnvironmentParameter = BASE,
    comment: Why = "",
    *,
    dry_run: DryRun = False,
) -> FlagTargetsOut:
    """Users that the flag does not name are ignored."""
    return await _write(
        "remove",
        name,
        users,
        response,
        targets,
        caller,
        expected,
        None,
        environment,
        None,
        comment,
        dry_run=dry_run,
    )


async def _write(
    operation: TargetOperation,
    name: str,
    users: list[str],
    response: Response,
    targets: FlagTargets,
    caller: Caller,
    expected: IfMatch,
    idempotency: Idempotency | None,
    environment: str,
    variant: str | None,
    comment: str,
    *,
    dry_run: bool,
) -> FlagTargetsOut:
    request = write_request(caller, comment, expected=expected, idempotency=idempotency)
    work = targets.preview if dry_run else targets.write
    made = await work(environment, name, operation, users, request, variant=variant)
    response.headers["ETag"] = etag(str(made.version))
    if made.revision:
        response.headers[REVISION_HEADER] = str(made.revision)
    return FlagTargetsOut(
        name=name,
        environment=environment,
        dry_run=dry_run,
        version=made.version,
        enabled=made.enabled,
        variant=made.variant,
        count=made.count,
        added=made.added,
        removed=made.removed,
    )
