"""Failures of access control."""

from app.errors import (
    Forbidden,
    Invalid,
    NotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
)


class TokenMissing(Unauthenticated):
    code = "token_missing"

    def __init__(self) -> None:
        super().__init__("a token is needed, as `Authorization: Bearer` or as `X-API-Key`")


class TokenRefused(Unauthenticated):
    """One sentence for every reason: a caller must not learn which part of a token is wrong."""

    code = "token_refused"

    def __init__(self) -> None:
        super().__init__("the token is not valid, has expired or was revoked")


class TokensUnavailable(Unavailable):
    code = "tokens_unavailable"

    def __init__(self) -> None:
        super().__init__("unknown token, and the token store is unavailable")


class Denied(Forbidden):
    code = "denied"

    def __init__(self, right: str, environment: str = "", service: str = "") -> None:
        where = "".join(
            f" in {environment!r}" * bool(environment) + f" for {service!r}" * bool(service)
        )
        super().__init__(f"this needs `{right}`{where}", right=str(right))
        self.right, self.environment, self.service = str(right), environment, service


class BadBypassReason(Invalid):
    code = "bad_bypass_reason"

    def __init__(self) -> None:
        super().__init__(
            "the header Bypass-Reason needs 1 to 500 characters, without control characters"
        )


class AccessOpen(Forbidden):
    code = "access_open"

    def __init__(self) -> None:
        super().__init__(
            "tokens are created only where access is required: set PILOTHOUSE_ACCESS=required,"
            " and create the first with PILOTHOUSE_ADMIN_TOKEN or `python -m app token create`"
        )


class TooManyRequests(TooMany):
    code = "too_many_requests"

    def __init__(self, per_second: float) -> None:
        super().__init__(f"more than {per_second:g} requests a second", per_second=per_second)


class TooManyRefusals(TooMany):
    """Limits only answers 401: authenticated callers at the same address are not affected."""

    code = "too_many_refusals"

    def __init__(self, per_second: float) -> None:
        super().__init__(
            f"more than {per_second:g} requests a second without a valid token from this address",
            per_second=per_second,
        )


class TooManyStreamsOfCaller(TooMany):
    code = "too_many_streams_of_caller"
    retry_after = 10

    def __init__(self, limit: int) -> None:
        super().__init__(f"this caller has {limit} streams here already", limit=limit)


class CredentialsContradict(Unauthenticated):
    code = "credentials_contradict"

    def __init__(self) -> None:
        super().__init__("the request has more than one token")


class IssuerUnavailable(Unavailable):
    code = "issuer_unavailable"

    def __init__(self) -> None:
        super().__init__("the keys of the OpenID Connect issuer cannot be read")


class TokenStoreUnavailable(Unavailable):
    code = "token_store_unavailable"


class TokenNotFound(NotFound):
    code = "token_not_found"

    def __init__(self, token_id: str) -> None:
        super().__init__("no token has this id", token=token_id)


class BadToken(Invalid):
    """The request for a new token is invalid; `flaws` says where."""

    code = "bad_token"

    def __init__(self, pointer: str, detail: str, code: str) -> None:
        super().__init__(f"{pointer} {detail}")
        self.flaws = ({"pointer": f"#{pointer}", "detail": detail, "code": code},)
