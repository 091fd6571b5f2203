"""What a command ends with: the exit codes, and the failures that lead to them."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from pilothouse.errors import (
    Conflict,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    PilothouseError,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
)

_MOST_FLAWS = 5


class ExitCode(IntEnum):
    """A public contract: a number never gets another meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    OUTCOME_UNKNOWN = 7
    INVALID = 8  # a configuration does not meet a schema
    INCOMPLETE = 9  # all is written but secrets, which a person has to set
    INTERRUPTED = 130
    PIPE_CLOSED = 141


_OF_ERROR: tuple[tuple[type[PilothouseError], ExitCode], ...] = (
    (OutcomeUnknown, ExitCode.OUTCOME_UNKNOWN),
    (Unavailable, ExitCode.UNAVAILABLE),
    (NotFound, ExitCode.NOT_FOUND),
    (Unauthenticated, ExitCode.DENIED),
    (Forbidden, ExitCode.DENIED),
    (Conflict, ExitCode.CONFLICT),
    (PreconditionFailed, ExitCode.CONFLICT),
)
_BUG = 500


class Failure(Exception):
    """A command failed; `problem` is an RFC 9457 document, `detail` its sentence."""

    def __init__(self, problem: Mapping[str, Any], exit_code: ExitCode) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "it failed"))
        self.problem = dict(problem)
        self.exit_code = exit_code

    def of_file(self, name: str) -> "Failure":
        """Return the same failure with the name of the file it concerns."""
        return Failure({**self.problem, "detail": f"{name}: {self}", "file": name}, self.exit_code)

    @property
    def sentence(self) -> str:
        flaws = self.problem.get("errors")
        if not isinstance(flaws, list) or not flaws:
            return str(self)
        texts = [_flaw(flaw) for flaw in flaws[:_MOST_FLAWS] if isinstance(flaw, Mapping)]
        more = [f"and {len(flaws) - len(texts)} more"] if len(flaws) > len(texts) else []
        return f"{self}: {'; '.join([*texts, *more])}"


def _flaw(flaw: Mapping[str, Any]) -> str:
    place = (
        flaw.get("place") or flaw.get("parameter") or flaw.get("pointer") or flaw.get("flag") or ""
    )
    what = flaw.get("detail") or flaw.get("reason") or flaw.get("code") or "is refused"
    return f"{place} {what}".strip()


def of_error(error: PilothouseError) -> Failure:
    """Return the failure of a request: the service's own problem, or one in its shape."""
    problem = {
        "type": f"urn:pilothouse:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        **({} if error.status is None else {"status": error.status}),
        "detail": str(error),
        "code": error.code,
        **error.facts,
    }
    if error.status == _BUG:
        return Failure(problem, ExitCode.FAILED)
    codes = (code for kind, code in _OF_ERROR if isinstance(error, kind))
    return Failure(problem, next(codes, ExitCode.FAILED))


def failure(code: str, detail: str, exit_code: ExitCode, **facts: Any) -> Failure:
    """Return a failure that the command line itself detected."""
    problem = {
        "type": f"urn:pilothouse:cli:{code}",
        "title": code.replace("_", " ").capitalize(),
        "detail": detail,
        "code": code,
        **facts,
    }
    return Failure(problem, exit_code)


def usage(detail: str, **facts: Any) -> Failure:
    return failure("usage", detail, ExitCode.USAGE, **facts)
