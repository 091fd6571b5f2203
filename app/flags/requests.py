"""What requests about flags carry: the environment and the caller's wish."""

from typing import Annotated

from fastapi import Path, Query

from app.access.model import Caller
from app.changes.model import Idempotency
from app.flags.errors import BadDefinition
from app.flags.schemas import BASE
from app.flags.writing import Request
from app.web.conditional import IfMatch
from app.web.openapi import NAME

Environment = Annotated[str, Query(description="Flags are not inherited.", json_schema_extra=NAME)]
StatedEnvironment = Annotated[
    str | None, Query(description="`default` unless stated here or in the body.")
]
FlagName = Annotated[str, Path(json_schema_extra=NAME)]


def addressed(query: str | None, body: str | None) -> str:
    """Return the environment that is meant; raises BadDefinition where two are."""
    if query is not None and body is not None and query != body:
        raise BadDefinition("/environment", "is not the one of the query", "contradiction")
    stated = query if query is not None else body
    return BASE if stated is None else stated  # an empty name is no name, and not `default`


def request_of(
    caller: Caller,
    comment: str = "",
    *,
    expected: IfMatch | None = None,
    idempotency: Idempotency | None = None,
) -> Request:
    return Request(
        actor=caller.actor(),
        comment=comment,
        request_id=caller.request_id,
        source=caller.source or None,
        expected=expected.allows if expected is not None and expected.is_stated else None,
        idempotency=idempotency and idempotency.by(caller.principal.name),
    )
