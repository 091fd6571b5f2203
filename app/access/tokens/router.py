"""Routes that create, list and revoke tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.access.caller import CurrentCaller
from app.access.model import Right
from app.access.tokens.model import Token
from app.access.tokens.schemas import TokenIn, TokenKnownOut, TokenMadeOut
from app.access.tokens.service import TokenService
from app.changes.revisions import REVISION_HEADER, Following, min_revision_dependency
from app.web.bodies import StrictRoute
from app.web.freshness import adds_stale_header
from app.web.openapi import DELETED, READ, with_headers
from app.web.paging import (
    BadCursor,
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
)
from app.web.problem import PROBLEMS
from app.web.request_state import from_state

TOKENS = "/api/v1/tokens"
router = APIRouter(
    prefix=TOKENS,
    tags=["tokens"],
    route_class=StrictRoute,
    responses=PROBLEMS,
    dependencies=[min_revision_dependency, adds_stale_header],
)
Tokens = Annotated[TokenService, from_state("tokens")]
TokenId = Annotated[str, Path(description="The part of the token after its class, not the token.")]


@router.post(
    "",
    status_code=201,
    responses=with_headers("Location", "X-Revision", status=201),
    summary="Create a token, which is shown only once",
    description="The response is never stored, so that `Idempotency-Key` has no effect: a lost "
    "secret cannot be recovered; create another token.",
)
async def create_token(
    body: TokenIn, response: Response, tokens: Tokens, caller: CurrentCaller
) -> TokenMadeOut:
    caller.demand(Right.MANAGE_TOKENS)
    token, text = await tokens.create(body.to_request(), caller)
    response.headers["Location"] = f"{TOKENS}/{token.id}"
    response.headers["Cache-Control"] = "no-store"
    response.headers[REVISION_HEADER] = str(token.revision)
    return TokenMadeOut.of(token, text)


@router.get("", responses=READ, summary="List tokens, oldest first, without their secrets")
async def list_tokens(
    response: Response,
    tokens: Tokens,
    follower: Following,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[TokenKnownOut]:
    caller.demand(Right.MANAGE_TOKENS)
    page = await tokens.page(_parse_cursor(cursor) if cursor else None, limit)
    _set_revision(response, follower, page)
    now = time()
    shown = [TokenKnownOut.of(token, now) for token in page]
    more = len(page) == limit
    return Page(items=shown, next=_cursor_after(page[-1]) if more else None)


def _cursor_after(token: Token) -> str:
    return encode_cursor(token.created_at.isoformat(), token.id)


def _parse_cursor(cursor: str) -> tuple[datetime, str]:
    at, token_id = decode_cursor(cursor, str, str)
    try:
        created_at = datetime.fromisoformat(at)
        if created_at.tzinfo is None:
            raise BadCursor
        # Checked here, not in a store: at the ends of the calendar not every time exists in UTC.
        return created_at.astimezone(UTC), token_id
    except (ValueError, OverflowError):
        raise BadCursor from None


def _set_revision(response: Response, follower: Following, tokens: Sequence[Token]) -> None:
    revisions = [token.revision for token in tokens]
    response.headers[REVISION_HEADER] = str(max([follower.revision, *revisions]))


@router.get("/{token_id}", responses=READ, summary="Read a token, without its secret")
async def get_token(
    token_id: TokenId,
    response: Response,
    tokens: Tokens,
    follower: Following,
    caller: CurrentCaller,
) -> TokenKnownOut:
    caller.demand(Right.MANAGE_TOKENS)
    token = await tokens.get(token_id)
    _set_revision(response, follower, [token])
    return TokenKnownOut.of(token, time())


@router.delete(
    "/{token_id}",
    status_code=204,
    responses=DELETED,
    summary="Revoke a token, on every replica within a second",
    description="Revoking a revoked token succeeds: 204.",
)
async def revoke_token(
    token_id: TokenId, response: Response, tokens: Tokens, caller: CurrentCaller
) -> None:
    caller.demand(Right.MANAGE_TOKENS)
    revoked = await tokens.revoke(token_id, caller)
    response.headers[REVISION_HEADER] = str(revoked.revision)
