"""The caller of a request, as a dependency of routes."""

from contextlib import suppress
from functools import partial
from typing import Annotated

import structlog
from fastapi import Depends, Query, Request

from app.access.authentication import Authenticator
from app.access.errors import BadBypassReason
from app.access.model import Caller, Principal
from app.web.fast_path import COUNTED
from app.web.request_state import CALLER, from_state

BYPASS_HEADER = "Bypass-Reason"
_LONGEST_REASON = 500  # characters
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
CurrentAuthenticator = Annotated[Authenticator, from_state("authenticator")]


async def _current_caller(request: Request, authenticator: CurrentAuthenticator) -> Caller:
    """Return the caller; raises an Unauthenticated, TooManyRequests or an Unavailable."""
    return await authenticate_request(request, authenticator)


async def authenticate_request(request: Request, authenticator: Authenticator) -> Caller:
    """Return the caller of a request, authenticated once; raises as `_current_caller`."""
    caller: Caller | None = getattr(request.state, CALLER, None)
    if caller is not None:
        return caller
    is_counted = request.scope.get(COUNTED, False)
    principal = await authenticator.authenticate(request.scope["headers"], is_counted=is_counted)
    return _attach_caller(request, authenticator, principal)


def _attach_caller(request: Request, authenticator: Authenticator, principal: Principal) -> Caller:
    stays = partial(authenticator.is_still_valid, principal)
    caller = Caller(
        principal, current_request_id(), client_address(request), _bypass_reason(request), stays
    )
    setattr(request.state, CALLER, caller)
    return caller


def _bypass_reason(request: Request) -> str | None:
    """Return why a change is to be made without a proposal; raises BadBypassReason."""
    stated = request.headers.get(BYPASS_HEADER)
    if stated is None or request.method not in _WRITING:
        return None
    with suppress(UnicodeDecodeError):
        stated = stated.encode("latin-1").decode()
    stated = stated.strip()
    if not 0 < len(stated) <= _LONGEST_REASON or not stated.isprintable():
        raise BadBypassReason
    return stated


async def _stream_caller(
    request: Request,
    authenticator: CurrentAuthenticator,
    ticket: Annotated[
        str | None,
        Query(description="The ticket in the URL of this stream, as an evaluation returned it."),
    ] = None,
) -> Caller:
    """Return the caller who opens a stream, by a ticket if stated; raises as `_current_caller`."""
    if ticket is None:
        return await _current_caller(request, authenticator)
    return _attach_caller(request, authenticator, authenticator.authenticate_ticket(ticket))


def current_request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def client_address(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client is not None else ""


CurrentCaller = Annotated[Caller, Depends(_current_caller)]
# Runs before all else in a router: an unauthenticated request must not wait for a revision.
requires_authentication = Depends(_current_caller)
StreamCaller = Annotated[Caller, Depends(_stream_caller)]
