"""Route of the configurations that do not meet their schemas now."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.access.caller import CurrentCaller
from app.changes.revisions import CATCH_UP_SECONDS, REVISION_HEADER, min_revision_dependency
from app.rules.api.router_schemas import demand_read, refuse_bad_names
from app.rules.api.schemas import ProblemOut, ViolationsOut, may_read
from app.rules.verifier import Verifier
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import NAME, READ
from app.web.paging import Cursor, Limit, decode_cursor, encode_cursor
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

router = APIRouter(
    tags=["schemas"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
CurrentVerifier = Annotated[Verifier, from_state("verifier")]
Filter = Annotated[str | None, Query(description="Only this one.", json_schema_extra=NAME)]


@router.get("/api/v1/violations", responses=READ, summary="Configurations that break a schema")
async def list_violations(
    response: Response,
    verifier: CurrentVerifier,
    caller: CurrentCaller,
    environment: Filter = None,
    service_name: Filter = None,
    schema: Filter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ViolationsOut:
    """Edits in Vault, rollbacks and changes of schemas that only warn are judged afterwards."""
    refuse_bad_names(environment, service_name, schema)
    demand_read(caller)
    await verifier.wait_until_judged(CATCH_UP_SECONDS)
    response.headers[REVISION_HEADER] = str(verifier.revision)
    begin = max(decode_cursor(cursor, int)[0], 0) if cursor else 0
    readable = [pair for pair in sorted(verifier.violations) if may_read(caller, pair)]
    # Counted whatever is asked for: a filter would tell which ones they are.
    hidden = len(verifier.violations) - len(readable)
    visible = [
        problem
        for pair in readable
        if environment in (None, pair.environment) and service_name in (None, pair.service)
        for problem in verifier.violations[pair]
        if schema in (None, problem.schema)
    ]
    page = visible[begin : begin + limit]
    more = encode_cursor(begin + limit) if len(visible) > begin + limit else None
    return ViolationsOut(
        items=[ProblemOut.of(each) for each in page],
        next=more,
        hidden=hidden,
        revision=verifier.revision,
    )
