"""Evaluations for any client, and whole flag sets for those that evaluate by themselves."""

import json
from typing import Annotated

from fastapi import APIRouter, Response

from app.access.caller import Calling
from app.access.model import Right
from app.changes.revisions import REVISION_HEADER, Following, hold, reaches_revision, reflected
from app.flags.errors import FlagNotFound
from app.flags.evaluating import Evaluator
from app.flags.requests import Environment
from app.flags.router import Flags
from app.flags.schemas import (
    BASE,
    BatchIn,
    BatchOut,
    EvaluateIn,
    EvaluationOut,
    FlagSetOut,
    UsageIn,
)
from app.flags.service import FlagService
from app.web.bodies import StrictRoute
from app.web.conditional import Known, etag, matches, not_modified
from app.web.freshness import Fresh, carried, marked_when_stale
from app.web.openapi import READ, TAGGED, UNCHANGED
from app.web.parameters import knows_parameters
from app.web.problem import PROBLEMS
from app.web.state import from_state
from app.web.waiting import Wait

EVALUATE = "/api/v1/feature-flags/evaluate"
BATCH = "/api/v1/feature-flags/evaluate/batch"
_JSON = "application/json"

router = APIRouter(
    tags=["feature flags"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)
Evaluating = Annotated[Evaluator, from_state("evaluator")]


@router.post(EVALUATE, response_model=EvaluationOut, responses=READ, summary="Evaluate a flag")
async def evaluate(
    body: EvaluateIn,
    response: Response,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    caller: Calling,
) -> Response:
    caller.demand(Right.EVALUATE, body.environment)
    headers = await _headers(response, flags, follower, body.environment)
    told = evaluator.one(body.environment, body.flag_name, body.user_id, body.context)
    if told is None:
        raise FlagNotFound(body.flag_name, body.environment)
    if body.explain:
        caller.demand(Right.READ_FLAGS, body.environment)
        trace = evaluator.explained(body.environment, body.flag_name, body.user_id, body.context)
        told = told[:-1] + b',"explanation":' + json.dumps(trace).encode() + b"}"
    return Response(told, headers=headers, media_type=_JSON)


@router.post(BATCH, response_model=BatchOut, responses=READ, summary="Evaluate many flags")
async def evaluate_batch(
    body: BatchIn,
    response: Response,
    evaluator: Evaluating,
    flags: Flags,
    follower: Following,
    caller: Calling,
) -> Response:
    """One bad or missing flag is told in its place and never fails the others."""
    caller.demand(Right.EVALUATE, body.environment)
    headers = await _headers(response, flags, follower, body.environment)
    told = evaluator.many(body.environment, body.flag_names, body.user_id, body.context)
    return Response(told, headers=headers, media_type=_JSON)


async def _headers(
    response: Response, flags: FlagService, follower: Following, environment: str
) -> dict[str, str]:
    revision = await reflected(follower, lambda: flags.environment(environment).revision)
    return {REVISION_HEADER: str(revision), **carried(response)}


@router.get(
    "/api/v1/flag-set",
    response_model=FlagSetOut,
    responses=TAGGED | UNCHANGED,
    summary="All flags and segments of an environment, for local evaluation",
)
async def flag_set(
    response: Response,
    flags: Flags,
    follower: Following,
    fresh: Fresh,
    known: Known,
    wait: Wait,
    caller: Calling,
    environment: Environment = BASE,
) -> Response:
    caller.demand(Right.READ_FLAGS, environment)
    await hold(
        lambda: str(flags.environment(environment).revision),
        known,
        wait,
        follower,
        fresh,
        caller.stay,
    )
    headers = await _headers(response, flags, follower, environment)
    tag = etag(str(flags.environment(environment).revision))
    if matches(known, tag):
        return not_modified(tag, headers)
    told = flags.flag_set(environment)
    return Response(told, headers={**headers, "ETag": tag}, media_type=_JSON)


@router.post(
    "/api/v1/flag-usage",
    status_code=204,
    dependencies=[knows_parameters],
    summary="Tell what a client has evaluated by itself",
)
async def flag_usage(body: UsageIn, flags: Flags, caller: Calling) -> Response:
    """So that counts and `last_evaluated_at` stay true; what does not exist is passed over."""
    caller.demand(Right.EVALUATE, body.environment)
    flags.count(body.environment, body.evaluations)
    return Response(status_code=204)
