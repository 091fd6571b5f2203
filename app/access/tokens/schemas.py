"""Tokens in requests and responses."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.access.errors import BadToken
from app.access.model import Role, TokenClass
from app.access.tokens.creation import MOST_PATTERNS, TokenRequest
from app.access.tokens.model import Token, TokenState
from app.web.openapi import NAME
from app.web.request_body import RequestBody
from pilothouse_core.times import seconds_of

_PATTERN: dict[str, Any] = {"maxLength": 63, "pattern": "^[A-Za-z0-9._*-]+$"}
Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra=_PATTERN)]],
    Field(min_length=1, max_length=MOST_PATTERNS),
]
_CLASS = Field(
    alias="class",
    description="`service`: reads configurations, evaluates, registers, in one environment. "
    "`client`: evaluates only. `operator`: what its roles say. `admin`: everything.",
)
_ENVIRONMENTS = "Names; `*` matches any characters. A token of class `service` has one name."
_ROLES = (
    "Of an operator: `viewer`, `editor`, `publisher`. Of all but a client: `secrets:reveal`. Of an "
    "operator and an admin: `change:bypass`. No other role includes these two."
)


class TokenIn(RequestBody):
    name: Annotated[
        str, Field(description="The actor of its changes is `token:NAME`.", json_schema_extra=NAME)
    ]
    token_class: TokenClass = _CLASS
    environments: Patterns = Field(description=_ENVIRONMENTS)
    services: Patterns = Field(description="Names, `*` for any characters.")
    roles: Annotated[list[Role], Field(max_length=10)] = Field(
        default_factory=list, description=_ROLES
    )
    expires_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = Field(
        None,
        description="RFC 3339, in the future; without it the token is valid until it is revoked.",
    )

    def to_request(self) -> TokenRequest:
        return TokenRequest(
            name=self.name,
            token_class=self.token_class,
            environments=self.environments,
            services=self.services,
            roles=self.roles,
            expires_at=None if self.expires_at is None else _parse_expiry(self.expires_at),
        )


def _parse_expiry(text: str) -> datetime:
    seconds = seconds_of(text)
    if seconds is None:
        raise BadToken("/expires_at", "is not an RFC 3339 time", "bad_time")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):  # beyond the year 9999, where UTC is another year
        raise BadToken("/expires_at", "is not a time of the calendar", "bad_time") from None


class TokenOut(BaseModel):
    id: str
    name: str
    token_class: TokenClass = _CLASS
    environments: list[str]
    services: list[str]
    roles: list[Role]
    created_at: datetime
    created_by: str
    expires_at: datetime | None

    @classmethod
    def members(cls, token: Token) -> dict[str, Any]:
        return {
            "id": token.id,
            "name": token.name,
            "class": token.token_class,
            "environments": token.environments,
            "services": token.services,
            "roles": token.roles,
            "created_at": token.created_at,
            "created_by": token.created_by,
            "expires_at": token.expires_at,
        }


class TokenMadeOut(TokenOut):
    token: str = Field(description="Shown only once.")

    @classmethod
    def of(cls, token: Token, text: str) -> "TokenMadeOut":
        return cls(**cls.members(token), token=text)


class TokenKnownOut(TokenOut):
    state: TokenState
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="When the token was last used, to the minute; null: never."
    )

    @classmethod
    def of(cls, token: Token, now: float) -> "TokenKnownOut":
        return cls(
            **cls.members(token),
            state=token.state(now),
            revoked_at=token.revoked_at,
            last_used_at=token.last_used_at,
        )
