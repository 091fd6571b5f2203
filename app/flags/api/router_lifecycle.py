"""Turn flags off, archive and restore them, roll them back, copy them to another environment."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, min_revision_dependency
from app.flags.api.answers import answer_plan
from app.flags.api.definition_kind import FLAGS
from app.flags.api.requests import (
    DryRun,
    EnvironmentParameter,
    FlagName,
    Flags,
    Force,
    OptionalEnvironmentParameter,
    stated_environment,
    write_request,
)
from app.flags.api.schemas import (
    BASE,
    FlagCopyIn,
    FlagCopyOut,
    FlagOut,
    FlagRollbackIn,
    KillIn,
    LifecycleIn,
    MissingReferenceOut,
    WritePreviewOut,
)
from app.flags.definitions.plans import ArchiveFlag, KillFlag, RestoreFlag
from app.flags.lifecycle import FlagLifecycle
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions
from app.web.freshness import adds_stale_header
from app.web.openapi import WRITTEN_UNLESS_DRY, with_headers
from app.web.problem import PROBLEMS

router = APIRouter(
    prefix=FLAGS,
    tags=["feature flags"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)


def _lifecycle(flags: Flags) -> FlagLifecycle:
    return FlagLifecycle(flags)


Lifecycle = Annotated[FlagLifecycle, Depends(_lifecycle)]


@router.post(
    "/{name}/archive",
    response_model=FlagOut | WritePreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Archive a flag",
)
async def archive_flag(
    name: FlagName,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    body: Annotated[LifecycleIn | None, Body()] = None,
    environment: OptionalEnvironmentParameter = None,
    *,
    dry_run: DryRun = False,
) -> Response:
    """The flag is no longer evaluated or listed; its definition is kept.

    Refused while other flags need it. Archiving an archived flag succeeds without a change.
    """
    stated = body or LifecycleIn()
    where = stated_environment(environment, stated.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, stated.comment, expected=expected, idempotency=idempotency)
    plan = ArchiveFlag(name)
    return await answer_plan(response, flags, where, plan, request, is_dry_run=dry_run)


@router.post(
    "/{name}/restore",
    response_model=FlagOut | WritePreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Restore an archived flag",
)
async def restore_flag(
    name: FlagName,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    body: Annotated[LifecycleIn | None, Body()] = None,
    environment: OptionalEnvironmentParameter = None,
    *,
    dry_run: DryRun = False,
) -> Response:
    """The flag gets its definition and buckets back.

    Refused if a segment or a flag that it needs no longer exists.
    """
    stated = body or LifecycleIn()
    where = stated_environment(environment, stated.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, stated.comment, expected=expected, idempotency=idempotency)
    plan = RestoreFlag(name)
    return await answer_plan(response, flags, where, plan, request, is_dry_run=dry_run)


@router.post(
    "/{name}/kill",
    response_model=FlagOut | WritePreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Turn a flag off",
)
async def kill_flag(
    name: FlagName,
    body: KillIn,
    response: Response,
    flags: Flags,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
    *,
    dry_run: DryRun = False,
) -> Response:
    """The flag serves its off variant in this environment; nothing else of it changes.

    No policy asks for a proposal for it.

    Flags that have it as a prerequisite see it as off. Turning off a flag that is off succeeds
    without a change.
    """
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(
        caller, body.reason, expected=expected, idempotency=idempotency, is_kill=True
    )
    plan = KillFlag(name, body.reason)
    return await answer_plan(response, flags, where, plan, request, is_dry_run=dry_run)


@router.post(
    "/{name}/rollback",
    response_model=FlagOut | WritePreviewOut,
    responses=WRITTEN_UNLESS_DRY,
    summary="Write an earlier version of a flag as a new one",
)
async def roll_back_flag(
    name: FlagName,
    body: FlagRollbackIn,
    response: Response,
    lifecycle: Lifecycle,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    environment: OptionalEnvironmentParameter = None,
    *,
    force: Force = False,
    dry_run: DryRun = False,
) -> Response:
    """The rollouts get the bucket ranges of that version. A deleted flag is restored."""
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected, idempotency=idempotency)
    plan = await lifecycle.rollback_plan(where, name, body.version, force=force)
    return await answer_plan(response, lifecycle.flags, where, plan, request, is_dry_run=dry_run)


@router.post(
    "/{name}/copy",
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Copy a flag to another environment",
)
async def copy_flag(
    name: FlagName,
    body: FlagCopyIn,
    response: Response,
    lifecycle: Lifecycle,
    caller: CurrentCaller,
    idempotency: Idempotent,
    environment: EnvironmentParameter = BASE,
    *,
    force: Force = False,
    dry_run: Annotated[bool, Query(description="The same as `dry_run` in the body.")] = False,
) -> FlagCopyOut:
    """Users keep their buckets: salts and ranges are copied.

    The caller needs the right to read flags in the source environment and to write them in the
    target. Segments and prerequisites are not copied; those that the target lacks are named
    (422 `flag_references_missing`).
    """
    caller.demand(Right.READ_FLAGS, environment)
    caller.demand(Right.WRITE_FLAGS, body.to)
    is_dry_run = dry_run or body.dry_run
    if is_dry_run:
        made = await lifecycle.preview_copy(
            name, environment, body.to, overwrite=body.overwrite, force=force
        )
    else:
        comment = body.comment or f"copied from {environment}"
        request = write_request(caller, comment, idempotency=idempotency)
        made = await lifecycle.copy(
            name, environment, body.to, request, overwrite=body.overwrite, force=force
        )
    if made.revision:
        response.headers[REVISION_HEADER] = str(made.revision)
    return FlagCopyOut(
        name=name,
        environment=environment,
        to=body.to,
        dry_run=is_dry_run,
        status=made.status,
        version=made.version,
        missing=[MissingReferenceOut.model_validate(asdict(one)) for one in made.missing],
    )
