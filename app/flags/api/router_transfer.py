"""Import and export of flags."""

import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import JSONResponse

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.idempotency import Idempotent
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    min_revision_dependency,
    wait_until_followed,
)
from app.flags.api.definition_kind import FLAGS
from app.flags.api.requests import DryRun, EnvironmentParameter, write_request
from app.flags.api.schemas import BASE, ArrivalOut, Comment, FlagImportOut, UnexpressedOut
from app.flags.definitions.planned_edits import EXPORT
from app.flags.transfer import ExportFormat, FlagTransfer, Format
from app.importers.model import DEFAULT_FLAGD_HASH, FlagdHash
from app.web.bodies import StrictOrYamlRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import with_headers
from app.web.path_rules import LargerBodyRule
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.responses import model_response
from app.workers import is_large_request, run_apart

router = APIRouter(
    prefix=FLAGS,
    tags=["feature flags"],
    route_class=StrictOrYamlRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Transfer = Annotated[FlagTransfer, from_state("flag_transfer")]
_LeaveOut = Annotated[
    bool, Query(description="Leave out flags that cannot be converted, instead of refusing all.")
]
_Hash = Annotated[
    FlagdHash,
    Query(
        alias="hash",
        description="Hash by which flagd assigns buckets, for `flagd` only. `v2`: the hash of its "
        "daemons up to 0.16 and of its JavaScript core 4. `v3`: the hash of its Python core 2.0 "
        "(CBOR).",
    ),
]
# An environment whose flags have lists of many users is imported as it was exported.
LARGER_IMPORT = LargerBodyRule(
    frozenset({"POST"}), re.compile(re.escape(f"{FLAGS}/import")), 32 * 1024 * 1024
)
HASH_HEADER = "X-Flagd-Hash"
_EXPORTED = with_headers(REVISION_HEADER, sometimes=[HASH_HEADER, "X-Stale"])


_YAML: dict[str, Any] = {
    "requestBody": {"content": {"application/yaml": {"schema": {"type": "object"}}}}
}


@router.post(
    "/import",
    openapi_extra=_YAML,
    response_model=FlagImportOut,
    responses=with_headers(sometimes=["X-Revision"]),
    summary="Import flags of an environment, or of another system",
)
async def import_flags(
    document: Annotated[
        dict[str, Any] | list[Any],
        Body(
            description="An export of Pilothouse, definitions of flagd, or an export of Unleash; "
            "at most 32 MiB. A list contains several documents of flagd, which are merged, or a "
            "backup of Unleash Edge.",
        ),
    ],
    response: Response,
    transfer: Transfer,
    caller: CurrentCaller,
    idempotency: Idempotent,
    form: Annotated[Format, Query(alias="format")],
    environment: EnvironmentParameter = BASE,
    source_environment: Annotated[
        str | None, Query(description="The environment of an Unleash export that has several.")
    ] = None,
    hash_version: _Hash = DEFAULT_FLAGD_HASH,
    comment: Annotated[Comment, Query()] = "",
    *,
    dry_run: DryRun = False,
    leave_out: _LeaveOut = False,
) -> Response:
    """Import all flags in one commit, or none; users stay in their cohorts.

    Flags that the file does not name are not changed. An export of `format=pilothouse` is
    imported exactly, archived flags as archived; it replaces existing flags of the same names.

    The file is JSON or, with `Content-Type: application/yaml`, YAML.
    """
    caller.demand(Right.WRITE_FLAGS, environment)
    read = await transfer.read(
        document, form, source_environment, hash_version, partly=dry_run or leave_out
    )
    if dry_run:
        result = await transfer.preview(environment, read)
    else:
        request = write_request(caller, comment, idempotency=idempotency)
        result = await transfer.import_flags(environment, read, request)
    if result.revision:
        response.headers[REVISION_HEADER] = str(result.revision)

    def response_body() -> FlagImportOut:
        return FlagImportOut(
            environment=environment,
            dry_run=dry_run,
            hash=hash_version if form == "flagd" else None,
            items=[ArrivalOut.model_validate(asdict(one)) for one in result.arrivals],
            report=[UnexpressedOut.model_validate(asdict(note)) for note in read.report],
        )

    return await model_response(is_large_request(), response_body, response.headers)


@router.get(
    f"/{EXPORT}",
    response_model=dict[str, Any],
    responses=_EXPORTED,
    summary="Export the flags of an environment",
)
async def export_flags(
    response: Response,
    transfer: Transfer,
    follower: Following,
    form: Annotated[ExportFormat, Query(alias="format")],
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
    hash_version: _Hash = DEFAULT_FLAGD_HASH,
    *,
    leave_out: _LeaveOut = False,
    redraw: Annotated[
        bool,
        Query(
            description="For `flagd`: a rollout by a hash that flagd does not have keeps its "
            "shares and gets new cohorts. Otherwise the rollout cannot be converted."
        ),
    ] = False,
) -> Response:
    """`format=pilothouse` contains all flags, archived flags and segments, with their salts and
    buckets. `format=flagd` is for a flagd that uses the hash in `X-Flagd-Hash`.
    """
    caller.demand(Right.READ_FLAGS, environment)
    revision = await wait_until_followed(follower, lambda: transfer.revision(environment))
    response.headers[REVISION_HEADER] = str(revision)
    is_large = transfer.is_large(environment)
    if form == "pilothouse":
        return await run_apart(
            is_large,
            lambda: Response(
                transfer.export_pilothouse(environment),
                media_type="application/json",
                headers=dict(response.headers),
            ),
        )
    response.headers[HASH_HEADER] = hash_version
    return await run_apart(
        is_large,
        lambda: JSONResponse(
            transfer.export_flagd(environment, hash_version, leave_out=leave_out, redraws=redraw),
            headers=dict(response.headers),
        ),
    )
