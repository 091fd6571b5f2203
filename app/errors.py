"""Kinds of failure, in the words of the domain; `app.web.problem` alone knows their HTTP status."""

from collections.abc import Mapping, Sequence


class PilothouseError(Exception):
    """A failure this service expects and can name.

    A feature subclasses one of the kinds below and gives it a stable `code`; `facts` become
    members of the problem document, so they never hold a configuration value.
    """

    code: str

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.facts: Mapping[str, object] = facts


class Invalid(PilothouseError):
    """The request is understood and breaks a rule of its shape.

    `flaws` say where in the body: `{"pointer", "detail", "code"}` each.
    """

    code = "invalid"
    flaws: Sequence[Mapping[str, str]] = ()


class Unparsable(Invalid):
    """The request cannot be read at all."""

    code = "unparsable"


class TooLarge(PilothouseError):
    """The request or what it would create exceeds a documented size."""

    code = "too_large"


class Unauthenticated(PilothouseError):
    """The caller is not known."""

    code = "unauthenticated"


class Forbidden(PilothouseError):
    """The caller is known and may not do this."""

    code = "forbidden"


class NotFound(PilothouseError):
    """The named thing does not exist."""

    code = "not_found"


class Gone(NotFound):
    """The named thing did exist and is no longer kept."""

    code = "gone"


class Conflict(PilothouseError):
    """The request contradicts what is stored."""

    code = "conflict"


class PreconditionFailed(Conflict):
    """`If-Match` names a version that is not the current one."""

    code = "precondition_failed"


class TooMany(PilothouseError):
    """The caller asks for more than one caller may; retry later."""

    code = "too_many"
    retry_after: int = 1


class Unavailable(PilothouseError):
    """A server behind a port did not answer or refused; nothing was changed; retry later."""

    code = "backend_unavailable"
    retry_after: int = 1


class OutcomeUnknown(PilothouseError):
    """The write was sent and nobody can say yet whether it happened."""

    code = "outcome_unknown"


class InDoubt(PilothouseError):
    """An answer could be given, and whoever takes it for the whole truth would be misled."""

    code = "in_doubt"
