from app.errors import Invalid, NotFound, Unavailable


class IntentNotFound(NotFound):
    code = "write_not_found"

    def __init__(self, intent: str) -> None:
        super().__init__(f"no write has the id {intent!r}")


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another request within 24 hours")


class LogUnavailable(Unavailable):
    code = "change_log_unavailable"


class RevisionNotReached(Unavailable):
    code = "revision_not_reached"

    def __init__(self, wanted: int, reached: int) -> None:
        super().__init__(
            f"this replica has not seen revision {wanted} yet", wanted=wanted, reached=reached
        )


class TooManyStreams(Unavailable):
    code = "too_many_streams"
    retry_after = 5

    def __init__(self, streams: int) -> None:
        super().__init__(f"this replica serves {streams} streams already; try another")


class Gap(Exception):
    """`advance` was given versions that do not continue the log; never leaves the write path."""

    def __init__(self, logged: int) -> None:
        super().__init__(f"the log ends at version {logged}")
        self.logged = logged
