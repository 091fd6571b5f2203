"""Routes of evaluations, and of flag sets for local evaluation."""

from typing import Annotated

from fastapi import APIRouter, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.changes.revisions import (
    REVISION_HEADER,
    Following,
    hold_until_changed,
    min_revision_dependency,
    wait_until_followed,
)
from app.flags.api.requests import EnvironmentParameter, Flags
from app.flags.api.schemas import (
    BASE,
    BatchIn,
    BatchOut,
    EvaluateIn,
    EvaluationOut,
    FlagSetOut,
    UsageIn,
)
from app.flags.errors import FlagNotFound
from app.flags.evaluation.evaluator import FlagEvaluator
from app.flags.flag_set import encode_flag_set
from app.flags.service import FlagService
from app.web.bodies import ContextRoute
from app.web.conditional import IfNoneMatch, etag, matches, not_modified
from app.web.freshness import Fresh, adds_stale_header, headers_so_far
from app.web.openapi import READ, TAGGED, UNCHANGED
from app.web.parameters import rejects_unknown_parameters
from app.web.problem import PROBLEMS
from app.web.request_state import from_state
from app.web.wait_preference import Wait

EVALUATE = "/api/v1/feature-flags/evaluate"
BATCH = "/api/v1/feature-flags/evaluate/batch"
_JSON = "application/json"

router = APIRouter(
    tags=["feature flags"],
    route_class=ContextRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Evaluating = Annotated[FlagEvaluator, from_state("evaluator")]


@router.post(EVALUATE, response_model=EvaluationOut, responses=READ, summary="Evaluate a flag")
async def evaluate(
    body: EvaluateIn,
    response: Response,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
) -> Response:
    caller.demand(Right.EVALUATE, body.environment)
    headers = await _headers(response, flags, follower, body.environment)
    subject = (body.environment, body.flag_name, body.user_id, body.context)
    answer = await evaluator.evaluate_flag_apart(*subject)
    if answer is None:
        known = flags.environment(body.environment).live_names("flag")
        raise FlagNotFound(body.flag_name, body.environment, known)
    if body.explain:
        caller.demand(Right.READ_FLAGS, body.environment)
        trace = await evaluator.explain(*subject)
        answer = answer[:-1] + b',"explanation":' + trace + b"}"
    return Response(answer, headers=headers, media_type=_JSON)


@router.post(BATCH, response_model=BatchOut, responses=READ, summary="Evaluate many flags")
async def evaluate_batch(
    body: BatchIn,
    response: Response,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    caller: CurrentCaller,
) -> Response:
    """A flag that is missing or fails has an `error_code`; the others are evaluated anyway."""
    caller.demand(Right.EVALUATE, body.environment)
    headers = await _headers(response, flags, follower, body.environment)
    answer = await evaluator.evaluate_batch_apart(
        body.environment, body.flag_names, body.user_id, body.context
    )
    return Response(answer, headers=headers, media_type=_JSON)


async def _headers(
    response: Response, flags: FlagService, follower: Following, environment: str
) -> dict[str, str]:
    revision = await wait_until_followed(follower, lambda: flags.environment(environment).revision)
    return {REVISION_HEADER: str(revision), **headers_so_far(response)}


@router.get(
    "/api/v1/flag-set",
    response_model=FlagSetOut,
    responses=TAGGED | UNCHANGED,
    summary="All flags and segments of an environment, for local evaluation",
    dependencies=[rejects_unknown_parameters],
)
async def flag_set(
    response: Response,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: IfNoneMatch,
    wait: Wait,
    caller: CurrentCaller,
    environment: EnvironmentParameter = BASE,
) -> Response:
    caller.demand(Right.READ_FLAGS, environment)
    await hold_until_changed(
        lambda: str(flags.environment(environment).revision),
        known,
        wait,
        follower,
        fresh,
        caller.require_still_valid,
    )
    headers = await _headers(response, flags, follower, environment)
    tag = etag(str(flags.environment(environment).revision))
    if matches(known, tag):
        return not_modified(tag, headers)
    flag_set = encode_flag_set(flags.environment(environment))
    return Response(flag_set, headers={**headers, "ETag": tag}, media_type=_JSON)


@router.post(
    "/api/v1/flag-usage",
    status_code=204,
    dependencies=[rejects_unknown_parameters],
    summary="Report evaluations that a client made locally",
)
async def flag_usage(body: UsageIn, flags: Flags, caller: CurrentCaller) -> Response:
    """Add the counts to the usage of the flags; unknown flags and variants are ignored."""
    caller.demand(Right.EVALUATE, body.environment)
    flags.counter.add_reported(flags.environment(body.environment), body.evaluations)
    return Response(status_code=204)
