"""Errors of the change log."""

from collections.abc import Collection

from app.errors import Invalid, NotFound, Unavailable
from pilothouse_core.names import NAME_GRAMMAR


class IntentNotFound(NotFound):
    code = "write_not_found"

    def __init__(self, intent: str) -> None:
        super().__init__(f"there is no write with the id {intent!r}")


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another request within 24 hours")


class LogUnavailable(Unavailable):
    code = "change_log_unavailable"


class LeadLost(LogUnavailable):
    def __init__(self) -> None:
        super().__init__("another replica may be the leader now")


class EventsUnavailable(Unavailable):
    code = "events_unavailable"


class NotPublished(EventsUnavailable):
    """Some events are not acknowledged. Never leaves the relay."""

    def __init__(self, reason: str, acknowledged: Collection[int]) -> None:
        super().__init__(reason)
        self.acknowledged = acknowledged


class RevisionNotReached(Unavailable):
    code = "revision_not_reached"

    def __init__(self, wanted: int, reached: int) -> None:
        super().__init__(
            f"this replica has not followed revision {wanted} yet", wanted=wanted, reached=reached
        )


class BadFilter(Invalid):
    code = "bad_filter"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:80]!r} is not a valid name of an environment, service or schema: "
            f"{NAME_GRAMMAR}"
        )


class BadKind(Invalid):
    code = "bad_kind"

    def __init__(self, kinds: tuple[str, ...]) -> None:
        super().__init__(f"a kind is one of {', '.join(kinds)}")


class TooManyStreams(Unavailable):
    code = "too_many_streams"
    retry_after = 5

    def __init__(self, streams: int) -> None:
        super().__init__(f"this replica already serves {streams} streams; try another one")


class Gap(Exception):
    """`advance` was given versions that do not continue the log; never leaves the write path."""

    def __init__(self, logged: int) -> None:
        super().__init__(f"the log ends at version {logged}")
        self.logged = logged


class GuardMoved(Exception):
    """A judgement is out of date: follow the log to `revision`, and judge again."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"something that was judged has changed, by revision {revision}")
        self.revision = revision


class RelatedIntentOpen(Exception):
    """A write of a document that was judged is under way: wait, and judge again."""


class ReservationLost(Exception):
    """A reserved intent was not confirmed in time, so that others no longer wait for it."""
