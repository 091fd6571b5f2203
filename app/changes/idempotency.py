"""`Idempotency-Key`: the same request under the same key is answered the same again."""

from typing import Annotated

from fastapi import Depends, Header, Request

from app.changes.model import Idempotency
from app.errors import Unparsable


class BadIdempotencyKey(Unparsable):
    code = "bad_idempotency_key"


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
