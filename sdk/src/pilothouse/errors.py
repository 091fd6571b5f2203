"""What can go wrong between a client and the service; `code` is stable and made for programs.

Reads raise none of these errors, because they answer from memory. Failed updates are reported in
`last_error` and in the log.
"""

from collections.abc import Mapping
from typing import Any


class PilothouseError(Exception):
    """`code` is the service's where it gave one; `facts` are the other members of its problem."""

    code = "pilothouse_error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.status = status
        self.facts: Mapping[str, Any] = facts or {}


class Unavailable(PilothouseError):
    """No answer came in time, or the service cannot answer now. Nothing is wrong with the request.

    `retry_after` is in seconds, None where the service did not say.
    """

    code = "unavailable"
    retry_after: float | None = None


class OutcomeUnknown(PilothouseError):
    """A write was sent and its answer was lost: it may or may not have happened."""

    code = "write_outcome_unknown"


class BadAnswer(PilothouseError):
    """What answered is not the service, or says what this client does not understand."""

    code = "bad_answer"


class SchemaNotMet(PilothouseError):
    """A configuration breaks a schema that is enforced, so that it is not used.

    `facts["errors"]` has the place, the keyword and what is expected of each, and no value.
    """

    code = "schema_not_met"


class Refused(PilothouseError):
    """The service understood the request and does not do it."""

    code = "refused"


class Invalid(Refused):
    code = "invalid"


class Unauthenticated(Refused):
    code = "unauthenticated"


class Forbidden(Refused):
    code = "forbidden"


class NotFound(Refused):
    code = "not_found"


class Conflict(Refused):
    code = "conflict"


class PreconditionFailed(Refused):
    code = "precondition_failed"


class SnapshotRefused(PilothouseError):
    """The snapshot on disk is truncated, was tampered with, or is another client's."""

    code = "snapshot_refused"
