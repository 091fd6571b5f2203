"""Who is asking, taken from a request."""

from typing import Annotated

import structlog
from fastapi import Depends, Request

from app.access.model import ANYBODY, Caller


async def _caller(request: Request) -> Caller:
    """Return the caller; with open access nobody is known and everybody may do everything."""
    request_id = str(structlog.contextvars.get_contextvars().get("request_id", ""))
    source = request.client.host if request.client is not None else ""
    return Caller(ANYBODY, request_id, source)


Calling = Annotated[Caller, Depends(_caller)]
