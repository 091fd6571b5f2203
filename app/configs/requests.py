"""What every configuration request carries: the addressed layer, the caller's wish, its key."""

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request, Response

from app.access.model import Caller
from app.configs.edits import Edit
from app.configs.model import BASE, SHARED, DocumentId, document_id
from app.configs.transfer import MEDIA_TYPES
from app.configs.writing import Idempotency, Write
from app.errors import Unparsable
from app.web.conditional import IfMatch
from app.web.openapi import KEY, NAME, USER

Environment = Annotated[
    str, Query(description="`default` is what every other inherits from.", json_schema_extra=NAME)
]
ServiceName = Annotated[
    str, Query(description="`_shared` is the layer all services inherit.", json_schema_extra=NAME)
]
User = Annotated[
    str | None, Query(description="Adds the layer of one user.", json_schema_extra=USER)
]
AddressedKey = Annotated[
    str, Path(description="A dotted path, e.g. `database.pool.size`.", json_schema_extra=KEY)
]
Reveal = Annotated[bool, Query(description="Decrypt secrets; audited, never cached.")]
Resolve = Annotated[bool, Query(description="`false`: the addressed layer only.")]

# As OpenAPI sees a file in each format: what can be parsed by its media type, or text.
FILES: dict[str, Any] = {
    media: {"schema": {"type": "object" if form in {"json", "yaml"} else "string"}}
    for form, media in MEDIA_TYPES.items()
}


class BadIdempotencyKey(Unparsable):
    code = "bad_idempotency_key"


async def _addressed(
    environment: Environment = BASE, service_name: ServiceName = SHARED, user: User = None
) -> DocumentId:
    return document_id(environment, service_name, user)


Addressed = Annotated[DocumentId, Depends(_addressed)]


async def _idempotency(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key gets the same answer again for 24 hours.",
            json_schema_extra={"minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        ),
    ] = None,
) -> Idempotency | None:
    if idempotency_key is None:
        return None
    if not (1 <= len(idempotency_key) <= 200 and idempotency_key.isprintable()):  # noqa: PLR2004
        raise BadIdempotencyKey("Idempotency-Key has 1 to 200 printable characters")
    body = (await request.body()).decode("utf-8", "replace")
    return Idempotency(f"{request.url.path}\n{idempotency_key}", f"{request.url.query}\n{body}")


Idempotent = Annotated[Idempotency | None, Depends(_idempotency)]


def carried(response: Response) -> dict[str, str]:
    """Return the headers set so far, such as `X-Stale`: FastAPI drops them from other answers."""
    return dict(response.headers)


def write_of(  # noqa: PLR0913 - what a request may say of a write
    document: DocumentId,
    edit: Edit,
    caller: Caller,
    comment: str = "",
    *,
    remark: str | None = None,
    expected: IfMatch | None = None,
    idempotency: Idempotency | None = None,
    replaces: bool = False,
) -> Write:
    return Write(
        document,
        edit,
        caller.actor(remark),
        caller.request_id,
        comment,
        expected=expected.allows if expected is not None and expected.is_stated else None,
        replaces=replaces,
        idempotency=idempotency,
    )
