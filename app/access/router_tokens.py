"""Tokens of machines: made, listed, revoked."""

from collections.abc import Sequence
from datetime import datetime
from time import time
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.access.caller import Calling
from app.access.model import Right
from app.access.schemas import TokenIn, TokenKnownOut, TokenMadeOut
from app.access.service import TokenService
from app.access.tokens import Token
from app.changes.revisions import REVISION_HEADER, Following, reaches_revision
from app.web.bodies import StrictRoute
from app.web.freshness import marked_when_stale
from app.web.openapi import DELETED, READ, carrying
from app.web.paging import (
    BadCursor,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from app.web.problem import PROBLEMS
from app.web.state import from_state

TOKENS = "/api/v1/tokens"
router = APIRouter(
    prefix=TOKENS,
    tags=["tokens"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[reaches_revision, marked_when_stale],
)
Tokens = Annotated[TokenService, from_state("tokens")]
TokenId = Annotated[str, Path(description="Not the token, but what stands in it after its class.")]


@router.post(
    "",
    status_code=201,
    responses=carrying("Location", "X-Revision", status=201),
    summary="Make a token, which is shown only now",
    description="An answer that carries a token is never kept, so that `Idempotency-Key` says "
    "nothing here: of a token whose answer was lost nobody knows the secret. Make another.",
)
async def create_token(
    body: TokenIn, response: Response, tokens: Tokens, caller: Calling
) -> TokenMadeOut:
    caller.demand(Right.MANAGE_TOKENS)
    token, text = await tokens.create(body.wanted(), caller)
    response.headers["Location"] = f"{TOKENS}/{token.id}"
    response.headers["Cache-Control"] = "no-store"
    response.headers[REVISION_HEADER] = str(token.revision)
    return TokenMadeOut.of(token, text)


@router.get("", responses=READ, summary="List tokens, oldest first, without their secrets")
async def list_tokens(
    response: Response,
    tokens: Tokens,
    follower: Following,
    caller: Calling,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TokenKnownOut]:
    caller.demand(Right.MANAGE_TOKENS)
    found = await tokens.page(_place(cursor) if cursor else None, limit)
    _say_revision(response, follower, found)
    now = time()
    shown = [TokenKnownOut.of(token, now) for token in found]
    more = len(found) == limit
    return Page(items=shown, next=_after(found[-1]) if more else None)


def _after(token: Token) -> str:
    return encode_cursor(token.created_at.isoformat(), token.id)


def _place(cursor: str) -> tuple[datetime, str]:
    at, token_id = decode_cursor(cursor, str, str)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise BadCursor from None
    if moment.tzinfo is None or "\0" in token_id:
        raise BadCursor
    return moment, token_id


def _say_revision(response: Response, follower: Following, found: Sequence[Token]) -> None:
    revisions = [token.revision for token in found]
    response.headers[REVISION_HEADER] = str(max([follower.revision, *revisions]))


@router.get("/{token_id}", responses=READ, summary="Read a token, without its secret")
async def get_token(
    token_id: TokenId, response: Response, tokens: Tokens, follower: Following, caller: Calling
) -> TokenKnownOut:
    caller.demand(Right.MANAGE_TOKENS)
    found = await tokens.one(token_id)
    _say_revision(response, follower, [found])
    return TokenKnownOut.of(found, time())


@router.delete(
    "/{token_id}",
    status_code=204,
    responses=DELETED,
    summary="Revoke a token, on every replica within a second",
    description="One that is revoked already stays so: 204.",
)
async def revoke_token(
    token_id: TokenId, response: Response, tokens: Tokens, caller: Calling
) -> None:
    caller.demand(Right.MANAGE_TOKENS)
    revoked = await tokens.revoke(token_id, caller)
    response.headers[REVISION_HEADER] = str(revoked.revision)
