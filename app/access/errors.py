"""Why a caller is not let in."""

from app.errors import Forbidden, Unauthenticated, Unavailable


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
