"""Failures of the audit."""

from app.errors import Unavailable, Unparsable


class AuditUnavailable(Unavailable):
    code = "audit_unavailable"


class BadTime(Unparsable):
    code = "bad_moment"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is not an RFC 3339 time")
