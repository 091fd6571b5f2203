"""Parameters of requests about flags, and the write request they describe."""

from typing import Annotated

from fastapi import Path, Query

from app.access.model import Caller
from app.changes.model import Idempotency
from app.flags.api.schemas import BASE, Comment
from app.flags.errors import BadDefinition
from app.flags.service import FlagService
from app.flags.writer import WriteRequest
from app.rules.policies.model import Authority
from app.web.conditional import ANY_VERSION, IfMatch
from app.web.openapi import NAME
from app.web.request_state import from_state

EnvironmentParameter = Annotated[
    str, Query(description="Flags are not inherited.", json_schema_extra=NAME)
]
ALL_ENVIRONMENTS = "*"
EnvironmentsParameter = Annotated[
    str | None,
    Query(
        description="`*`: all environments. Default: `default` if another filter is given, "
        "otherwise all."
    ),
]
OptionalEnvironmentParameter = Annotated[
    str | None, Query(description="`default` unless it is stated here or in the body.")
]
FlagName = Annotated[str, Path(json_schema_extra=NAME)]
Flags = Annotated[FlagService, from_state("flags")]
Force = Annotated[
    bool,
    Query(description="Change the type even if the flag was evaluated in the last 24 hours."),
]
DryRun = Annotated[bool, Query(description="Report what would change, and write nothing.")]
Why = Annotated[Comment, Query(description="Reason for the change; kept in the history.")]


def stated_environment(query: str | None, body: str | None) -> str:
    """Return the environment that is meant; raises BadDefinition where two are."""
    if query is not None and body is not None and query != body:
        raise BadDefinition(
            "/environment", "differs from the environment of the query", "contradiction"
        )
    stated = query if query is not None else body
    return BASE if stated is None else stated  # an empty name is no name, and not `default`


def write_request(
    caller: Caller,
    comment: str = "",
    *,
    expected: IfMatch = ANY_VERSION,
    idempotency: Idempotency | None = None,
    is_kill: bool = False,
) -> WriteRequest:
    return WriteRequest(
        actor=caller.actor(),
        comment=comment,
        request_id=caller.request_id,
        source=caller.source or None,
        authority=Authority(bypass_reason=caller.bypass_reason),
        expected=expected,
        is_kill=is_kill,
        idempotency=idempotency and idempotency.by(caller.principal.actor),
    )
