"""Who is asking, taken from a request."""

from functools import partial
from typing import Annotated

import structlog
from fastapi import Depends, Query, Request

from app.access.gate import Gate
from app.access.model import Caller, Principal
from app.web.hot import COUNTED
from app.web.state import from_state

CALLER = "caller"  # where the request's state says who asked, for whoever tells of a refusal
AccessGate = Annotated[Gate, from_state("gate")]


async def _caller(request: Request, gate: AccessGate) -> Caller:
    """Return the caller; raises an Unauthenticated, TooManyRequests or an Unavailable."""
    return await caller_of(request, gate)


async def caller_of(request: Request, gate: Gate) -> Caller:
    """Return who asks this request, and find that out once; raises as `_caller`."""
    found: Caller | None = getattr(request.state, CALLER, None)
    if found is not None:
        return found
    is_counted = request.scope.get(COUNTED, False)
    principal = await gate.principal(request.scope["headers"], is_counted=is_counted)
    return _let_in(request, gate, principal)


def _let_in(request: Request, gate: Gate, principal: Principal) -> Caller:
    stays = partial(gate.is_still_let_in, principal)
    caller = Caller(principal, request_id_of(), source_of(request), stays)
    setattr(request.state, CALLER, caller)
    return caller


async def _listener(
    request: Request,
    gate: AccessGate,
    ticket: Annotated[
        str | None, Query(description="What an evaluation's answer gave with this address.")
    ] = None,
) -> Caller:
    """Return who opens a stream, by a ticket in its URL if there is one; raises as `_caller`."""
    if ticket is None:
        return await _caller(request, gate)
    return _let_in(request, gate, gate.holder(ticket))


def request_id_of() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def source_of(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client is not None else ""


Calling = Annotated[Caller, Depends(_caller)]
# Before anything else that a router does: nobody who is not known has it wait for a revision.
lets_in = Depends(_caller)
Listening = Annotated[Caller, Depends(_listener)]
