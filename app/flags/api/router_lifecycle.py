"""Archive and restore flags, roll them back, copy them to another environment."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import REVISION_HEADER, min_revision_dependency
from app.flags.api.answers import answer_written
from app.flags.api.definition_kind import FLAGS
from app.flags.api.requests import (
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
    LifecycleIn,
    MissingReferenceOut,
)
from app.flags.lifecycle import FlagLifecycle
from app.flags.model import Item
from app.web.bodies import StrictRoute
from app.web.conditional import ExpectedVersions
from app.web.freshness import adds_stale_header
from app.web.openapi import WRITTEN, with_headers
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
    response_model=FlagOut,
    responses=WRITTEN,
    summary="Archive a flag",
)
async def archive_flag(
    name: FlagName,
    response: Response,
    lifecycle: Lifecycle,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    body: Annotated[LifecycleIn | None, Body()] = None,
    environment: OptionalEnvironmentParameter = None,
) -> Response:
    """The flag is no longer evaluated or listed; its definition is kept.

    Refused while other flags need it. Archiving an archived flag succeeds without a change.
    """
    stated = body or LifecycleIn()
    where = stated_environment(environment, stated.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, stated.comment, expected=expected, idempotency=idempotency)
    item = await lifecycle.archive(where, name, request)
    return await _answer(response, lifecycle, item)


@router.post(
    "/{name}/restore",
    response_model=FlagOut,
    responses=WRITTEN,
    summary="Restore an archived flag",
)
async def restore_flag(
    name: FlagName,
    response: Response,
    lifecycle: Lifecycle,
    caller: CurrentCaller,
    idempotency: Idempotent,
    expected: ExpectedVersions,
    body: Annotated[LifecycleIn | None, Body()] = None,
    environment: OptionalEnvironmentParameter = None,
) -> Response:
    """The flag gets its definition and buckets back.

    Refused if a segment or a flag that it needs no longer exists.
    """
    stated = body or LifecycleIn()
    where = stated_environment(environment, stated.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, stated.comment, expected=expected, idempotency=idempotency)
    item = await lifecycle.restore(where, name, request)
    return await _answer(response, lifecycle, item)


@router.post(
    "/{name}/rollback",
    response_model=FlagOut,
    responses=WRITTEN,
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
    force: Force = False,  # noqa: FBT002
) -> Response:
    """The rollouts get the bucket ranges of that version. A deleted flag is restored."""
    where = stated_environment(environment, body.environment)
    caller.demand(Right.WRITE_FLAGS, where)
    request = write_request(caller, body.comment, expected=expected, idempotency=idempotency)
    item = await lifecycle.roll_back(where, name, body.version, request, force=force)
    return await _answer(response, lifecycle, item)


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
    force: Force = False,  # noqa: FBT002
) -> FlagCopyOut:
    """Users keep their buckets: salts and ranges are copied.

    The caller needs the right to read flags in the source environment and to write them in the
    target. Segments and prerequisites are not copied; those that the target lacks are named
    (422 `flag_references_missing`).
    """
    caller.demand(Right.READ_FLAGS, environment)
    caller.demand(Right.WRITE_FLAGS, body.to)
    if body.dry_run:
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
        dry_run=body.dry_run,
        status=made.status,
        version=made.version,
        missing=[MissingReferenceOut.model_validate(asdict(one)) for one in made.missing],
    )


async def _answer(response: Response, lifecycle: FlagLifecycle, item: Item) -> Response:
    return await answer_written(response, lifecycle.flags, item)
