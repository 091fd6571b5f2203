"""Why a caller is not let in."""

from app.errors import (
    Forbidden,
    Invalid,
    NotFound,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unparsable,
)


class TokenMissing(Unauthenticated):
    code = "token_missing"

    def __init__(self) -> None:
        super().__init__("a token is needed, as `Authorization: Bearer` or as `X-API-Key`")


class TokenRefused(Unauthenticated):
    """One sentence for every reason: which part of a token is wrong is nobody's business."""

    code = "token_refused"

    def __init__(self) -> None:
        super().__init__("the token is not valid, has expired or was revoked")


class TokensUnavailable(Unavailable):
    code = "tokens_unavailable"

    def __init__(self) -> None:
        super().__init__("the token is not known here, and the store of tokens is away")


class Denied(Forbidden):
    code = "denied"

    def __init__(self, right: str, environment: str = "", service: str = "") -> None:
        where = "".join(
            f" in {environment!r}" * bool(environment) + f" for {service!r}" * bool(service)
        )
        super().__init__(f"this needs `{right}`{where}", right=str(right))
        self.right, self.environment, self.service = str(right), environment, service


class TooManyRequests(TooMany):
    code = "too_many_requests"

    def __init__(self, per_second: float) -> None:
        super().__init__(f"more than {per_second:g} requests a second", per_second=per_second)


class TooManyStreamsOfCaller(TooMany):
    code = "too_many_streams_of_caller"
    retry_after = 10

    def __init__(self, limit: int) -> None:
        super().__init__(f"this caller has {limit} streams here already", limit=limit)


class CredentialsContradict(Unauthenticated):
    code = "credentials_contradict"

    def __init__(self) -> None:
        super().__init__("more than one token is stated")


class IssuerUnavailable(Unavailable):
    code = "issuer_unavailable"

    def __init__(self) -> None:
        super().__init__("the keys of the OpenID Connect issuer cannot be read")


class TokenStoreUnavailable(Unavailable):
    code = "token_store_unavailable"


class AuditUnavailable(Unavailable):
    code = "audit_unavailable"


class BadMoment(Unparsable):
    code = "bad_moment"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is no RFC 3339 time")


class TokenNotFound(NotFound):
    code = "token_not_found"

    def __init__(self, token_id: str) -> None:
        super().__init__("there is no token of this id", token=token_id)


class BadToken(Invalid):
    """What is asked of a new token breaks a rule; `flaws` says where."""

    code = "bad_token"

    def __init__(self, pointer: str, detail: str, code: str) -> None:
        super().__init__(f"{pointer} {detail}")
        self.flaws = ({"pointer": f"#{pointer}", "detail": detail, "code": code},)
