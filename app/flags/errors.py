"""What can be wrong with a flag or a segment, or with what is asked of it."""

from collections.abc import Sequence
from typing import Self

from app.errors import Conflict, Invalid, NotFound, PreconditionFailed, Unavailable
from pilothouse_core.definitions import DefinitionError

_FLAWS_SHOWN = 100


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


class FlagNotFound(NotFound):
    code = "flag_not_found"

    def __init__(self, name: str, environment: str) -> None:
        super().__init__(f"{environment} has no flag {name!r}", flag=name, environment=environment)


class SegmentNotFound(NotFound):
    code = "segment_not_found"

    def __init__(self, name: str, environment: str) -> None:
        super().__init__(
            f"{environment} has no segment {name!r}", segment=name, environment=environment
        )


class FlagExists(Conflict):
    code = "flag_exists"

    def __init__(self, kind: str, name: str, environment: str) -> None:
        super().__init__(f"{environment} has a {kind} {name!r} already", name=name)


class FlagInUse(Conflict):
    """Something that is to go is needed by others; nothing was changed."""

    code = "flag_in_use"

    def __init__(self, reason: str, users: Sequence[str]) -> None:
        super().__init__(reason, users=list(users)[:100])


class FlagStale(PreconditionFailed):
    code = "flag_version_mismatch"

    def __init__(self, version: int) -> None:
        super().__init__(f"the current version is {version}", current_version=version)


class FlagContended(Unavailable):
    """Other writers of the environment were faster every time; nothing was changed."""

    code = "flag_set_contended"


class BadDefinition(Invalid):
    """A flag or segment breaks a rule; `flaws` says where."""

    code = "bad_flag"

    def __init__(self, pointer: str, detail: str, code: str, **facts: object) -> None:
        super().__init__(f"{pointer or 'the definition'} {detail}", **facts)
        self.flaws = ({"pointer": f"#{pointer}", "detail": detail, "code": code},)

    @classmethod
    def of(cls, error: DefinitionError) -> Self:
        return cls(error.pointer, error.detail, error.code)


class NotExpressed(Invalid):
    """Something has no equal on the other side; nothing was imported or exported."""

    code = "flags_not_expressed"

    def __init__(self, notes: Sequence[tuple[str, str, str]]) -> None:
        """`notes` are of which flag ("": the whole file), the pointer to its place, and why."""
        super().__init__(
            "not everything can be expressed (see `errors`); a dry run tells all of it, and "
            "`leave_out=true` goes on without the flags that it tells of"
        )
        self.flaws = tuple(
            {
                "pointer": f"#{pointer}",
                "detail": f"{flag}: {reason}" if flag else reason,
                "code": "not_expressed",
            }
            for flag, pointer, reason in notes[:_FLAWS_SHOWN]
        )


class BadEnvironment(Invalid):
    code = "bad_environment"

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} cannot name an environment")
