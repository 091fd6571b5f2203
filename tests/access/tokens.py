"""Tokens as tests need them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from app.access.model import TokenClass
from app.access.tokens.model import Token, generate_token, token_digest

KEY = b"k" * 32
NOW = datetime.now(UTC).replace(microsecond=123456)


def new_token(token_class: TokenClass = "service", **members: Any) -> tuple[Token, str]:
    """Return what is kept of a new token, and its text."""
    token_id, text = generate_token(token_class)
    token = Token(
        id=token_id,
        name="billing",
        token_class=token_class,
        environments=("staging",),
        services=("billing", "invoice-*"),
        roles=("viewer",) if token_class == "operator" else (),
        created_at=NOW,
        created_by="ana",
        digest=token_digest(KEY, text),
    )
    return replace(token, **members), text
