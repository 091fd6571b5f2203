"""The kinds of failure; `app.web.problem` alone knows their HTTP status.

PilothouseError
    Invalid                 the request breaks a rule
        Unparsable          the request cannot be parsed
    TooLarge                a documented size is exceeded
    Unauthenticated         the caller is not authenticated
    Forbidden               the caller may not do this
    NotFound                the resource does not exist
        Gone                it existed and has been removed
    Conflict                the request contradicts what is stored
        PreconditionFailed  `If-Match` names another version
    TooMany                 a rate limit is exceeded
    Unavailable             a server behind a port is unavailable
    OutcomeUnknown          a write may or may not have happened
    InDoubt                 an answer would be incomplete
"""

from collections.abc import Mapping, Sequence


class PilothouseError(Exception):
    """An expected failure.

    Features subclass one of the kinds below and give it a stable `code`; `facts` become members of
    the problem document, so they never hold a configuration value.
    """

    code: str

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.facts: Mapping[str, object] = facts


class Invalid(PilothouseError):
    """The request is readable but breaks a rule.

    `flaws` are the places in the body: `{"pointer", "detail", "code"}` each.
    """

    code = "invalid"
    flaws: Sequence[Mapping[str, object]] = ()


class Unparsable(Invalid):
    """The request cannot be parsed."""

    code = "unparsable"


class TooLarge(PilothouseError):
    """The request, or the resource it would create, exceeds a documented size."""

    code = "too_large"


class Unauthenticated(PilothouseError):
    """The caller is not authenticated."""

    code = "unauthenticated"


class Forbidden(PilothouseError):
    """The caller is authenticated but may not do this."""

    code = "forbidden"


class NotFound(PilothouseError):
    """The resource does not exist."""

    code = "not_found"


class Gone(NotFound):
    """The resource existed but has been removed."""

    code = "gone"


class Conflict(PilothouseError):
    """The request contradicts what is stored."""

    code = "conflict"


class PreconditionFailed(Conflict):
    """`If-Match` names a version that is not the current one."""

    code = "precondition_failed"


class TooMany(PilothouseError):
    """Rate limit exceeded; retry later."""

    code = "too_many"
    retry_after: int = 1


class Unavailable(PilothouseError):
    """A server behind a port did not answer or refused; nothing was changed; retry later."""

    code = "backend_unavailable"
    retry_after: int = 1


class OutcomeUnknown(PilothouseError):
    """The write was sent, and it is not known yet whether it happened."""

    code = "outcome_unknown"


class InDoubt(PilothouseError):
    """The answer would be incomplete, and incomplete is worse than an error here."""

    code = "in_doubt"
