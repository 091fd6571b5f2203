"""What can be wrong with a flag or a segment, or with what is asked of it."""

from app.errors import Conflict, Unavailable


class FlagsUnavailable(Unavailable):
    code = "flags_unavailable"


class SetMoved(Conflict):
    """Somebody else committed first; nothing was written, and it may be tried again."""

    code = "flag_set_moved"

    def __init__(self, revision: int) -> None:
        super().__init__(f"the flags were changed meanwhile, at revision {revision}")
        self.revision = revision


class KeyTaken(Conflict):
    """A commit under this idempotency key was made meanwhile."""

    code = "idempotency_key_taken"

    def __init__(self) -> None:
        super().__init__("a request under this Idempotency-Key was answered meanwhile")
